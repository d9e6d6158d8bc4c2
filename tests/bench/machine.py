"""What a figure depends on besides the code: the machine, its disk, the versions, the commit, who else is busy."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path


def facts(root: Path, folder: Path) -> list[tuple[str, str]]:
    """List them; `folder` is where the databases will be."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "litestar", "aiosmtplib"))
    return [
        ("commit", commit(root)),
        ("machine", f"{len(os.sched_getaffinity(0))} cores, {_processor()}, {_memory_gib():.1f} GiB"),
        ("python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"),
        ("disk", f"{filesystem(folder)}, write and fsync of 4 KiB: {fsync_ms(folder):.2f} ms (median of 50)"),
        ("load before", _load()),
    ]


def commit(root: Path) -> str:
    """Name the commit, and say whether files were changed since."""
    try:
        short = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git)"
    return f"{short} with {len(changed.splitlines())} uncommitted changes" if changed else short


def filesystem(folder: Path) -> str:
    """Name the type and mount of the filesystem a folder is on."""
    best = ("", "unknown")
    resolved = str(folder.resolve())
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind, *_ = line.split()
        inside = mount in {"/", resolved} or resolved.startswith(f"{mount}/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    return f"{best[1]} at {best[0]}"


def fsync_ms(folder: Path) -> float:
    """Measure what one durable write costs here: a figure near zero is no disk."""
    path = folder / "fsync.probe"
    times: list[float] = []
    block = os.urandom(4096)
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(50):
            start = time.perf_counter()
            os.write(handle, block)
            os.fdatasync(handle)
            times.append(time.perf_counter() - start)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times) * 1000


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _load() -> str:
    one, five, _ = os.getloadavg()
    busy = "  ** others are busy: these figures are too low **" if one > 0.5 else ""
    return f"{one:.2f} (1 min), {five:.2f} (5 min){busy}"
