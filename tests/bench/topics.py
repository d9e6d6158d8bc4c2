"""People and topics: users stored a second, and how fast a send to a topic becomes deliveries."""

from __future__ import annotations

import http.client
import sqlite3
import statistics
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.bench.bench import Bench
from tests.bench.processes import KEY, BenchFailed, Gateway, GatewayOptions, serving, sinking
from tests.bench.table import Row, Target

_AT_ONCE: Final = 1000
_POLL_S: Final = 0.01
_URGENT_EVERY_S: Final = 0.1
_SECONDS_MOST: Final = 10
"""What a hundred thousand subscribers may take."""

_encode = msgspec.json.Encoder().encode


class Client:
    """One kept connection to a gateway."""

    def __init__(self, port: int) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask; answers the JSON."""
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        self._wire.request(method, path, None if body is None else _encode(body), headers)
        answer = self._wire.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise BenchFailed(f"{method} {path}: {answer.status} {content[:300]!r}")
        return msgspec.json.decode(content)

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()


def fanning_out(bench: Bench) -> list[Row]:
    """Users stored a second; subscribers that become deliveries a second, alone and while they are delivered."""
    counts = (1000, 10_000) if bench.sizes.quick else (1000, 10_000, 100_000)
    alone = {"GATEWAY__CHANNELS__EMAIL__SLOTS": "1"}  # one delivery at a time: next to nothing leaves meanwhile
    with bench.folder("topics") as folder, sinking(folder) as sink:
        with (
            serving(folder, GatewayOptions(sink_port=sink.port, variables=alone)) as gateway,
            asking(gateway) as client,
        ):
            bench.say(f"storing {counts[-1]:,} users")
            rows = [_storing(client, counts)]
            for count in counts:
                bench.say(f"a topic of {count:,}")
                rows.append(_planning(folder, gateway, client, count))
        with bench.gateway(folder, sink.port) as gateway, asking(gateway) as client:
            bench.say(f"a topic of {counts[-1]:,}, delivering meanwhile")
            rows.append(_delivering(folder, gateway, client, counts[-1]))
    return rows


@contextmanager
def asking(gateway: Gateway) -> Generator[Client]:
    with closing(Client(gateway.port)) as client:
        yield client


def _storing(client: Client, counts: tuple[int, ...]) -> Row:
    """Store the most that any topic needs, and subscribe them to topics of every size."""
    took_s = 0.0
    for start in range(0, counts[-1], _AT_ONCE):
        ids = [f"user-{number:06}" for number in range(start, start + _AT_ONCE)]
        users = [{"id": id_, "name": "Ada", "email": f"{id_}@example.com", "locale": "en"} for id_ in ids]
        began = time.perf_counter()
        results = client.ask("POST", "/v1/users/batch", {"users": users})["results"]
        took_s += time.perf_counter() - began
        if {one["status"] for one in results} != {201}:
            raise BenchFailed("not every user was new")
        for count in counts:
            if start < count:
                client.ask("POST", f"/v1/topics/topic-{count}/subscribers", {"users": ids})
    note = (
        f"{counts[-1]:,} new ones with an address each, {_AT_ONCE:,} at a time over one connection, each call on disk"
    )
    return Row(name="users stored", measured=counts[-1] / took_s, unit="/s", notes=(note,))


def _planning(folder: Path, gateway: Gateway, client: Client, count: int) -> Row:
    cpu = gateway.child.cpu_s()
    took_s, id_ = _planned(folder, client, count)
    cpu = gateway.child.cpu_s() - cpu
    client.ask("POST", f"/v1/notifications/{id_}/cancel")
    return Row(
        name=f"topic of {count:,} planned",
        measured=count / took_s,
        unit="/s",
        target=_target(count),
        notes=(
            f"{took_s:.2f} s from the request until all are deliveries; next to nothing leaves meanwhile",
            (
                f"gateway: {cpu / count * 1e6:,.0f} µs of processor time per subscriber; at its most, it held"
                f" {gateway.child.memory_mib('VmHWM'):.0f} MiB"
            ),
        ),
    )


def _delivering(folder: Path, gateway: Gateway, client: Client, count: int) -> Row:
    ended = threading.Event()
    waits_ms: list[float] = []
    urgent = threading.Thread(target=_urgent, args=(gateway.port, ended, waits_ms))
    urgent.start()
    try:
        took_s, id_ = _planned(folder, client, count)
    finally:
        ended.set()
        urgent.join()
    client.ask("POST", f"/v1/notifications/{id_}/cancel")
    return Row(
        name=f"topic of {count:,} planned, delivering",
        measured=count / took_s,
        unit="/s",
        notes=(
            f"{took_s:.2f} s until all are deliveries, the first of which leave meanwhile",
            (
                f"urgent requests meanwhile: {len(waits_ms)}, answered in p50 {statistics.median(waits_ms):.1f} ms,"
                f" slowest {max(waits_ms):.1f} ms"
            ),
        ),
    )


def _planned(folder: Path, client: Client, count: int) -> tuple[float, str]:
    """Send to a topic and wait until everybody is planned; answers the seconds, and the notification."""
    began = time.perf_counter()
    request = {
        "to": {"topic": f"topic-{count}"},
        "priority": "bulk",
        "content": {"title": "News", "body": "There is a new version."},
    }
    id_ = client.ask("POST", "/v1/notifications", request)["id"]
    while _expanding(folder):
        if time.perf_counter() - began > 120:
            raise BenchFailed("not planned after two minutes")
        time.sleep(_POLL_S)
    took_s = time.perf_counter() - began
    counts = client.ask("GET", f"/v1/notifications/{id_}")["counts"]
    if sum(counts.values()) != count:
        raise BenchFailed(f"{counts} instead of {count}")
    return took_s, id_


def _expanding(folder: Path) -> bool:
    """Look into the database: an answer that shows a thousand deliveries would cost more than planning them."""
    with closing(sqlite3.connect(f"file:{folder / 'gateway.db'}?mode=ro", uri=True)) as database:
        return database.execute("SELECT 1 FROM expansions").fetchone() is not None


def _urgent(port: int, ended: threading.Event, waits_ms: list[float]) -> None:
    """Send something urgent now and then."""
    with closing(Client(port)) as client:
        while not ended.wait(_URGENT_EVERY_S) or not waits_ms:
            began = time.perf_counter()
            wanted = {
                "to": {"email": "urgent@example.com"},
                "priority": "critical",
                "content": {"title": "Your code", "body": "123456"},
            }
            client.ask("POST", "/v1/notifications", wanted)
            waits_ms.append((time.perf_counter() - began) * 1000)


def _target(count: int) -> Target | None:
    return Target(of="measured", least=count / _SECONDS_MOST, unit="/s") if count == 100_000 else None
