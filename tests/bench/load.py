"""A light source of load: kept connections, prebuilt bytes, one request at a time on each.

    python -m tests.bench.load --port 8080 --connections 64 --seconds 5
    python -m tests.bench.load --port 8080 --connections 4 --count 20 --batch 1000 --send-at 2099-01-01T00:00:00Z

Prints `closed` the moment its window ends, then one line of JSON (`Report`) when the last answer is in. Every request
has a recipient and a text of its own (`--same-content`: only the recipient), numbered from `--first`. `--people N`
goes round N recipients; with `--to user` they are stored people, `person00000000` and on.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, cast

import msgspec
import uvloop

from tests.bench.processes import KEY

_PATIENCE_S: Final = 60.0  # for the answers that are still out when the window ends


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. `in_window` counts answers within the window, `accepted` all of them; times by the Unix clock."""

    accepted: int
    in_window: int
    refused: int
    first_refusal: str | None
    began_at: float
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return self.in_window / self.seconds


class Load:
    """Hands out requests until the window closes, and counts the answers."""

    def __init__(self, requests: Iterator[bytes], seconds: float | None) -> None:
        self._requests = requests
        self._seconds = seconds
        self.began = 0.0
        self.ended = 0.0
        self.accepted = self.in_window = self.refused = self.open = 0
        self.first_refusal: str | None = None
        self.took = array("d")
        self.idle = asyncio.Event()

    def start(self) -> None:
        self.began = time.perf_counter()

    def next(self) -> bytes | None:
        """Give the next request, or `None` when the window is closed."""
        now = time.perf_counter()
        over = self._seconds is not None and now - self.began >= self._seconds
        request = None if over else next(self._requests, None)
        if request is None:
            if over:
                self.close(now)
            return None
        self.open += 1
        return request

    def close(self, now: float) -> None:
        """End the window, once."""
        if not self.ended:
            self.ended = now
            print("closed", flush=True)

    def answered(self, began: float, status: bytes, answer: bytes) -> None:
        now = time.perf_counter()
        self.open -= 1
        if status == b"202":
            self.accepted += 1
            self.in_window += not self.ended
            self.took.append(now - began)
        else:
            self.refused += 1
            self.first_refusal = self.first_refusal or f"{status.decode()} {answer[:400].decode('utf-8', 'replace')}"

    def lost(self) -> None:
        self.open -= 1
        self.refused += 1
        self.first_refusal = self.first_refusal or "the connection was closed before an answer"


class Connection(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, load: Load, over: Callable[[], None]) -> None:
        self._load = load
        self._over = over
        self._waiting = False
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0
        self._status = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def go_on(self) -> None:
        request = self._load.next()
        if request is None:
            self._transport.close()
            return
        self._waiting = True
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._have += len(data)
        if not self._need:
            self._head()
        if self._need and self._have >= self._need:
            answer = b"" if self._status == b"202" else b"".join(self._pieces)
            self._pieces, self._have, self._need, self._waiting = [], 0, 0, False
            self._load.answered(self._began, self._status, answer.partition(b"\r\n\r\n")[2])
            self.go_on()

    def _head(self) -> None:
        """Find where the answer ends; it must say so."""
        whole = b"".join(self._pieces)
        end = whole.find(b"\r\n\r\n")
        if end < 0:
            return
        _, found, rest = whole[: end + 2].lower().partition(b"\r\ncontent-length:")
        assert found, whole[:end]
        self._status = whole[9:12]
        self._need = end + 4 + int(rest.partition(b"\r\n")[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            self._load.lost()
        self._over()


def single(
    path: str, first: int, *, same: bool, people: int | None = None, to: Literal["email", "user"] = "email"
) -> Iterator[bytes]:
    """Make requests without end."""
    before, after = _item(same=same, to=to)
    head = _head(path, len(before % _numbers(0, same=same)) + len(after))
    template = head + before
    number = first
    while True:
        yield template % _numbers(number, same=same, people=people) + after
        number += 1


def batches(path: str, first: int, size: int, count: int, send_at: str | None, *, same: bool) -> list[bytes]:
    """Make `count` requests of `size` notifications each."""
    before, after = _item(same=same, send_at=send_at)
    made: list[bytes] = []
    for start in range(first, first + size * count, size):
        items = b",".join(before % _numbers(number, same=same) + after for number in range(start, start + size))
        body = b'{"notifications":[' + items + b"]}"
        made.append(_head(path, len(body)) + body)
    return made


def _item(*, same: bool, send_at: str | None = None, to: Literal["email", "user"] = "email") -> tuple[bytes, bytes]:
    recipient = b'"user":"person%08d"' if to == "user" else b'"email":"person%08d@example.com"'
    order = b"1842" if same else b"%08d"
    before = (
        b'{"to":{' + recipient + b'},"content":{"title":"Your order ' + order + b' is on its way",'
        b'"body":"Hello **Ada**,\\n\\nyour order ' + order + b' has left our warehouse and should arrive tomorrow.",'
        b'"actions":[{"label":"Follow it","url":"https://shop.example.com/orders/' + order + b'"}]}'
    )
    return before, b"}" if send_at is None else b',"send_at":"' + send_at.encode() + b'"}'


def _numbers(number: int, *, same: bool, people: int | None = None) -> int | tuple[int, ...]:
    person = number % people if people else number
    return person if same else (person, number, number, number)


def _head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def drive(load: Load, port: int, connections: int) -> Report:
    """Run a load to its end."""
    loop = asyncio.get_running_loop()
    left = connections
    over = asyncio.Event()

    def one_over() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            over.set()

    made = [
        (await loop.create_connection(lambda: Connection(load, one_over), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    cpu_before = _cpu_s()
    began_at = time.time()
    load.start()
    for connection in made:
        connection.go_on()
    async with asyncio.timeout(600):
        await over.wait()
    load.close(time.perf_counter())
    ordered = sorted(load.took) or [0.0]
    return Report(
        accepted=load.accepted,
        in_window=load.in_window,
        refused=load.refused,
        first_refusal=load.first_refusal,
        began_at=began_at,
        seconds=load.ended - load.began,
        cpu_s=_cpu_s() - cpu_before,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _limited(requests: Iterator[bytes], count: int | None) -> Iterator[bytes]:
    return requests if count is None else (request for request, _ in zip(requests, range(count), strict=False))


def main(arguments: Any = None) -> None:
    """Run one load and print its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--count", type=int, help="requests in all")
    parser.add_argument("--batch", type=int, help="notifications in each request")
    parser.add_argument("--send-at")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--people", type=int, help="how many different recipients")
    parser.add_argument("--to", choices=("email", "user"), default="email")
    parser.add_argument("--same-content", action="store_true")
    given = parser.parse_args(arguments)
    if given.batch:
        path = given.path or "/v1/notifications/batch"
        made = batches(path, given.first, given.batch, given.count, given.send_at, same=given.same_content)
        requests = iter(made)
    else:
        path = given.path or "/v1/notifications"
        requests = single(path, given.first, same=given.same_content, people=given.people, to=given.to)
        requests = _limited(requests, given.count)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(drive(Load(requests, given.seconds), given.port, given.connections))
    print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    main()
