"""One command that measures the gateway and prints one table: `make bench`, or `python -m tests.bench --quick`."""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.bench import FULL, QUICK, Bench
from tests.bench.machine import facts
from tests.bench.processes import ROOT
from tests.bench.profiled import Profile, summary
from tests.bench.table import Row, all_met, render

ROWS: Final = {
    "accept": "rows:accepting",
    "deliver": "rows:delivering",
    "batch": "rows:batching",
    "latency": "rows:latency",
    "memory": "waiting:memory",  # before `claim`, which makes what waits due
    "claim": "waiting:claiming",
    "growth": "growth:growing",
    "topics": "topics:fanning_out",
    "preferences": "choices:choosing",
    "workers": "workers:emptying",
    "adapters": "adapters:sending",
    "compose": "parts:composing",
    "render": "parts:rendering",
    "store": "parts:storing",
    "api": "parts:handling",
}
"""Where each row is measured. Imported one by one: a part that is broken costs its own row and no other."""
_ASKED_FOR: Final = frozenset({"growth"})
"""Measured only where `--only` names them: filling the databases alone takes minutes."""
_PROFILED: Final = ("accept", "deliver", "batch", "latency", "memory", "preferences")


def main() -> int:
    """Measure and print; answers the exit code."""
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that no process and no folder stays behind
    start = time.monotonic()
    home = ROOT / "var"
    there = home.exists()
    home.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))
    profile = Path(tempfile.mkdtemp(prefix="gateway-profile-")) if given.profile else None
    try:
        header = facts(ROOT, folder)
        bench = Bench(
            sizes=QUICK if given.quick else FULL,
            folder=folder,
            connections=given.connections,
            same_content=given.same_content,
            profile=profile,
            wall=given.wall,
            variables=dict(_variable(one) for one in given.set),
        )
        rows = [row for name in _chosen(given) for row in _measure(name, bench)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not there and not any(home.iterdir()):
            home.rmdir()
    kind = "quick: smaller numbers, rougher figures" if given.quick else "full"
    content = "the same for all" if given.same_content else "one of its own for every mail"
    took_s = time.monotonic() - start
    header += [("run", "; ".join([kind, f"content {content}", f"{took_s:.0f} s", *given.set]))]
    rows.sort(key=lambda row: row.name[:3] if row.name.startswith("(") else "~")
    print(render(rows, header))
    if profile is not None:
        _show(profile)
    return 1 if given.strict and not all_met(rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, less than a minute")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--only", help=f"some rows, by name, with commas between: {','.join(ROWS)}")
    parser.add_argument("--connections", type=int, default=8, help="SMTP connections (default 8)")
    parser.add_argument("--same-content", action="store_true", help="one text for all mails: rendering is remembered")
    parser.add_argument("--profile", choices=_PROFILED, help="measure one row with a profiler in the gateway")
    parser.add_argument("--wall", action="store_true", help="profile real time: what is waited for")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as channels.email.slots=64"
    )
    given = parser.parse_args()
    wrong = sorted(set((given.only or "").split(",")) - {*ROWS, ""})
    if wrong:
        parser.error(f"no such row: {', '.join(wrong)} (there are {', '.join(ROWS)})")
    return given


def _variable(setting: str) -> tuple[str, str]:
    """Turn `channels.email.slots=64` into the variable that says so."""
    key, _, value = setting.partition("=")
    return "GATEWAY__" + key.upper().replace(".", "__").replace("-", "_"), value


def _chosen(given: argparse.Namespace) -> Sequence[str]:
    if given.profile:
        return [given.profile]
    wanted = given.only.split(",") if given.only else ROWS.keys() - _ASKED_FOR
    return [name for name in ROWS if name in wanted]


def _measure(name: str, bench: Bench) -> list[Row]:
    module, _, function = ROWS[name].partition(":")
    try:
        return getattr(importlib.import_module(f"tests.bench.{module}"), function)(bench)
    except Exception as fault:  # noqa: BLE001 - one row that fails must not hide the others
        traceback.print_exc(file=sys.stderr)
        return [Row(name=name, notes=tuple(f"{type(fault).__name__}: {fault}".splitlines()))]


def _show(folder: Path) -> None:
    """Print what the profiler saw."""
    path = folder / "profile.json"
    if path.exists():
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
        print("\n".join(summary(profile)))
        print(f"\nall stacks: {path}")


if __name__ == "__main__":
    sys.exit(main())
