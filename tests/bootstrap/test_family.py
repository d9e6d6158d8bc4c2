"""Several processes behind one port: the real command, killed and stopped as an operator or the kernel would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import ADMIN
from tests.support.process import GatewayProcess

SEND = {"to": {"email": "ada@example.com"}, "content": {"title": "Hello", "body": "It works."}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(f'bootstrap_key = "{ADMIN}"\ndatabase = "sqlite:///{tmp_path / "gateway.db"}"\n')
    return path


@pytest.fixture
def family(config: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(config, "serve", "--port", "0", "--processes", "2")
    yield process
    for pid in children(process.process.pid):
        os.kill(pid, signal.SIGKILL)
    process.kill()


def children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []


def gone(pid: int) -> bool:
    """A process that has ended; one that nobody has waited for yet has no command line."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until(true: object) -> None:
    assert callable(true)
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")


async def processes(url: str) -> set[str]:
    """Which processes a scrape shows."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    return {
        sample.labels["process"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "gateway_build_info"
    }


async def until_all_answer(url: str) -> None:
    for _ in range(3000):
        if await processes(url) == {"0", "1"}:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("one process never came")


async def test_two_processes_share_a_port_and_a_database_and_show_their_figures_together(
    family: GatewayProcess,
) -> None:
    url = await family.ready()
    await until_all_answer(url)
    assert len(children(family.process.pid)) == 2
    headers = {"Authorization": f"Bearer {ADMIN}"}
    for _ in range(8):  # a connection each, so that both have a chance to take some
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            sent = await client.post("/v1/notifications", json=SEND)
            assert sent.status_code == 202
            found = await client.get(
                "/v1/captured/wait", params={"notification_id": sent.json()["id"], "timeout_s": 30}
            )
            assert found.status_code == 200
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    accepted = sum(
        sample.value
        for one in text_string_to_metric_families(text)
        for sample in one.samples
        if sample.name == "gateway_notifications_accepted_total"
    )
    assert accepted == 8
    assert await family.stop() == 0


async def test_a_process_that_is_killed_is_replaced_and_the_port_stays_open(family: GatewayProcess) -> None:
    url = await family.ready()
    await until_all_answer(url)
    before = children(family.process.pid)
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: len(set(children(family.process.pid)) - {before[0]}) == 2)
    await until_all_answer(url)
    assert re.search(r"process_died", family.log.read_text())
    assert await family.stop() == 0
    assert all(gone(pid) for pid in before)


async def test_processes_whose_parent_is_killed_stop_by_themselves(family: GatewayProcess) -> None:
    url = await family.ready()
    await until_all_answer(url)
    orphans = children(family.process.pid)
    family.kill()
    await until(lambda: all(gone(pid) for pid in orphans))


async def test_processes_that_cannot_start_end_it_with_1_and_a_sentence(config: Path, tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(b"this is no database" * 1000)
    process = GatewayProcess(config, "serve", "--port", "0", "--processes", "2")
    assert await asyncio.to_thread(process.process.wait, 60) == 1
    said = process.log.read_text()
    assert "damaged" in said
    assert "Traceback" not in said


async def test_workers_come_in_families_too(config: Path) -> None:
    process = GatewayProcess(config, "work", "--processes", "2")
    try:
        await until(lambda: process.log.read_text().count("working") >= 2)
        assert len(children(process.process.pid)) == 2
        assert await process.stop() == 0
    finally:
        process.kill()


EARLY = """
import os, signal, sys, time
from gateway.bootstrap.family import Family

def life(place):
    if place.number == 1:
        os.kill(os.getppid(), signal.SIGTERM)  # before this one has come to heed it
        time.sleep(60)
    time.sleep(60)
    return 0

sys.exit(Family(life, 2, on_ready=lambda port: None, log=None).run())
"""


def test_a_family_that_is_stopped_while_one_of_it_still_starts_ends_well() -> None:
    found = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, check=False, timeout=60)
    assert (found.returncode, found.stderr) == (0, b"")
