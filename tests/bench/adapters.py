"""Row (g): what each adapter sends a second, against a bare loop that posts the same bytes over the same kind of wire.

    python -m tests.bench --only adapters
    python -m tests.bench.adapters chat_slack         profiles one adapter: calls and time a send

The bare loop is plain aiohttp with as many kept connections, and does nothing to the bytes: they were recorded from the
adapter's own request. Adapter and loop take turns, so that a busy neighbour hits both; the best turn of each counts.
"""

from __future__ import annotations

import asyncio
import cProfile
import itertools
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import uvloop

from channels.contract import Accepted, Channel, Message, Tools
from channels.testing_server import HttpServer, Received
from gateway.registry import Registry
from tests.bench.bench import Bench
from tests.bench.processes import BenchFailed, listening
from tests.bench.senders import Case, cases
from tests.bench.table import Row, Target

AT_ONCE: Final = 8
_SET_BY_HTTP: Final = frozenset({"host", "content-length", "connection"})

Send = Callable[[Message], Awaitable[None]]


class Turn(msgspec.Struct, frozen=True):
    """Sends a second, and microseconds of processor time for each."""

    per_s: float
    cpu_us: float


def sending(bench: Bench) -> list[Row]:
    """(g) Sends a second of each REST adapter, and of e-mail over SMTP."""
    count, turns = (300, 2) if bench.sizes.quick else (2000, 4)
    rows: list[Row] = []
    with bench.folder("adapters") as folder, _answering(folder) as (_, port):
        for case in cases():
            bench.say(f"(g) {case.use}")
            try:
                rows.append(uvloop.run(_measured(case, f"http://127.0.0.1:{port}", count, turns)))
            except BenchFailed as fault:  # one adapter that fails costs its own row
                rows.append(Row(name=f"(g) send: {case.use}", target=_target(case), notes=(str(fault),)))
    return rows


def _answering(folder: Path) -> Any:
    replies = {path: reply.octets().decode("latin-1") for case in cases() for path, reply in case.replies.items()}
    (folder / "replies.json").write_text(json.dumps(replies), encoding="ascii")
    return listening("answering", "tests.bench.answering", str(folder / "replies.json"), folder=folder)


async def _measured(case: Case, url: str, count: int, turns: int) -> Row:
    recorded = await _recorded(case)
    channel = _channel(case, url)
    numbers = itertools.count()

    def messages() -> list[Message]:  # none comes twice: what an adapter remembers must not flatter it
        return [case.message(url, next(numbers)) for _ in range(count + AT_ONCE)]

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=("User-Agent", "Accept")) as session:
        adapter, bare = _by_adapter(channel), _by_bare(session, url, recorded)
        ours: list[Turn] = []
        theirs: list[Turn] = []
        try:
            for _ in range(turns):
                theirs.append(await _turn(bare, messages()))
                ours.append(await _turn(adapter, messages()))
        finally:
            await channel.aclose()
    best, baseline = max(ours, key=lambda one: one.per_s), max(theirs, key=lambda one: one.per_s)
    least = (min(one.cpu_us for one in found) for found in (ours, theirs))
    cpu = "µs of processor time a send: {:.0f}, bare {:.0f}".format(*least)
    return Row(
        name=f"(g) send: {case.use}",
        measured=best.per_s,
        baseline=baseline.per_s,
        unit="/s",
        ratio=best.per_s / baseline.per_s,
        target=_target(case),
        notes=(f"{cpu}; {len(recorded.body):,} octets",),
    )


def _target(case: Case) -> Target | None:
    return None if case.target is None else Target(of="ratio", least=case.target)


async def _recorded(case: Case) -> Received:
    """Let the adapter send one message to a server that keeps the request."""
    async with HttpServer(dict(case.replies)) as server:
        channel = _channel(case, server.url)
        try:
            await _by_adapter(channel)(case.message(server.url, 1))
        finally:
            await channel.aclose()
    path = next(iter(case.replies))
    return next(request for request in server.requests if request.path == path)


def _channel(case: Case, url: str) -> Channel:
    tools = Tools(provider="bench", now=time.time, log=lambda *_, **__: None, random=lambda: 0.5)
    adapter = Registry.load().adapter(case.use)
    settings = {**case.settings(url), "connections": AT_ONCE, "proxy": "direct"}
    return adapter(msgspec.convert(settings, adapter.Settings), tools)


def _by_adapter(channel: Channel) -> Send:
    async def send(message: Message) -> None:
        outcome = await channel.send(message)
        if not isinstance(outcome, Accepted):
            raise BenchFailed(f"not accepted: {outcome!r}")

    return send


def _by_bare(session: aiohttp.ClientSession, url: str, recorded: Received) -> Send:
    headers = {name: value for name, value in recorded.headers.items() if name not in _SET_BY_HTTP}
    target = url + recorded.target

    async def send(_: Message) -> None:
        async with session.post(target, data=recorded.body, headers=headers) as answer:
            await answer.read()
            if not answer.ok:
                raise BenchFailed(f"the bare loop was answered {answer.status}")

    return send


async def _turn(send: Send, messages: Sequence[Message]) -> Turn:
    """Send the messages, eight at once; the first eight are not counted."""
    waiting, count = iter(messages), len(messages) - AT_ONCE

    async def one_after_another() -> None:
        for message in waiting:
            await send(message)

    await asyncio.gather(*[send(next(waiting)) for _ in range(AT_ONCE)])  # opens connections, fetches tokens
    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*[one_after_another() for _ in range(AT_ONCE)])
    return Turn(count / (time.perf_counter() - start), (time.process_time() - cpu) / count * 1e6)


def profile(use: str, *, count: int = 1000) -> pstats.Stats:
    """Profile `count` sends of one adapter, one after another."""
    case = next(one for one in cases() if one.use == use)
    watch = cProfile.Profile()

    async def watched(url: str) -> None:
        channel = _channel(case, url)
        first, *messages = [case.message(url, number) for number in range(count + 1)]
        send = _by_adapter(channel)
        await send(first)
        watch.enable()
        for message in messages:
            await send(message)
        watch.disable()
        await channel.aclose()

    with tempfile.TemporaryDirectory() as folder, _answering(Path(folder)) as (_, port):
        asyncio.run(watched(f"http://127.0.0.1:{port}"))
    return pstats.Stats(watch)


def main() -> None:
    """Print where one adapter's time goes."""
    stats = profile(sys.argv[1])
    stats.sort_stats("tottime").print_stats(25)
    stats.sort_stats("cumulative").print_stats(r"channels/|_sdk|twilio|botocore|webpush|http_ece", 30)


if __name__ == "__main__":
    main()
