"""The gateway as somebody without rights, who can write nowhere but into its state folder; and who can read that."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.attacks.conftest import a_send
from tests.support.gateway import write_config
from tests.support.process import COMMAND

NOBODY = 65_534
SANDBOX = r"""
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
for place in /tmp /var /root /home /dev/shm; do
  if [ -d "$place" ]; then mount --bind "$place" "$place"; mount -o remount,bind,ro "$place"; fi
done
mount --bind "$STATE" "$STATE"
mount -o remount,bind,rw "$STATE"
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder that nobody owns, outside pytest's own, which only its maker may enter."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-state-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def _unprivileged(state: Path) -> list[str]:
    """Find the way to become nobody here, with everything but `state` read-only where the machine allows that."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("left out: becoming another user needs root and setpriv")
    if not os.access(COMMAND, os.X_OK) or not _nobody_may_read(COMMAND):
        pytest.skip("left out: another user may not enter the folder of this checkout")
    sealed = ["unshare", "--mount", "sh", "-c", SANDBOX, "sh"]
    # Sealed is where the state folder can be written to and the place beside it cannot.
    asks = ["sh", "-c", 'touch "$STATE/x" && rm "$STATE/x" && ! touch /tmp/x 2>/dev/null']
    tried = subprocess.run([*sealed, *asks], env=_environ(state), capture_output=True, check=False)
    if tried.returncode == 0:
        return sealed
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]


def _nobody_may_read(file: Path) -> bool:
    python = Path(sys.executable).resolve()
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    tried = subprocess.run(
        [*words, python, "-c", "import sys; open(sys.argv[1])", file], capture_output=True, check=False
    )
    return tried.returncode == 0


def _environ(state: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "STATE": str(state), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}


def test_it_serves_and_sends_as_nobody_on_a_read_only_machine(state: Path):
    words = _unprivileged(state)
    config = write_config(state / "gateway.toml", {"database": f"sqlite:///{state}/kept/gateway.db"})
    config.chmod(0o644)
    log = state.with_suffix(".log")
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*words, COMMAND, "serve", "--port", "0", "--config", config],
            cwd="/",
            env=_environ(state),
            stdout=said,
            stderr=said,
        )
    try:
        url, key = _told(process, log, state)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            sent = client.post("/v1/notifications", json=a_send(reference="nobody"))
            assert sent.status_code == 202, sent.text
            query = {"reference": "nobody", "timeout_s": 20}
            assert client.get("/v1/captured/wait", params=query).status_code == 200
        running = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in running
        assert "NoNewPrivs:\t1" in running
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
        told = log.read_text()
        log.unlink()
    assert "Traceback" not in told
    # What it keeps is its own: no other user of the machine may read an address, a body or a key.
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [state / "kept", *(state / "kept").iterdir()]}
    assert modes.pop("kept") == 0o700
    assert "gateway.db" in modes
    assert len(modes) >= 3, modes
    assert set(modes.values()) == {0o600}, modes


def _told(process: subprocess.Popen[bytes], log: Path, state: Path) -> tuple[str, str]:
    """Wait for what the banner tells: where it listens, and the key it made."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        found = [word.rstrip("/.,") for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        if found and (state / "kept" / "development.key").exists():
            base = "/".join(found[0].split("/")[:3])
            return base, (state / "kept" / "development.key").read_text().strip()
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_whatever_the_umask_nobody_else_reads_what_is_kept(tmp_path: Path):
    folder = tmp_path / "kept"
    config = write_config(tmp_path / "gateway.toml", {"database": f"sqlite:///{folder}/gateway.db"})
    for umask in (0o000, 0o022):
        shutil.rmtree(folder, ignore_errors=True)
        words = ["sh", "-c", f'umask {umask:04o}; "$@"', "sh", str(COMMAND)]
        words += ["keys", "create", "--name", "x", "--scope", "send", "--config", str(config)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
