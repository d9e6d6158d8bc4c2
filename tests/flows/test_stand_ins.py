"""`python -m tests.stand_ins`: every adapter is tried without an account, as the shipped example configures it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import httpx
import pytest

from tests.stand_ins import EXAMPLE, ROOT
from tests.support.stand_ins import NoStandIn, StandIns, standing_in

COMMAND = [sys.executable, "-m", "tests.stand_ins"]
NO_REQUEST = {"email_smtp": "SMTP ada@example.com", "dev_log": "message_logged in the gateway's log"}


def test_every_adapter_of_the_example_reaches_its_stand_in(tmp_path: Path):
    done = subprocess.run(
        [*COMMAND, "--send", "--folder", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, table = done.stdout.partition("\nadapter ")
    rows = [line.split(maxsplit=4) for line in table.splitlines()[1:]]
    providers = tomllib.loads(EXAMPLE.read_text())["providers"]
    assert {(adapter, provider) for adapter, provider, *_ in rows} == {
        (section["use"], name) for name, section in providers.items()
    }
    for adapter, provider, _, status, line in rows:
        assert status in {"sent", "delivered"}, (provider, status)
        assert line.startswith(NO_REQUEST.get(adapter, f"POST /{provider}/")), (provider, line)


def test_a_pasted_line_reaches_its_adapter_and_ctrl_c_stops_it_all(tmp_path: Path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = [*COMMAND, "--folder", tmp_path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        overdue = threading.Timer(60, process.kill)  # only a hang gets here; the reads below then end
        overdue.start()
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            [export] = re.findall(r"^export .*", said, re.MULTILINE)
            [pasted] = re.findall(r"^# email by email_brevo alone\n(curl .*)", said, re.MULTILINE)
            subprocess.run(["sh", "-c", f"{export}\n{pasted}"], check=True, capture_output=True)
            arrived = next(line for line in process.stdout if line.startswith("arrived: "))
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            assert process.wait() == 0
        finally:
            overdue.cancel()
            process.kill()
    assert arrived.startswith("arrived: POST /brevo/v3/smtp/email  {")
    assert not list(tmp_path.glob("*.db-wal")), "the gateway was let close its database"
    [url] = re.findall(r"GATEWAY=(\S+)", export)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_an_adapter_that_nothing_stands_in_for_is_named():
    with pytest.raises(NoStandIn, match=r"\[providers.new-one\] uses email_new"):
        StandIns(print).plan({"providers": {"new-one": {"use": "email_new"}}})


async def test_what_no_service_has_is_answered_404_and_shown():
    shown: list[str] = []
    async with standing_in(lambda arrival: shown.append(arrival.line)) as stand_ins, httpx.AsyncClient() as client:
        stand_ins.plan(tomllib.loads(EXAMPLE.read_text()))
        for path, status in {"/resend/emails": 200, "/resend/email": 404, "/emails": 404}.items():
            assert (await client.post(f"{stand_ins.http.url}{path}")).status_code == status, path
    assert shown == [
        "POST /resend/emails",
        "POST /resend/email (404: nothing here)",
        "POST /emails (404: nothing here)",
    ]
