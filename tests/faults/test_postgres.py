"""PostgreSQL killed, frozen, cut off without a word, taken over by its replica, and changed under the workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.faults.frame import IN_HAND, LONG_ONLY, Faults, until
from tests.faults.oracle import all_settled
from tests.support.postgres import Postgres, running_postgres
from tests.support.process import GatewayProcess, serving
from tests.support.smtp_server import SmtpServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.postgres

PATIENT = {"server": {"lease_s": 10, "poll_s": 0.1}}
REMEMBERS = ("ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET full_page_writes = on", "SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server to be killed, that keeps what it said it kept."""
    with running_postgres() as server:
        yield server


async def test_killed_under_load_and_started_again(own: Postgres, faults: Faults):
    kills = faults.count(short=1, long=8)
    await own.execute(*REMEMBERS)
    async with SmtpServer() as server:
        config = faults.config(server, await own.new_database(), **PATIENT)
        async with serving(config) as (process, client):
            for _ in range(kills):
                async with faults.load(client) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + faults.random.randrange(30, 120))
                    await asyncio.to_thread(own.kill)
                    refused = ledger.refused
                    await until(lambda before=refused: ledger.refused > before)
                    await asyncio.to_thread(own.start)
                    await ledger.until_accepted(len(ledger.accepted) + 30)
            assert process.process.poll() is None
            await all_settled(client, within_s=40)
            await _judge(f"PostgreSQL killed, {kills} times", faults, client, server, faults_of=kills)


async def test_frozen_and_thawed(own: Postgres, faults: Faults):
    frozen_s = faults.count(short=3, long=20)
    async with SmtpServer() as server:
        config = faults.config(server, await own.new_database(), **PATIENT)
        async with serving(config) as (_, client):
            async with faults.load(client) as ledger:
                await ledger.until_accepted(60)
                own.freeze()
                try:
                    await asyncio.sleep(frozen_s)
                finally:
                    own.thaw()
                await ledger.until_accepted(len(ledger.accepted) + 30)
            await all_settled(client, within_s=60)
            await _judge(f"PostgreSQL frozen for {frozen_s} s", faults, client, server)


@LONG_ONLY
async def test_cut_off_without_a_word(own: Postgres, faults: Faults):
    async with SmtpServer() as server, TcpProxy(unix=own.socket) as proxy:
        database = (await own.new_database()).partition("?")[0].rpartition("/")[2]
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"
        async with serving(faults.config(server, url, **PATIENT)) as (_, client):
            async with faults.load(client) as ledger:
                await ledger.until_accepted(60)
                proxy.swallow()
                await asyncio.sleep(faults.random.uniform(1, 4))
                proxy.mend()
                asked = time.monotonic()
                await ledger.until_accepted(len(ledger.accepted) + 30, within_s=40)
                assert time.monotonic() - asked < 30, "nobody waits for ever on a silent connection"
            await all_settled(client, within_s=60)
            await _judge("PostgreSQL cut without RST", faults, client, server)


async def test_failed_over_to_its_replica(faults: Faults):
    with running_postgres() as first:
        name = (await first.new_database()).partition("?")[0].rpartition("/")[2]
        await first.execute(*REMEMBERS)
        with first.replica() as second:
            await first.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
            async with SmtpServer() as server, TcpProxy(unix=first.socket) as one, TcpProxy(unix=second.socket) as two:
                url = f"postgresql://postgres@127.0.0.1:{one.port},127.0.0.1:{two.port}/{name}"
                async with serving(faults.config(server, url, **PATIENT)) as (_, client):
                    async with faults.load(client) as ledger:
                        await ledger.until_accepted(60)
                        # The old primary falls silent: worse than dead, since nothing refuses a connection.
                        one.swallow()
                        await asyncio.to_thread(first.kill)
                        await second.execute(
                            "ALTER SYSTEM SET synchronous_standby_names = ''",
                            "SELECT pg_promote()",
                            "SELECT pg_reload_conf()",
                        )
                        await ledger.until_accepted(len(ledger.accepted) + 30, within_s=60)
                    await all_settled(client, within_s=60)
                    await _judge("failed over to a replica", faults, client, server)
            first.start()


async def test_a_migration_beside_the_workers(faults: Faults):
    """What the next version's migration will do, while this version works: it only ever adds."""
    url = await faults.database("postgres")
    database = url.partition("?")[0].rpartition("/")[2]
    postgres: Postgres = faults.postgres()
    async with SmtpServer() as server:
        config = faults.config(server, url)
        worker = GatewayProcess(config, "work")
        try:
            async with serving(config) as (_, client):
                async with faults.load(client) as ledger:
                    await ledger.until_accepted(60)
                    for table in ("notifications", "deliveries", "queue", "attempts", "events"):
                        await postgres.execute(
                            f"ALTER TABLE {table} ADD COLUMN of_the_next_version text",
                            f"CREATE INDEX CONCURRENTLY ON {table} (of_the_next_version)",
                            database=database,
                        )
                        await ledger.until_accepted(len(ledger.accepted) + 20)
                    migrations = [GatewayProcess(config, "migrate") for _ in range(2)]
                    codes = [await asyncio.to_thread(one.process.wait, 30) for one in migrations]
                    assert codes == [0, 0]
                await all_settled(client)
                assert await worker.stop() == 0
                await faults.judge("migrated under load", "postgres", client, server, bound=0)
        finally:
            worker.kill()


async def _judge(fault: str, faults: Faults, client, server: SmtpServer, *, faults_of: int = 1) -> None:
    """Where the store was away longer than a lease, what was in flight may have gone out and counts as lost."""
    bound = faults_of * IN_HAND
    await faults.judge(fault, "postgres", client, server, bound=bound, may_miss={"unknown": bound})
