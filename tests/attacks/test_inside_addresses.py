"""Addresses that callers name, and that lead inside: every notation, every channel that takes one, real sockets.

The oracle is a listener of ours on every loopback address: whatever the gateway answers, nobody may ever connect to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from channels.testing_server import HttpServer, Listener, Reply
from tests.support.gateway import running_gateway

HOSTS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "127.000.000.001", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
    "[2001:0:7f00:1::]", "[fe80::1%25lo]", "[::1%25lo]", "localhost", "LOCALHOST", "localhost.", "a.localhost",
    "localhost.localdomain", "ip6-localhost", "①②⑦.⓪.⓪.①", "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1", "loc\u00adalhost",
    "ⓛocalhost", "xn--ls8h.localhost", "user@127.0.0.1", "example.com@127.0.0.1", "example.com:443@127.0.0.1",
    "127.0.0.1%2f@example.com", "127.0.0.1%00.example.com", "127.0.0.1#@example.com", "example.com\\@127.0.0.1",
    "169.254.169.254", "metadata.google.internal", "100.100.100.200", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1",
]  # fmt: skip
SCHEMES = ["https://{}:{}/", "http://{}:{}/", "HTTPS://{}:{}/", "//{}:{}/", "gopher://{}:{}/", "https:{}:{}/"]
DESTINATIONS = ["https://hooks.slack.com@{}:{}/", "https://hooks.slack.com.{}:{}/", "https://{}:{}/hooks.slack.com"]
SUBSCRIBED = {
    "p256dh": base64.urlsafe_b64encode(
        ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    ).decode(),
    "auth": base64.urlsafe_b64encode(b"0123456789abcdef").decode(),
}


@contextlib.asynccontextmanager
async def _inside() -> AsyncGenerator[tuple[int, list[str]]]:
    """Listen on every loopback address under one port; answers it, and who came."""
    came: list[str] = []

    async def heard(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        came.append(repr(await reader.read(200)))

    async with Listener(heard) as everywhere, Listener(heard) as newer:
        port = await everywhere.start("0.0.0.0", 0)
        if socket.has_ipv6:
            with contextlib.suppress(OSError):
                await newer.start("::1", port)
        yield port, came


def _config(port: int, **hooks: Any) -> dict[str, Any]:
    quick = {"connect_timeout_s": 1, "read_timeout_s": 1, "total_timeout_s": 2, "rate": "1000/s"}
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    key = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
    providers: dict[str, Any] = {
        "hooks": {"use": "hook_signed", "secrets": [secret], "ports": [443, port], **quick, **hooks},
        "push": {
            "use": "push_web", "ports": [443, port], "subject": "mailto:ops@example.com",
            "private_key": base64.urlsafe_b64encode(key).decode().rstrip("="), **quick,
        },
        "slack": {"use": "chat_slack", **quick},
        "discord": {"use": "chat_discord", **quick},
        "teams": {"use": "chat_teams", **quick},
    }  # fmt: skip
    channels = {"webhook": "hooks", "web_push": "push", "slack": "slack", "discord": "discord", "teams": "teams"}
    retry = {"attempts": 1, "first_s": 0.01}
    return {
        "environment": "production",
        "providers": providers,
        "channels": {name: {"providers": [provider], "retry": retry} for name, provider in channels.items()},
    }


def _recipients(port: int) -> list[dict[str, Any]]:
    urls = [scheme.format(host, port) for host in HOSTS for scheme in SCHEMES[:2]]
    urls += [scheme.format("127.0.0.1", port) for scheme in (*SCHEMES, *DESTINATIONS)]
    hooks: list[dict[str, Any]] = [
        {channel: url} for channel in ("webhook", "slack", "discord", "teams") for url in urls
    ]
    return hooks + [{"web_push": {"endpoint": url, "keys": SUBSCRIBED}} for url in urls]


async def test_no_notation_on_any_channel_leads_inside(tmp_path: Path):
    async with _inside() as (port, came), running_gateway(tmp_path, _config(port)) as gw:
        wanted = [{"to": to, "channels": list(to), "content": {"title": "t"}} for to in _recipients(port)]
        results = (await gw.client.post("/v1/notifications/batch", json={"notifications": wanted})).json()["results"]
        assert {one["status"] for one in results} <= {202, 422}
        ids = [one["id"] for one in results if one["status"] == 202]
        await asyncio.gather(*(gw.all_final(id_, within_s=30) for id_ in ids[-20:]))
        words: dict[str, set[tuple[str, str, str]]] = {}
        for id_ in ids:
            for one in (await gw.all_final(id_))["deliveries"]:
                assert one["status"] == "failed", one
                words.setdefault(one["channel"], set()).add((one["status"], one["reason"], one["detail"]))
        assert came == []
        assert not [each for found in words.values() for each in found if "127" in each[2]]
        # Whatever was wrong with it, a webhook's address is refused in the same words: they tell nothing about inside.
        assert len(words.get("webhook", {0})) == 1, words["webhook"]


async def test_a_redirect_to_the_inside_is_followed_on_no_channel(tmp_path: Path):
    async with _inside() as (port, came):
        for status in (301, 302, 303, 307, 308):
            leading = Reply(status, {"Location": f"http://127.0.0.1:{port}/inside", "Refresh": "0"})
            async with HttpServer(leading) as server:
                origin, at = server.url, int(server.url.rpartition(":")[2])
                open_to_tests = {"allow_private": ["127.0.0.0/8"], "allow_http_hosts": ["127.0.0.1"]}
                config = _config(at, **open_to_tests)
                for name in ("slack", "discord", "teams"):
                    config["providers"][name]["webhook_origins"] = [origin]
                (folder := tmp_path / str(status)).mkdir()
                async with running_gateway(folder, config) as gw:
                    to = {name: f"{origin}/{name}" for name in ("webhook", "slack", "discord", "teams")}
                    done = await gw.all_final((await gw.send(to, channels=list(to), strategy="all"))["id"])
                    assert {one["status"] for one in done["deliveries"]} <= {"failed", "unknown"}
                assert len(server.requests) == 4
        assert came == []


async def _closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


async def test_what_stands_behind_a_port_can_not_be_told_from_our_words(tmp_path: Path):
    """Three neighbours: nobody listens, somebody who says nothing, a mail server that speaks first."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.inside.example ESMTP secret-version-7\r\n")
        await reader.read(100)

    config = _config(1, allow_private=["127.0.0.0/8"])  # an operator who opened his own network to callers
    found = set()
    async with Listener(silent) as mute, Listener(greeting) as mail:
        ports = [await _closed_port(), *[await each.start("127.0.0.1", 0) for each in (mute, mail)]]
        config["providers"]["hooks"].update(ports=[443, *ports], connect_timeout_s=0.3)
        async with running_gateway(tmp_path, config) as gw:
            for port in ports:
                sent = await gw.send({"webhook": f"https://127.0.0.1:{port}/"}, channels=["webhook"])
                done = await gw.final(sent)
                told = json.dumps(done)
                assert "secret-version" not in told
                tried = (one["detail"] for one in done["attempts"])
                found.add((done["status"], done["reason"], done["detail"], *tried))
    assert len(found) == 1, found


@pytest.mark.parametrize("field", ["url", "image_url"])
async def test_addresses_inside_a_message_are_never_fetched_by_us(tmp_path: Path, field: str):
    async with _inside() as (port, came), running_gateway(tmp_path, {"environment": "development"}) as gw:
        url = f"http://127.0.0.1:{port}/a.png"
        content = {"title": "t", "body": f"![x]({url}) [y]({url})", field: url}
        answer = await gw.post(content=content)
        assert answer.status_code in {202, 422}
        if answer.status_code == 202:
            await gw.all_final(answer.json()["id"])
        assert came == []
