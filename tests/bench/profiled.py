"""Runs `gateway` and looks, every few milliseconds of processor time, at what its threads are doing.

    python tests/bench/profiled.py cpu FOLDER serve --port 8080

With `wall` in place of `cpu` it looks every few milliseconds of real time: for what is waited for.

`FOLDER/profile.json` holds at the end how often each stack was seen, by thread, and each thread's processor time. The
event loop's stacks are exact: it is the one that is interrupted. The other threads' say where they stood, at work or
waiting. Costs a few per cent; `cProfile` was tried and made the gateway five times slower, and the small calls dearest.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import msgspec

_EVERY_S: Final = 0.002
_CLOCKS_EVERY: Final = 100  # samples
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LOOP: Final = "event loop"
_BUSY: Final = 0.03  # of all processor time: threads below it are not shown
_FOOT: Final = 0.97


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen: for each thread, stacks (outermost first, joined by `;`) and how often; seconds of processor."""

    stacks: dict[str, dict[str, int]]
    cpu_s: dict[str, float]


class Sampler:
    """Counts stacks between `start` and `stop`. For the main thread, which signals interrupt."""

    def __init__(self, *, wall: bool) -> None:
        self._timer = signal.ITIMER_REAL if wall else signal.ITIMER_PROF
        self._seen: collections.Counter[tuple[str, tuple[CodeType, ...]]] = collections.Counter()
        self._cpu_s: dict[str, float] = {}
        self._samples = 0

    def start(self) -> None:
        which = signal.SIGPROF if self._timer == signal.ITIMER_PROF else signal.SIGALRM
        signal.signal(which, self._sample)
        signal.siginterrupt(which, False)
        signal.setitimer(self._timer, _EVERY_S, _EVERY_S)

    def stop(self) -> Profile:
        signal.setitimer(self._timer, 0)
        self._read_clocks()
        stacks: dict[str, dict[str, int]] = collections.defaultdict(dict)
        for (thread, codes), count in self._seen.items():
            stacks[thread][";".join(_name(code) for code in codes)] = count
        return Profile(stacks=stacks, cpu_s=self._cpu_s)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self._samples += 1
        if self._samples % _CLOCKS_EVERY == 0:
            self._read_clocks()
        main = threading.main_thread().ident
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, top in sys._current_frames().items():
            if ident != main:
                self._seen[names.get(ident, "?"), _codes(top)] += 1
        self._seen[_LOOP, _codes(frame)] += 1

    def _read_clocks(self) -> None:
        for thread in threading.enumerate():
            name = _LOOP if thread is threading.main_thread() else thread.name
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="ascii")
                fields = stat.rpartition(")")[2].split()
                self._cpu_s[name] = (int(fields[11]) + int(fields[12])) / _TICKS


def summary(profile: Profile, lines: int = 30) -> Iterable[str]:
    """Write down, for each busy thread, the functions seen most: themselves, and with all they call.

    Imports are left out, since a start is not what is looked for, and so is what stands at the foot of every stack.
    """
    busy = sum(profile.cpu_s.values()) * _BUSY
    for thread, seen in sorted(profile.stacks.items(), key=lambda item: -profile.cpu_s.get(item[0], 0)):
        stacks = {stack: count for stack, count in seen.items() if "importlib" not in stack}
        total = sum(stacks.values())
        if profile.cpu_s.get(thread, 0) < busy or not total:
            continue
        yield ""
        yield f"=== {thread}: {profile.cpu_s.get(thread, 0):.2f} s of processor time, seen {total:,} times ==="
        yield from _list("itself", _itself(stacks), total, lines)
        yield from _list("with what it calls", _with_callees(stacks), total, lines)


def _itself(stacks: Mapping[str, int]) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for stack, count in stacks.items():
        found[stack.rpartition(";")[2]] += count
    return found


def _with_callees(stacks: Mapping[str, int]) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for stack, count in stacks.items():
        for name in set(stack.split(";")):
            found[name] += count
    return found


def _list(title: str, found: collections.Counter[str], total: int, lines: int) -> Iterable[str]:
    yield f"  {title}"
    shown = [(name, count) for name, count in found.most_common() if count < _FOOT * total]
    for name, count in shown[:lines]:
        yield f"  {count / total:6.1%}  {name}"


def _codes(frame: FrameType | None) -> tuple[CodeType, ...]:
    codes: list[CodeType] = []
    while frame is not None:
        codes.append(frame.f_code)
        frame = frame.f_back
    return tuple(reversed(codes))


def _name(code: CodeType) -> str:
    return f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_qualname}"


def main() -> int:
    """Run the command line under the sampler."""
    clock, folder = sys.argv[1], Path(sys.argv[2])
    sys.argv = ["gateway", *sys.argv[3:]]
    from gateway.cli import main as gateway  # noqa: PLC0415 - imports are not what is looked at

    sampler = Sampler(wall=clock == "wall")
    sampler.start()
    code: Any = 0
    try:
        gateway()
    except SystemExit as end:
        code = end.code
    finally:
        profile = sampler.stop()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "profile.json").write_bytes(msgspec.json.encode(profile))
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    sys.exit(main())
