"""Several processes of one gateway on one machine: a parent that starts them, replaces what dies and stops them all.

Owns the processes' lives. Refuses to know what they do: it is given a function that is one process's whole life. They
are forked before any thread or event loop exists, so they share the memory of what was imported.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError

_CAUGHT: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_FIRST_S: Final = 1.0
_MOST_S: Final = 30.0
"""How long a process that died is mourned before the next takes its place: doubled each time, so that one which cannot
live does not keep a core busy with dying."""
_STEADY_S: Final = 60.0
"""A process that lived as long as this had started well: its successor comes at once."""


class NotStarted(GatewayError):
    """The gateway cannot start; the message says what to do about it."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What one process is told of its family: its number, the pipe to say it is ready on, the one that ends with us."""

    number: int
    ready: int
    lifeline: int

    def is_ready(self, port: int) -> None:
        """Tell the parent that requests are answered (on `port`, 0 without an API)."""
        os.write(self.ready, f"ready {port}\n".encode())

    def failed(self, message: str) -> None:
        """Tell the parent why this process could not start."""
        os.write(self.ready, f"failed {message}\n".encode())


Life = Callable[[Place], int]
"""One process's whole life, run in the child; answers its exit code. `GatewayError`, `OSError`: it could not start."""


@dataclass(slots=True)
class _Child:
    number: int
    pid: int
    reader: int
    began: float
    ready: bool = False


class Family:
    """Runs `count` processes until a signal. `on_ready` hears once of the port, when the first answers requests."""

    def __init__(self, life: Life, count: int, *, on_ready: Callable[[int], None], log: Any) -> None:
        self._life = life
        self._count = count
        self._on_ready = on_ready
        self._log = log
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._mourned_s: dict[int, float] = {}
        self._stopping = False
        self._asked = 0
        self._announced = False
        self._code = 0
        self._trouble: str | None = None
        self._selector = selectors.DefaultSelector()
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Start them, keep their number, and end when all have ended; answers the exit code.

        Raises `NotStarted` when one of them could not start and none ever had: the configuration is at fault.
        """
        here, there = socket.socketpair()
        here.setblocking(False)  # noqa: FBT003 - the socket API's own signature
        there.setblocking(False)  # noqa: FBT003 - the same
        handlers = {one: signal.signal(one, _noted) for one in _CAUGHT}
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        self._selector.register(here, selectors.EVENT_READ)
        try:
            for number in range(self._count):
                self._start(number)
            while self._children or (self._due and not self._stopping):
                self._round(here)
        finally:
            signal.set_wakeup_fd(before)
            for one, handler in handlers.items():
                signal.signal(one, handler)
            self._selector.close()
            for descriptor in self._lifeline:
                os.close(descriptor)
            here.close()
            there.close()
        if self._trouble is not None:
            raise NotStarted(self._trouble)
        return self._code

    def _round(self, signals: socket.socket) -> None:
        wait_s = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
        for key, _ in self._selector.select(wait_s):
            if key.fileobj is signals:
                for number in signals.recv(4096):
                    if number in (signal.SIGTERM, signal.SIGINT):
                        self._stop(number)
            else:
                self._hear(key.data)
        self._reap()
        now = time.monotonic()
        for number in [one for one, at in self._due.items() if at <= now]:
            del self._due[number]
            if not self._stopping:
                self._start(number)

    def _start(self, number: int) -> None:
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._become(Place(number=number, ready=writer, lifeline=self._lifeline[0]))
        os.close(writer)
        child = _Child(number=number, pid=pid, reader=reader, began=time.monotonic())
        self._children[pid] = child
        self._selector.register(reader, selectors.EVENT_READ, child)

    def _become(self, place: Place) -> None:
        """Be the child: never returns, so that nothing of the parent's life goes on in it."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for one in _CAUGHT:
                signal.signal(one, signal.SIG_DFL)
            os.close(self._lifeline[1])  # only the parent holds it: when it closes, the parent is gone
            for child in self._children.values():
                os.close(child.reader)
            self._selector.close()
            try:
                code = self._life(place)
            except (GatewayError, OSError) as error:
                place.failed(str(error).replace("\n", " "))
        except BaseException as error:  # noqa: BLE001 - the border of a process
            self._log.exception("process_failed", exc_info=error, process=place.number)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _hear(self, child: _Child) -> None:
        heard = os.read(child.reader, 4096).decode(errors="replace")
        for line in heard.splitlines():
            word, _, rest = line.partition(" ")
            if word == "ready":
                child.ready = True
                if not self._announced:
                    self._announced = True
                    self._on_ready(int(rest))
            elif word == "failed" and not self._announced:
                self._trouble = rest
                self._stop(signal.SIGTERM)
            elif word == "failed":
                self._log.error("process_not_started", process=child.number, detail=rest)
        if not heard:
            self._selector.unregister(child.reader)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            child = self._children.pop(pid)
            if child.reader in self._selector.get_map():
                self._hear(child)  # what it said last
            if child.reader in self._selector.get_map():
                self._selector.unregister(child.reader)
            os.close(child.reader)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # One that had not yet come to heed the signal did as it was told, too.
                told = not child.ready and code == -self._asked
                self._code = self._code or (0 if told else abs(code))
            else:
                self._replace(child, code)

    def _replace(self, child: _Child, code: int) -> None:
        lived_s = time.monotonic() - child.began
        before = self._mourned_s.get(child.number, 0.0)
        wait_s = 0.0 if lived_s >= _STEADY_S else min(_MOST_S, max(_FIRST_S, 2 * before))
        self._mourned_s[child.number] = wait_s
        self._due[child.number] = time.monotonic() + wait_s
        self._log.error("process_died", process=child.number, code=code, lived_s=round(lived_s), next_in_s=wait_s)

    def _stop(self, number: int) -> None:
        """Pass the signal on: the first stops each process gently, the second at once."""
        self._stopping = True
        self._asked = number
        for pid in self._children:
            os.kill(pid, number)


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor has the number already. Without a handler the signal would not be caught."""
