"""The file under SQLite: its fsyncs, its disk, its lock, its damage."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import sqlite3

from tests.faults.frame import IN_HAND, LONG_ONLY, Faults, until
from tests.faults.oracle import all_settled
from tests.faults.tools import read_only, small_disk, strace
from tests.support.process import GatewayProcess, serving
from tests.support.smtp_server import SmtpServer

PATIENT = {"server": {"lease_s": 30, "poll_s": 0.1}}
"""As in production the lease is much longer than the fault: what cannot be renewed is lost."""

DISK_KIB = 40 * 1024
"""The log of writes grows to 16 MiB before it is emptied into the file: on less, the gateway itself fills the disk."""


async def test_killed_at_an_fsync(faults: Faults):
    kills = faults.count(short=1, long=10)
    async with SmtpServer() as server:
        config = faults.config(server, await faults.database("sqlite"))
        async with serving(config):
            pass  # the tables are made
        for _ in range(kills):
            # Each thread counts for itself, and nearly all are the writer's.
            under = strace(f"signal=KILL:when={faults.random.randrange(5, 60)}")
            await _until_it_dies(GatewayProcess(config, "serve", "--port", "0", under=under), faults)
        async with serving(config) as (_, client):
            await all_settled(client)
            bound = kills * IN_HAND
            fault = f"killed at an fsync, {kills} times"
            await faults.judge(fault, "sqlite", client, server, bound=bound, may_miss={"unknown": bound})


async def _until_it_dies(process: GatewayProcess, faults: Faults) -> None:
    try:
        async with process.client() as client, faults.load(client):
            await until(lambda: process.process.poll() is not None)
    except AssertionError:
        assert process.process.poll() == -signal.SIGKILL, "killed before it was ready, if not under load"
    finally:
        process.kill()


async def test_fsyncs_that_fail_refuse_and_lose_nothing(faults: Faults):
    async with SmtpServer() as server:
        config = faults.config(server, await faults.database("sqlite"), **PATIENT)
        async with serving(config):
            pass
        every = faults.random.randrange(4, 9)
        under = strace(f"error=EIO:when=10+{every}")
        async with serving(config, under=under) as (process, client):
            async with faults.load(client) as ledger:
                await ledger.until_accepted(faults.count(short=40, long=400))
                await until(lambda: ledger.refused > 5)
            assert process.process.poll() is None
            await all_settled(client)
            await faults.judge(f"every {every}th fsync fails", "sqlite", client, server, bound=0)


async def test_a_full_disk_that_is_freed(faults: Faults):
    with small_disk(faults.folder / "disk", DISK_KIB) as disk:
        async with SmtpServer() as server:
            config = faults.config(server, f"sqlite:///{disk}/gateway.db", **PATIENT)
            async with serving(config) as (_, client):
                for _ in range(faults.count(short=1, long=3)):
                    async with faults.load(client) as ledger:
                        await ledger.until_accepted(len(ledger.accepted) + 30)
                        _fill(disk / "filler")
                        refused = ledger.refused
                        await until(lambda until=refused + 20: ledger.refused > until)
                        (disk / "filler").unlink()
                        await ledger.until_accepted(len(ledger.accepted) + 30)
                await all_settled(client)
                await faults.judge("disk full, then freed", "sqlite", client, server, bound=0)


def _fill(path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


async def test_a_file_size_limit_that_is_lifted(faults: Faults):
    async with SmtpServer() as server:
        config = faults.config(server, await faults.database("sqlite"), **PATIENT)
        async with serving(config) as (process, client):
            pid = process.process.pid
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            async with faults.load(client) as ledger:
                await ledger.until_accepted(30)
                size = (faults.folder / "gateway.db-wal").stat().st_size
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 50_000, before[1]))
                refused = ledger.refused
                await until(lambda: ledger.refused > refused + 20)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
                await ledger.until_accepted(len(ledger.accepted) + 30)
            await all_settled(client)
            await faults.judge("file-size limit, then lifted", "sqlite", client, server, bound=0)


async def test_a_disk_that_turns_read_only_and_writable_again(faults: Faults):
    path = faults.folder / "gateway.db"
    async with SmtpServer() as server:
        config = faults.config(server, f"sqlite:///{path}", **PATIENT)
        async with serving(config) as (process, client):
            for _ in range(faults.count(short=1, long=3)):
                async with faults.load(client) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + 30)
                    with read_only(process.process.pid, path, path.with_name("gateway.db-wal")):
                        refused = ledger.refused
                        await until(lambda until=refused + 20: ledger.refused > until)
                        assert (await client.get("/v1/notifications")).status_code == 200, "reading goes on"
                    await ledger.until_accepted(len(ledger.accepted) + 30)
            assert process.process.poll() is None
            await all_settled(client)
            await faults.judge("disk read-only, then writable", "sqlite", client, server, bound=0)


async def test_a_database_that_somebody_else_locks_delays_and_loses_nothing(faults: Faults):
    async with SmtpServer() as server:
        longer = {"server": {"lease_s": 10, "poll_s": 0.1}}
        config = faults.config(server, await faults.database("sqlite"), **longer)
        async with serving(config) as (_, client):
            other = sqlite3.connect(faults.folder / "gateway.db", isolation_level=None, timeout=10)
            async with faults.load(client) as ledger:
                await ledger.until_accepted(50)
                # Within what a write waits for, and beyond what one waits that came while another did.
                for held_s in (1.0, 4.5):
                    other.execute("BEGIN IMMEDIATE")
                    count = len(ledger.accepted)
                    await asyncio.sleep(held_s)
                    other.execute("ROLLBACK")
                    await ledger.until_accepted(count + 30)
            other.close()
            await all_settled(client)
            await faults.judge("locked by another process", "sqlite", client, server, bound=0)
            assert faults.ledger.refused > 0, "somebody was told to come back"


@LONG_ONLY
async def test_a_damaged_file_is_refused_with_the_reason_and_its_copy_goes_on(faults: Faults):
    path = faults.folder / "gateway.db"
    async with SmtpServer() as server:
        config = faults.config(server, f"sqlite:///{path}")
        process = GatewayProcess(config, "serve", "--no-work", "--port", "0")
        try:
            async with process.client() as client, faults.load(client) as ledger:
                await ledger.until_accepted(50)
            assert await process.stop() == 0
        finally:
            process.kill()
        copy = faults.folder / "copy.db"
        shutil.copy(path, copy)
        with path.open("r+b") as file:
            file.seek(4096 * faults.random.randrange(2, 8))
            file.write(b"\xff" * 4096)
        refused = GatewayProcess(config, "serve", "--port", "0")
        try:
            assert await asyncio.to_thread(refused.process.wait, 30) == 1
            said = refused.log.read_text()
            assert "gateway.db is damaged" in said, said
            assert "Traceback" not in said
        finally:
            refused.kill()
        assert server.messages == []
        shutil.copy(copy, path)
        async with serving(config) as (_, client):
            await all_settled(client)
            await faults.judge("file damaged, its copy put back", "sqlite", client, server, bound=0)
