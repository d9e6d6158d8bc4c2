"""Killed, stopped, locked out, and in company: nothing that got a 202 is lost, and copies are counted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time

import pytest

from tests.faults.oracle import Ledger, all_settled, arrived, duplicates, few_left, final
from tests.support.gateway import ADMIN, FINAL, SECRET, body, merged, running_gateway, smtp, write_config
from tests.support.process import GatewayProcess, serving
from tests.support.smtp_server import SmtpServer

CONNECTIONS = 8
IN_HAND = 4 * CONNECTIONS
"""The slots of a lane: the most that can be in flight in one process."""


def config_in(folder, sink: SmtpServer, *, database: str | None = None, **more):
    nothing = folder / "no-templates"
    nothing.mkdir(exist_ok=True)
    config = {
        "database": database or f"sqlite:///{folder}/gateway.db",
        "bootstrap_key": ADMIN,
        "secret_key": SECRET,
        "templates": {"folder": str(nothing)},
        "server": {"lease_s": 2, "poll_s": 0.1},
        "logging": {"level": "error", "format": "json"},
        "channels": {"email": {"retry": {"first_s": 1, "most_s": 2}}},
        "categories": {"careful": {"on_unknown": "hold"}},
        "providers": {"smtp-1": {"connections": CONNECTIONS}},
    }
    return merged(merged(smtp(sink), config), more)


async def test_what_was_accepted_survives_kill_nine_under_load(tmp_path):
    ledger = Ledger()
    async with SmtpServer() as server:
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, server))
        for _ in range(4):
            async with serving(config) as (process, client):
                load = asyncio.create_task(ledger.load(client, categories=["default", "careful"]))
                await ledger.until_accepted(len(ledger.accepted) + 120)
                process.kill()
                await load
        before = len(server.messages)
        restarted = time.monotonic()
        async with serving(config) as (_, client):
            await server.wait_for_message(count=before + 1)
            assert time.monotonic() - restarted <= 5, "restart to first send"
            await all_settled(client)
            there = arrived(server)
            missing = await final(client, ledger.accepted.keys() - there.keys())
        assert len(ledger.accepted) >= 4 * 120
        assert set(missing.values()) <= {"unknown"}, missing
        assert {ledger.accepted[one] for one in missing} <= {"careful"}, "what may be sent again was sent again"
        assert len(missing) <= 4 * IN_HAND
        assert duplicates(server) <= 4 * IN_HAND
        twice = {one for one, count in there.items() if count > 1}
        assert {ledger.accepted.get(one) for one in twice} <= {"default", None}, "what is held is never sent twice"


async def test_a_gentle_stop_under_load_exits_with_zero_loses_nothing_and_sends_nothing_twice(tmp_path):
    ledger = Ledger()
    async with SmtpServer() as server:
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, server))
        for _ in range(2):
            async with serving(config) as (process, client):
                load = asyncio.create_task(ledger.load(client, categories=["default", "careful"]))
                await ledger.until_accepted(len(ledger.accepted) + 120)
                asked = time.monotonic()
                assert await process.stop() == 0, process.log.read_text()
                assert time.monotonic() - asked <= 5
                load.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await load
        async with serving(config) as (_, client):
            await all_settled(client)
            missing = await final(client, ledger.accepted.keys() - arrived(server).keys())
        assert missing == {}
        assert duplicates(server) == 0


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_two_workers_on_one_database_send_each_delivery_once(tmp_path, kind, request):
    database = None
    if kind == "postgres":
        database = await request.getfixturevalue("postgres").new_database()
    async with SmtpServer() as server:
        config = config_in(tmp_path, server, database=database)
        async with running_gateway(tmp_path, config, work=False, database=database) as gw:
            for part in range(2):
                items = [body(f"user{part}.{number}@example.com", category="careful") for number in range(1000)]
                answer = await gw.client.post("/v1/notifications/batch", json={"notifications": items})
                assert {one["status"] for one in answer.json()["results"]} == {202}
        path = write_config(tmp_path / "worker.toml", config)
        workers = [GatewayProcess(path, "work") for _ in range(2)]
        try:
            await server.wait_for_message(timeout=30, count=2000)
            assert await asyncio.gather(*[worker.stop() for worker in workers]) == [0, 0]
        finally:
            for worker in workers:
                worker.kill()
        assert len(server.messages) == 2000
        assert duplicates(server) == 0
        async with running_gateway(tmp_path, config, work=False, database=database) as gw:
            await all_settled(gw.client)
        by_worker = {mail.connection for mail in server.messages}
        assert len(by_worker) > CONNECTIONS, "both took part"


@pytest.mark.postgres
async def test_a_frozen_worker_that_thaws_sends_nothing_that_somebody_else_has_taken_over(tmp_path, postgres):
    # Not on SQLite: whoever is frozen there in the middle of a write has frozen everybody.
    database = await postgres.new_database()
    async with SmtpServer() as server:
        config = config_in(tmp_path, server, database=database)
        async with running_gateway(tmp_path, config, work=False, database=database) as gw:
            items = [body(f"user{number}@example.com", category="careful") for number in range(1000)]
            answer = await gw.client.post("/v1/notifications/batch", json={"notifications": items})
            accepted = {one["deliveries"][0]["id"] for one in answer.json()["results"]}
        path = write_config(tmp_path / "worker.toml", config)
        workers = [GatewayProcess(path, "work")]
        try:
            await server.wait_for_message(timeout=30, count=50)
            workers[0].process.send_signal(signal.SIGSTOP)
            workers.append(GatewayProcess(path, "work"))
            async with running_gateway(tmp_path, config, work=False, database=database) as gw:
                # The frozen one's leases run out after two seconds. Frozen between two messages of the database's
                # protocol it holds the rows of that statement until it thaws; everything else is taken over.
                await few_left(gw.client, IN_HAND, within_s=12)
                before = await final(gw.client, accepted)
                workers[0].process.send_signal(signal.SIGCONT)
                await all_settled(gw.client)
                assert await asyncio.gather(*[worker.stop() for worker in workers]) == [0, 0]
                after = await final(gw.client, accepted)
        finally:
            for worker in workers:
                worker.kill()
        there = arrived(server)
        missing = accepted - there.keys()
        assert {after[one] for one in missing} <= {"unknown"}
        assert len(missing) <= IN_HAND
        assert duplicates(server) == 0
        settled = {one for one, status in before.items() if status in FINAL}
        assert len(settled) >= len(accepted) - IN_HAND
        assert {one: after[one] for one in settled} == {one: before[one] for one in settled}, "late answers are refused"


async def test_a_database_that_somebody_else_locks_delays_and_loses_nothing(tmp_path):
    ledger = Ledger()
    async with SmtpServer() as server:
        # As in production the lease is much longer than a write waits: what cannot be renewed is lost.
        longer = config_in(tmp_path, server, server={"lease_s": 10, "poll_s": 0.1})
        async with serving(write_config(tmp_path / "gateway.toml", longer)) as (_, client):
            load = asyncio.create_task(ledger.load(client, categories=["default", "careful"]))
            await ledger.until_accepted(50)
            other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None, timeout=10)
            # Within what a write waits for, and beyond what one waits that came while another did.
            for held_s in (1.0, 4.5):
                other.execute("BEGIN IMMEDIATE")
                count = len(ledger.accepted)
                await asyncio.sleep(held_s)
                other.execute("ROLLBACK")
                await ledger.until_accepted(count + 30)
            other.close()
            load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await load
            await all_settled(client)
            missing = await final(client, ledger.accepted.keys() - arrived(server).keys())
        assert missing == {}
        assert duplicates(server) == 0
        assert ledger.refused > 0, "somebody was told to come back"
