"""A dead place is suppressed on its own channel, by its provider's name; and it stops no provider for the others."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from channels.push_web import vapid_keys
from channels.testing_server import HttpServer, Reply
from tests.support.gateway import running_gateway

RSA = rsa.generate_private_key(65537, 2048)


def service_account(url: str) -> str:
    pem = RSA.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "shop",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": "push@shop.iam.gserviceaccount.com",
            "token_uri": f"{url}/token",
        }
    )


def subscription(endpoint: str) -> dict[str, Any]:
    octets = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = octets.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    def written(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    return {"endpoint": endpoint, "keys": {"p256dh": written(point), "auth": written(bytes(16))}}


UNREGISTERED = {
    "error": {
        "code": 404,
        "status": "NOT_FOUND",
        "message": "Requested entity was not found.",
        "details": [
            {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"},
        ],
    }
}


ANSWERS = {  # by the beginning of the path: of what is alive, and of what is dead
    "/token": (Reply(200, json={"access_token": "t", "expires_in": 3599, "token_type": "Bearer"}), None),
    "/v1/projects/": (Reply(200, json={"name": "projects/shop/messages/1"}), Reply(404, json=UNREGISTERED)),
    "/push/gone": (Reply(201), Reply(410)),
    "/push/unknown": (Reply(201), Reply(404)),
    "/services/": (Reply(200, body=b"ok"), Reply(404, body=b"no_service")),
    "/api/chat.postMessage": (
        Reply(200, json={"ok": True, "channel": "C7", "ts": "1.2"}),
        Reply(200, json={"ok": False, "error": "channel_not_found"}),
    ),
    "/api/webhooks/": (
        Reply(200, json={"id": "1", "channel_id": "2"}),
        Reply(404, json={"code": 10015, "message": "Unknown Webhook"}),
    ),
}


def answering(request: Any) -> Reply:
    """Answer for every service at once: whatever names something dead is dead."""
    [(alive, dead)] = [answers for path, answers in ANSWERS.items() if request.target.startswith(path)]
    return dead if dead is not None and (b"dead" in request.body or "dead" in request.target) else alive


def config(url: str) -> dict[str, Any]:
    caller = {
        "allow_private": ["127.0.0.0/8"],
        "allow_http_hosts": ["127.0.0.1"],
        "ports": [int(url.rpartition(":")[2])],
    }
    return {
        "environment": "production",
        "providers": {
            "browsers": {
                "use": "push_web",
                "private_key": vapid_keys().private_key,
                "subject": "mailto:ops@example.com",
                **caller,
            },
            "phones": {"use": "push_fcm", "service_account": service_account(url), "base_url": url},
            "slack-main": {
                "use": "chat_slack",
                "token": "xoxb-1",
                "base_url": f"{url}/api/",
                "webhook_origins": [url],
            },
            "discord-main": {"use": "chat_discord", "webhook_origins": [url]},
        },
        "channels": {
            "web_push": {"providers": ["browsers"]},
            "mobile_push": {"providers": ["phones"]},
            "slack": {"providers": ["slack-main"]},
            "discord": {"providers": ["discord-main"]},
        },
    }


def places(url: str) -> dict[str, tuple[str, Any, Any]]:
    return {
        "browsers, 410": ("web_push", subscription(f"{url}/push/gone/dead"), subscription(f"{url}/push/gone/alive")),
        "browsers, 404": ("web_push", subscription(f"{url}/push/unknown/dead"), subscription(f"{url}/push/gone/alive")),
        "phones": ("mobile_push", "dead-token", "live-token"),
        "slack-main": ("slack", f"{url}/services/T1/dead", f"{url}/services/T1/alive"),
        "slack-main, bot": ("slack", "#dead", "#alive"),
        "discord-main": ("discord", f"{url}/api/webhooks/1/dead", f"{url}/api/webhooks/1/alive"),
    }


@pytest.mark.parametrize("name", places("http://127.0.0.1:1"))
async def test_a_dead_place_is_written_to_no_more_and_stops_nobody_else(tmp_path: Path, name: str):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        channel, dead, alive = places(server.url)[name]
        provider = name.partition(",")[0]
        for _ in range(6):  # more than a breaker takes of its provider's own failures
            found = await gw.final(await gw.send({channel: dead}, channels=[channel]))
            if found["status"] == "skipped":
                break
            assert (found["status"], found["reason"]) == ("failed", "address_dead")
        assert (found["status"], found["reason"]) == ("skipped", "suppressed")
        [row] = (await gw.get("/v1/suppressions"))["items"]
        assert (row["channel"], row["source"], row["reason"], row["sender"]) == (
            channel,
            provider,
            "address_dead",
            None,
        )
        assert (await gw.final(await gw.send({channel: alive}, channels=[channel])))["status"] == "sent"


@pytest.mark.parametrize("name", places("http://127.0.0.1:1"))
async def test_many_dead_places_stop_no_provider(tmp_path: Path, name: str):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        channel, dead, alive = places(server.url)[name]
        for number in range(15):
            one = json.loads(json.dumps(dead).replace("dead", f"dead{number}"))
            assert (await gw.final(await gw.send({channel: one}, channels=[channel])))["reason"] == "address_dead"
        assert (await gw.final(await gw.send({channel: alive}, channels=[channel])))["status"] == "sent"
