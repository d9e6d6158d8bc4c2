"""The architecture's floors hold: imports go down only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_go_down_only():
    found = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_nothing_is_made_and_nothing_opened_by_importing():
    before_and_after = (
        "import sys, threading; import gateway.bootstrap, gateway.cli; "
        "assert threading.active_count() == 1, threading.enumerate(); "
        "assert 'channels.email_smtp' not in sys.modules, 'adapters are imported when they are configured'"
    )
    command = [sys.executable, "-c", before_and_after]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
