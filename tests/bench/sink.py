"""An SMTP sink that costs next to nothing per message, so that a bench measures the gateway and not its receiver.

    python -m tests.bench.sink --port 2525        prints `listening 2525`

It advertises PIPELINING, accepts everything, keeps nothing but a count, and with `--record` the arrival time of each
Message-ID (or `X-Bench-Id`, where a message has one). On any connection a line of its own is answered at once:

    XSTAT          250 COUNT FIRST LAST        messages, and the Unix times of the first and the last
    XSEEN          250-ID TIME … 250 COUNT     everything recorded so far, one line each, then forgotten
    XRESET         250 0                       forget the count and the times
    XQUIT          221 and the process ends
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, cast

_GREETING: Final = b"220 sink ESMTP\r\n"
_EHLO: Final = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 104857600\r\n"
_OK: Final = b"250 2.0.0 OK\r\n"
_GO_AHEAD: Final = b"354 go ahead\r\n"
_END: Final = b"\r\n.\r\n"
_ID: Final = re.compile(rb"^X-Bench-Id: *([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(rb"^Message-ID: *<([^>\r\n]+)>", re.IGNORECASE | re.MULTILINE)


class Tally:
    """What arrived, over all connections."""

    def __init__(self, *, record: bool) -> None:
        self.record = record
        self.count = 0
        self.first = 0.0
        self.last = 0.0
        self.seen: list[tuple[str, float]] = []
        self.over = asyncio.Event()

    def add(self, content: bytes) -> None:
        now = time.time()
        if not self.count:
            self.first = now
        self.count += 1
        self.last = now
        if self.record:
            found = _ID.search(content) or _MESSAGE_ID.search(content)
            if found is not None:
                self.seen.append((found[1].decode("ascii", "replace").strip(), now))

    def command(self, word: bytes) -> bytes:
        """Answer one control line."""
        if word == b"XSTAT":
            return f"250 {self.count} {self.first:.6f} {self.last:.6f}\r\n".encode()
        if word == b"XSEEN":
            seen, self.seen = self.seen, []
            return "".join(f"250-{name} {at:.6f}\r\n" for name, at in seen).encode() + f"250 {len(seen)}\r\n".encode()
        if word == b"XRESET":
            self.count, self.first, self.last, self.seen = 0, 0.0, 0.0, []
            return b"250 0\r\n"
        self.over.set()
        return b"221 bye\r\n"


class Sink(asyncio.Protocol):
    """One connection: commands until DATA, then octets until the lone dot."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rest = b""
        self._in_message = False
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass
        self._transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        answers: list[bytes] = []
        data = self._rest + data if self._rest else data
        self._rest = b""
        while data:
            if self._in_message:
                data = self._message(data, answers)
                continue
            line, end, after = data.partition(b"\r\n")
            if not end:
                self._rest = data
                break
            data = after
            self._command(line, answers)
        if answers:
            self._transport.write(b"".join(answers))

    def _message(self, data: bytes, answers: list[bytes]) -> bytes:
        """Look for the end; octets of an unfinished message wait in pieces, its last four together with the next."""
        end = data.find(_END)
        if end < 0:
            self._pieces.append(data[:-4])
            self._rest = data[-4:]
            return b""
        self._pieces.append(data[:end])
        self._tally.add(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        self._pieces = []
        self._in_message = False
        answers.append(_OK)
        return data[end + len(_END) :]

    def _command(self, line: bytes, answers: list[bytes]) -> None:
        word = line[:4].upper()
        if word == b"DATA":
            self._in_message = True
            answers.append(_GO_AHEAD)
        elif word == b"EHLO":
            answers.append(_EHLO)
        elif word == b"QUIT":
            self._transport.write(b"".join(answers) + b"221 2.0.0 bye\r\n")
            self._transport.close()
            answers.clear()
        elif word[:1] == b"X":
            answers.append(self._tally.command(line.strip().upper()))
        else:
            answers.append(_OK)


async def serve(port: int, *, record: bool = False) -> None:
    """Serve on loopback until `XQUIT`."""
    tally = Tally(record=record)
    server = await asyncio.get_running_loop().create_server(lambda: Sink(tally), "127.0.0.1", port, backlog=1024)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await tally.over.wait()
    await asyncio.sleep(0.05)  # lets the goodbye leave
    server.close()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="An SMTP sink for benches.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="keep the arrival time of every Message-ID")
    parser.add_argument("--plain", action="store_true", help="asyncio's own loop instead of uvloop")
    arguments = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=None if arguments.plain else _fast_loop()) as runner:
            runner.run(serve(arguments.port, record=arguments.record))
    except KeyboardInterrupt:
        pass


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra here, as in the gateway
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    main()
