"""`gateway serve` as a new user meets it, in a process of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.cli.banner import banner, reachable_url
from gateway.config.settings import Environment, Secret, Settings, StagingSettings
from tests.support.gateway import ADMIN
from tests.support.process import serving

GATEWAY = Path(sys.executable).with_name("gateway")
CONFIGURED = Settings(bootstrap_key=Secret("k" * 40), database=Secret("postgresql://u:hunter2@db.example.com/g"))


def test_a_fresh_gateway_says_where_it_is_and_its_key_works_and_it_stops_cleanly(tmp_path: Path) -> None:
    command = [GATEWAY, "serve", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        overdue = threading.Timer(60, process.kill)  # only a hang gets here; the reads below then end
        overdue.start()
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "/v1/captured" in line:
                    break
            said = "".join(lines)
            [port] = re.findall(r"listening on  http://127\.0\.0\.1:(\d+)$", said, re.MULTILINE)
            [bearer] = set(re.findall(r"'(Authorization: Bearer ntfg_live_\w+)'", said))
            assert (tmp_path / "var" / "development.key").read_text().strip() in bearer

            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
            connection.request("GET", "/v1/captured", headers=dict([bearer.split(": ", maxsplit=1)]))
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate()
        finally:
            overdue.cancel()
            process.kill()
    assert process.returncode == 0, errors
    assert "ntfg_live_" not in errors


async def test_the_log_shows_what_dev_log_took_in_the_place_of_a_provider(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f"""
        database = "sqlite:///{tmp_path}/gateway.db"
        environment = "production"
        bootstrap_key = "{ADMIN}"
        [providers.log]
        use = "dev_log"
        [channels.email]
        providers = ["log"]
        sender = "shop@example.com"
        """
    )
    async with serving(config) as (gateway, client):
        asked = {"to": {"email": "ada@example.com"}, "content": {"title": "private-title", "body": "private-body"}}
        answer = await client.post("/v1/notifications", json=asked)
        assert answer.status_code == 202, answer.text
        [delivery] = answer.json()["deliveries"]
        for _ in range(2000):
            if "message_logged" in gateway.log.read_text():
                break
            await asyncio.sleep(0.01)
    [line] = [json.loads(line) for line in gateway.log.read_text().splitlines() if "message_logged" in line]
    assert (line["level"], line["provider"], line["message"]) == ("info", "log", delivery["id"])
    assert "private" not in gateway.log.read_text()
    assert "ada@" not in gateway.log.read_text()


def test_a_port_that_is_taken_ends_with_1_and_a_sentence(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - only here

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [GATEWAY, "serve", "--port", str(taken.getsockname()[1])],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("environment", list(Environment))
def test_a_configured_key_is_never_shown(environment: Environment) -> None:
    settings = Settings(
        environment=environment,
        bootstrap_key=CONFIGURED.bootstrap_key,
        database=CONFIGURED.database,
    )
    text = banner(settings, host="0.0.0.0", port=1234, made_key=None)
    assert "k" * 40 not in text
    assert "hunter2" not in text
    assert "http://127.0.0.1:1234" in text
    assert ("curl" in text) == (environment is not Environment.PRODUCTION)


def test_the_banner_says_what_may_leave() -> None:
    closed = banner(Settings(), host="::", port=1, made_key="m" * 40)
    assert "nothing leaves" in closed
    assert "http://[::1]:1/schema" in closed
    opened = Settings(environment=Environment.STAGING, staging=StagingSettings(allow=["*@example.com"]))
    assert "only what [staging] allow names leaves" in banner(opened, host="h.example.com", port=1, made_key=None)


def test_links_lead_to_the_chosen_port_unless_a_public_url_is_configured() -> None:
    assert reachable_url(Settings(), "127.0.0.1", 9000) == "http://127.0.0.1:9000"
    named = Settings(public_url="https://notify.example.com")
    assert reachable_url(named, "127.0.0.1", 9000) == "https://notify.example.com"
    staging = Settings(environment=Environment.STAGING)
    assert reachable_url(staging, "127.0.0.1", 9000) == staging.public_url
