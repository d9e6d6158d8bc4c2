"""Starting what a bench needs, and stopping it again by its id: sink, bare endpoint, load, gateway.

Owns processes, ports and `/proc`. Each process writes its words into a file of its own; a failure shows their end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
KEY: Final = "bench-key-of-more-than-thirty-two-characters"
_STOP_S: Final = 40
_TAIL_LINES: Final = 15
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class BenchFailed(Exception):
    """A measurement cannot be made; the message shows why."""


class Child:
    """A process of ours. `line` reads its standard output, unless that goes into the log too."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        cwd: Path = ROOT,
        piped: bool = True,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        self._rest = b""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self.process.pid

    def line(self, timeout_s: float) -> str:
        """Read the next line of its output."""
        assert self.process.stdout is not None
        handle = self.process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise BenchFailed(f"{self.name} said nothing for {timeout_s:g} s\n{self.tail()}")
            data = os.read(handle, 65_536)
            if not data:
                raise BenchFailed(f"{self.name} ended\n{self.tail()}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def tail(self) -> str:
        """Show the end of what it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def stop(self) -> int:
        """Ask it to stop, insist after a while; answers its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode

    def cpu_s(self) -> float:
        """Tell the processor time that it and its children have used, in user and system mode together."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return sum(_cpu_s(int(pid)) for pid in (self.pid, *children))

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Tell its resident memory now (`VmRSS`) or at its highest (`VmHWM`)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise BenchFailed(f"no {what} for process {self.pid}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def running(name: str, command: Sequence[str], folder: Path) -> Iterator[Child]:
    """Run a process for the time of the context."""
    child = Child(name, command, folder)
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def listening(name: str, module: str, *arguments: str, folder: Path) -> Iterator[tuple[Child, int]]:
    """Run one of our modules that prints `listening PORT`."""
    with running(name, [sys.executable, "-m", module, *arguments], folder) as child:
        word, _, port = child.line(20).partition(" ")
        if word != "listening":
            raise BenchFailed(f"{name} did not say where it listens: {word}")
        yield child, int(port)


class Sink:
    """The counting side of `tests.bench.sink`, over one kept connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._wire = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._lines = self._wire.makefile("rb")
        self._lines.readline()

    def count(self) -> int:
        """Count what has arrived."""
        return int(self._stat()[0])

    def last_at(self) -> float:
        """Tell the Unix time of the latest arrival."""
        return float(self._stat()[2])

    def first_at(self) -> float:
        """Tell the Unix time of the first arrival."""
        return float(self._stat()[1])

    def reset(self) -> None:
        """Forget what has arrived."""
        self._wire.sendall(b"XRESET\r\n")
        self._lines.readline()

    def wait_for(self, count: int, timeout_s: float) -> int:
        """Wait until so many have arrived, or until nothing has come for a while; answers how many did."""
        deadline = time.monotonic() + timeout_s
        while (arrived := self.count()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return arrived

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._wire.close()

    def _stat(self) -> list[bytes]:
        self._wire.sendall(b"XSTAT\r\n")
        return self._lines.readline().split()[1:]


@contextlib.contextmanager
def sinking(folder: Path) -> Iterator[Sink]:
    """Run a sink."""
    with listening("sink", "tests.bench.sink", folder=folder) as (_, port):
        sink = Sink(port)
        try:
            yield sink
        finally:
            sink.close()


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a gateway for a bench differs from the next one.

    `profile` is where its profile goes, of real time with `wall`; `variables` are laid over the configuration, by their
    names in the environment. `database` is a URL, by default of a file in its folder; `arguments` follow `serve`.
    """

    sink_port: int
    connections: int = 8
    profile: Path | None = None
    wall: bool = False
    variables: Mapping[str, str] = MappingProxyType({})
    database: str | None = None
    arguments: tuple[str, ...] = ()


class Gateway:
    """A gateway that answers; `started_s` is what that took from its start."""

    def __init__(self, child: Child, port: int, started_s: float) -> None:
        self.child = child
        self.port = port
        self.started_s = started_s


@contextlib.contextmanager
def serving(folder: Path, options: GatewayOptions) -> Iterator[Gateway]:
    """Run `gateway serve` on the database in `folder`; whatever is there already stays and is used."""
    (folder / "gateway.toml").write_text(_configuration(folder, options), encoding="utf-8")
    port = free_port()
    start = time.monotonic()
    variables = {"GATEWAY_CONFIG": str(folder / "gateway.toml"), **options.variables}
    command = [*_program(options), "serve", "--port", str(port), *options.arguments]
    child = Child("gateway", command, folder, cwd=folder, piped=False, variables=variables)
    try:
        _wait_until_ready(child, port)
        yield Gateway(child, port, time.monotonic() - start)
        code = child.stop()
        if code != 0:
            raise BenchFailed(f"the gateway ended with exit code {code}\n{child.tail()}")
    finally:
        child.stop()


@contextlib.contextmanager
def working(folder: Path, *arguments: str) -> Iterator[Child]:
    """Run `gateway work` as the gateway in `folder` is configured."""
    variables = {"GATEWAY_CONFIG": str(folder / "gateway.toml")}
    command = [str(Path(sys.executable).with_name("gateway")), "work", *arguments]
    child = Child("worker", command, folder, cwd=folder, piped=False, variables=variables)
    try:
        yield child
    finally:
        child.stop()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _program(options: GatewayOptions) -> list[str]:
    if options.profile is None:
        return [str(Path(sys.executable).with_name("gateway"))]
    return [
        sys.executable,
        str(ROOT / "tests/bench/profiled.py"),
        "wall" if options.wall else "cpu",
        str(options.profile),
    ]


def _wait_until_ready(child: Child, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if child.process.poll() is not None:
            raise BenchFailed(f"the gateway ended at its start\n{child.tail()}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5).close()
            return
        time.sleep(0.01)
    raise BenchFailed(f"the gateway is not ready after a minute\n{child.tail()}")


def _configuration(folder: Path, options: GatewayOptions) -> str:
    shared = "" if options.database is None else f'secret_key = "{KEY}"'
    return f"""\
environment = "production"
{shared}
database = "{options.database or f"sqlite:///{folder}/gateway.db"}"
bootstrap_key = "{KEY}"

[providers.sink]
use = "email_smtp"
host = "127.0.0.1"
port = {options.sink_port}
security = "none"
connections = {options.connections}

[channels.email]
providers = ["sink"]
sender = "Shop <no-reply@example.com>"

[limits]
live = "1000000/s"

[logging]
level = "warning"
"""
