"""A package from elsewhere brings a channel: the one of `channels/ADDING_A_CHANNEL.md`, built from that very page."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.testing_server import HttpServer, Reply
from tests.support.gateway import ADMIN, FINAL
from tests.support.process import serving

PAGE = Path(__file__).parents[2] / "channels" / "ADDING_A_CHANNEL.md"
_BLOCK = re.compile(r"^```\w+ (?P<name>[\w.]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {found["name"]: found["text"] for found in _BLOCK.finditer(PAGE.read_text())}
REQUEST = json.loads(FILES["request.json"])
SECRET = "the-secret-of-the-callbacks"
TAKEN = Reply(202, json={"letter": "L-7"})


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's package as somebody would write it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("pigeon-loft")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed: outside this checkout and its environment."""
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run("-m", "pip", "install", *offline, "--quiet", "--target", str(target), ".", folder=package)
    return target


def run(*words: str, folder: Path, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def configured(package: Path, folder: Path, site: Path, loft: str, **more: str) -> tuple[Path, dict[str, str]]:
    """The page's configuration as it stands; what a test must choose comes from the environment."""
    config = folder / "gateway.toml"
    config.write_text((package / "gateway.toml").read_text())
    variables = {
        "PYTHONPATH": str(site),
        "LOFT_TOKEN": "the-token-of-the-loft",
        "LOFT_CALLBACK_SECRET": SECRET,
        "GATEWAY__PROVIDERS__LOFT__BASE_URL": loft,
        "GATEWAY__ENVIRONMENT": "production",
        "GATEWAY__DATABASE": f"sqlite:///{folder}/gateway.db",
        "GATEWAY__BOOTSTRAP_KEY": ADMIN,
        **more,
    }
    return config, variables


async def until(client: httpx.AsyncClient, sent: Any, wanted: frozenset[str]) -> dict[str, Any]:
    """Ask for the one delivery of an answer until it is in one of the states."""
    assert sent.status_code == 202, sent.text
    [one] = sent.json()["deliveries"]
    async with asyncio.timeout(20):
        while True:
            found = (await client.get(f"/v1/deliveries/{one['id']}")).json()
            if found["status"] in wanted:
                return found
            await asyncio.sleep(0.02)


def test_the_pages_package_passes_the_shipped_contract_suite(package: Path):
    said = run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=package)
    passed = int(re.search(r"(\d+) passed", said)[1])
    assert passed >= 20, said
    assert "failed" not in said
    assert "skipped" not in said


async def test_a_foreign_channel_sends_reports_back_and_suppresses(package: Path, site: Path, tmp_path: Path):
    async with HttpServer(TAKEN) as loft:
        config, variables = configured(package, tmp_path, site, loft.url)
        async with serving(config, variables) as (_, client):
            sent = await until(client, await client.post("/v1/notifications", json=REQUEST), frozenset({"sent"}))
            assert (sent["provider"], sent["channel"], sent["address"]) == ("loft", "pigeon", "roof-3")
            [arrived] = loft.requests
            assert arrived.headers["authorization"] == "Bearer the-token-of-the-loft"
            assert arrived.json() == {
                "loft": "roof-3", "text": arrived.json()["text"], "breed": "racing", "ref": sent["id"]
            }  # fmt: skip
            assert "The corn is ready." in arrived.json()["text"]

            body = json.dumps({"event": "arrived", "letter": "L-7", "at": 1_795_000_000}).encode()
            refused = await client.post("/v1/callbacks/loft", content=body, headers={"Loft-Signature": "0" * 64})
            assert refused.status_code == 401
            signed = {"Loft-Signature": hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}
            for changed in (1, 0):
                report = await client.post("/v1/callbacks/loft", content=body, headers=signed)
                assert (report.status_code, report.json()) == (200, {"changed": changed})
            assert (await client.get(f"/v1/deliveries/{sent['id']}")).json()["status"] == "delivered"

            loft.answering = Reply(410)
            elsewhere = {**REQUEST, "to": {"pigeon": "roof-4"}}
            failed = await until(client, await client.post("/v1/notifications", json=elsewhere), FINAL)
            assert (failed["status"], failed["reason"]) == ("failed", "address_dead")
            listed = (await client.get("/v1/suppressions", params={"channel": "pigeon"})).json()["items"]
            assert [(one["address"], one["source"]) for one in listed] == [("roof-4", "loft")]


async def test_a_foreign_key_is_explained_documented_and_taken_in_batches(package: Path, site: Path, tmp_path: Path):
    async with HttpServer(TAKEN) as loft:
        config, variables = configured(package, tmp_path, site, loft.url)
        async with serving(config, variables) as (_, client):
            [explained] = (await client.post("/v1/notifications/explain", json=REQUEST)).json()["deliveries"]
            assert (explained["decision"], explained["provider"], explained["channel"]) == ("send", "loft", "pigeon")
            assert explained["rendered"]["headers"]["breed"] == "racing"
            assert explained["size_bytes"] > 80
            assert loft.requests == []

            misspelt = {**REQUEST, "to": {"pidgeon": "roof-3"}, "overrides": {"pidgeon": {}}}
            refused = await client.post("/v1/notifications", json=misspelt)
            assert refused.status_code == 422
            assert {(one["field"], one["code"]) for one in refused.json()["errors"]} >= {
                ("to.pidgeon", "unknown_field"),
                ("overrides.pidgeon", "unknown_field"),
            }
            batch = {"notifications": [REQUEST, misspelt]}
            results = (await client.post("/v1/notifications/batch", json=batch)).json()["results"]
            assert [one["status"] for one in results] == [202, 422]

            schemas = (await client.get("/schema/openapi.json")).json()["components"]["schemas"]
            assert {"pigeon", "email"} <= schemas["Recipient"]["properties"].keys()
            assert {"pigeon", "email"} <= schemas["Overrides"]["properties"].keys()


async def test_in_staging_a_foreign_channel_lets_out_only_what_is_allowed(package: Path, site: Path, tmp_path: Path):
    async with HttpServer(TAKEN) as loft:
        config, variables = configured(package, tmp_path, site, loft.url, GATEWAY__ENVIRONMENT="staging")
        config.write_text(config.read_text() + '\n[staging]\nallow = ["pigeon:test-*"]\n')
        async with serving(config, variables) as (_, client):
            kept = await until(client, await client.post("/v1/notifications", json=REQUEST), FINAL)
            assert kept["status"] == "captured"
            [captured] = (await client.get("/v1/captured", params={"channel": "pigeon"})).json()["items"]
            assert captured["to"] == "roof-3"
            raw = (await client.get(f"/v1/captured/{captured['id']}")).json()["raw"]
            assert '"loft":"roof-3"' in raw
            assert loft.requests == []

            allowed = {**REQUEST, "to": {"pigeon": "test-1"}}
            await until(client, await client.post("/v1/notifications", json=allowed), frozenset({"sent"}))
            assert [request.json()["loft"] for request in loft.requests] == ["test-1"]
