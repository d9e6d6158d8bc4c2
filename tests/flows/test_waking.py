"""An API without a dispatcher, and a worker that polls once a minute: what is accepted leaves at once all the same."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import ADMIN, SECRET, body, merged, smtp, write_config
from tests.support.postgres import Postgres
from tests.support.process import GatewayProcess
from tests.support.smtp_server import SmtpServer


@pytest.mark.postgres
async def test_a_worker_is_woken_by_what_another_process_accepts(tmp_path: Path, postgres: Postgres) -> None:
    async with SmtpServer() as server:
        settings = {
            "database": await postgres.new_database(),
            "bootstrap_key": ADMIN,
            "secret_key": SECRET,
            "server": {"poll_s": 60},
        }
        config = write_config(tmp_path / "gateway.toml", merged(smtp(server), settings))
        processes = [GatewayProcess(config, "serve", "--no-work", "--port", "0"), GatewayProcess(config, "work")]
        try:
            async with processes[0].client() as client:
                # The worker's first look, and the moment from which it listens, are not known: until one has arrived.
                async with asyncio.timeout(40):
                    while not server.messages:
                        await client.post("/v1/notifications", json=body("early@example.com"))
                        with suppress(TimeoutError):
                            await server.wait_for_message(timeout=0.5)
                for number in range(5):
                    answer = await client.post("/v1/notifications", json=body(f"late{number}@example.com"))
                    assert answer.status_code == 202
                    async with asyncio.timeout(20):
                        while not any(f"late{number}@example.com" in mail.rcpt_tos for mail in server.messages):
                            await server.wait_for_message(timeout=20, count=len(server.messages) + 1)
        finally:
            for process in processes:
                process.kill()
