"""Tools of the system that some faults need: installed where that is allowed, else left out visibly."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.faults.frame import LONG


@lru_cache
def _install(package: str) -> None:
    """Install a package of the system; only the long form does, and only as root where there is apt."""
    if not LONG or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    command = ["apt-get", "install", "-y", "-qq", package]
    for attempt in (command, ["apt-get", "update", "-qq"], command):
        if (
            subprocess.run(attempt, capture_output=True, check=False, timeout=180).returncode == 0
            and attempt is command
        ):
            return


def _insist_on_strace() -> None:
    """Skip the test where there is no strace, or none that may trace."""
    if shutil.which("strace") is None:
        _install("strace")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")


def strace(*inject: str) -> list[str]:
    """Make the command under which system calls fail as asked."""
    _insist_on_strace()
    calls = "fsync,fdatasync"
    # -D: the gateway keeps the process id, and whoever kills that kills the gateway and not its observer.
    return ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *_each(inject)]


@contextlib.contextmanager
def read_only(pid: int, *files: Path) -> Iterator[None]:
    """Let a running process write no more to some files, as after a disk turned read-only under its open files.

    It begins a moment after the context does.
    """
    _insist_on_strace()
    if os.geteuid() != 0:
        pytest.skip("a process that runs already can be traced by root only")
    calls = "pwrite64,ftruncate,fsync,fdatasync"
    which = [word for file in files for word in ("-P", str(file))]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), *which]
    tracer = subprocess.Popen([*command, "-e", f"trace={calls}", "-e", f"inject={calls}:error=EROFS"])
    try:
        yield
    finally:
        tracer.terminate()  # lets the process go
        tracer.wait()


def _each(inject: tuple[str, ...]) -> Iterator[str]:
    for one in inject:
        yield from ("-e", f"inject=fsync,fdatasync:{one}")


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """Mount a disk of that size in memory; skips the test where that is not allowed."""
    folder.mkdir()
    options = f"size={size_kib}k,mode=0700"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
