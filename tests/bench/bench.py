"""What every row needs: sizes, folders, the load, the baselines."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.fill import multiply, waiting
from tests.bench.load import Report
from tests.bench.processes import (
    BenchFailed,
    Child,
    Gateway,
    GatewayOptions,
    Sink,
    listening,
    running,
    serving,
    sinking,
)

FAR: Final = "2099-01-01T00:00:00Z"
"""When scheduled notifications of a bench would be due."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    warm_up_s: float
    load_s: float
    bare_s: float
    mails: int
    wire_mails: int
    batches: int
    latency_mails: int
    latency_pause_s: float
    claims: int
    few_waiting: int
    many_waiting: int
    idle_s: float
    quick: bool


FULL = Sizes(
    warm_up_s=2,
    load_s=10,
    bare_s=4,
    mails=20_000,
    wire_mails=10_000,
    batches=40,
    latency_mails=400,
    latency_pause_s=0.03,
    claims=300,
    few_waiting=1000,
    many_waiting=1_000_000,
    idle_s=5,
    quick=False,
)
QUICK = Sizes(
    warm_up_s=0.5,
    load_s=3,
    bare_s=1.5,
    mails=4000,
    wire_mails=3000,
    batches=10,
    latency_mails=60,
    latency_pause_s=0.02,
    claims=100,
    few_waiting=1000,
    many_waiting=100_000,
    idle_s=2,
    quick=True,
)


class Bench:
    """One run. Folders it makes are gone at its end."""

    def __init__(
        self,
        *,
        sizes: Sizes,
        folder: Path,
        connections: int,
        same_content: bool,
        profile: Path | None,
        wall: bool,
        variables: Mapping[str, str],
    ) -> None:
        self.sizes = sizes
        self.connections = connections
        self._folder = folder
        self._same_content = same_content
        self._profile = profile
        self._wall = wall
        self._variables = variables
        self._filled: dict[int, tuple[Path, str]] = {}
        self._first = 0

    def say(self, text: str) -> None:
        """Tell a waiting person what goes on."""
        print(f"… {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Make a folder for the time of the context."""
        made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextlib.contextmanager
    def gateway(
        self, folder: Path, sink_port: int, *, connections: int | None = None, arguments: tuple[str, ...] = ()
    ) -> Iterator[Gateway]:
        """Run a gateway on the database in `folder`; `arguments` follow `serve`."""
        chosen = connections or self.connections
        options = GatewayOptions(
            sink_port=sink_port,
            connections=chosen,
            profile=self._profile,
            wall=self._wall,
            variables=self._variables,
            arguments=arguments,
        )
        with serving(folder, options) as gateway:
            yield gateway

    @contextlib.contextmanager
    def pair(
        self, name: str, *, connections: int | None = None, arguments: tuple[str, ...] = ()
    ) -> Iterator[tuple[Path, Sink, Gateway]]:
        """Run a sink and a gateway on a new database."""
        with (
            self.folder(name) as folder,
            sinking(folder) as sink,
            self.gateway(folder, sink.port, connections=connections, arguments=arguments) as gateway,
        ):
            yield folder, sink, gateway

    @contextlib.contextmanager
    def load(self, folder: Path, port: int, *arguments: str, notifications: int = 0) -> Iterator[Child]:
        """Start the load; `report_of` waits for its end. `notifications` is how many it may send at most."""
        command = [sys.executable, "-m", "tests.bench.load", "--port", str(port), "--first", str(self._first)]
        self._first += notifications or 1_000_000
        if self._same_content:
            command.append("--same-content")
        with running("load", [*command, *arguments], folder) as child:
            yield child

    def loaded(self, folder: Path, port: int, *arguments: str, notifications: int = 0) -> Report:
        """Run the load to its end."""
        with self.load(folder, port, *arguments, notifications=notifications) as child:
            wait_until_closed(child)
            return report_of(child)

    def filled(self, count: int) -> tuple[Path, str]:
        """Give a folder whose database has `count` waiting for a far day, made once a run; and a word about it."""
        if count not in self._filled:
            folder = Path(tempfile.mkdtemp(prefix="filled-", dir=self._folder))
            self._filled[count] = folder, self._fill(folder, count)
        return self._filled[count]

    def _fill(self, folder: Path, count: int) -> str:
        """Let a gateway accept a thousand, then copy them; says how large the file became."""
        self.say(f"a database with {count:,} waiting")
        with sinking(folder) as sink, self.gateway(folder, sink.port) as gateway:
            asked = ("--count", "1", "--batch", "1000", "--connections", "1", "--send-at", FAR)
            check(self.loaded(folder, gateway.port, *asked, notifications=1000))
        path = folder / "gateway.db"
        took_s = multiply(path, count)
        found, _ = waiting(path)
        if found != count:
            raise BenchFailed(f"{found} wait instead of {count}")
        return f"the file has {path.stat().st_size / 2**20:,.0f} MiB, filled in {took_s:.0f} s"

    def warm_up(self, folder: Path, gateway: Gateway, sink: Sink) -> None:
        """Send for a moment, wait until all of it has arrived, and forget it."""
        report = self.loaded(folder, gateway.port, "--seconds", str(self.sizes.warm_up_s))
        check(report)
        sink.wait_for(report.accepted, 120)
        sink.reset()

    def bare(self) -> tuple[Report, Report, Report]:
        """Measure bare endpoints with the same load: looking at nothing, decoding the body, taking it as our type."""
        with (
            self.folder("bare") as folder,
            listening("bare", "tests.bench.bare", folder=folder) as (_, port),
        ):
            first, second, third = (self._bare(folder, port, path) for path in ("/bare", "/read", "/typed"))
            return first, second, third

    def _bare(self, folder: Path, port: int, path: str) -> Report:
        self.loaded(folder, port, "--path", path, "--seconds", "0.5")
        report = self.loaded(folder, port, "--path", path, "--seconds", str(self.sizes.bare_s))
        check(report)
        return report

    def wire(self, folder: Path, sink: Sink, *, connections: int, size: int) -> float:
        """Measure the bare SMTP loop, in mails a second."""
        command = [sys.executable, "-m", "tests.bench.wire", "--port", str(sink.port), "--size", str(size)]
        command += ["--connections", str(connections), "--count", str(self.sizes.wire_mails)]
        with running("wire", command, folder) as child:
            rate = float(child.line(120))
        sink.reset()
        return rate


def wait_until_closed(child: Child) -> None:
    """Wait until a load's window ends."""
    if child.line(600) != "closed":
        raise BenchFailed(f"the load failed\n{child.tail()}")


def report_of(child: Child) -> Report:
    """Wait for the report of a load whose window is closed."""
    return msgspec.json.decode(child.line(120), type=Report)


def check(report: Report) -> None:
    """Refuse a run in which anything was refused: its figures mean something else."""
    if report.refused:
        raise BenchFailed(f"{report.refused} of {report.refused + report.accepted} refused: {report.first_refusal}")
