"""One request, every channel: each through its own adapter to its provider's test server, and none of it in staging."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from channels.testing_server import HttpServer, Reply
from tests.support.gateway import running_gateway

POSTMARK = Reply(200, json={"MessageID": "pm-1", "ErrorCode": 0, "Message": "OK", "To": "ada@example.com"})
ROUTES = {
    "/email": POSTMARK,
    "/api/chat.postMessage": Reply(200, json={"ok": True, "channel": "C7", "ts": "1.2"}),
    "/discord": Reply(200, json={"id": "1101", "channel_id": "77"}),
    "/teams": Reply(202),
    "/bot123:abc/sendMessage": Reply(200, json={"ok": True, "result": {"message_id": 7, "chat": {"id": -100}}}),
    "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages.json": Reply(
        201, json={"sid": "SM1", "status": "queued", "error_code": None}
    ),
    "/hook": Reply(204),
}
CHANNELS = ["email", "slack", "discord", "teams", "telegram", "sms", "webhook"]


def answering(request: Any) -> Reply:
    """Answer as whichever provider lives at this path; the query does not matter."""
    return ROUTES[request.target.partition("?")[0]]


def config(url: str, environment: str = "production") -> dict[str, Any]:
    providers: dict[str, Any] = {
        "postmark": {
            "use": "email_postmark",
            "server_token": "pm-token",
            "base_url": url,
            "callback_username": "postmark",
            "callback_password": "a-long-callback-password",
        },
        "slack-bot": {"use": "chat_slack", "token": "xoxb-1", "base_url": f"{url}/api/"},
        "discord": {"use": "chat_discord", "webhook_origins": [url]},
        "teams": {"use": "chat_teams", "webhook_origins": [url]},
        "telegram": {"use": "chat_telegram", "token": "123:abc", "base_url": url},
        "twilio": {
            "use": "sms_twilio",
            "account_sid": "AC0123456789abcdef0123456789abcdef",
            "auth_token": "secret",
            "sender": "+15550100009",
            "base_url": url,
        },
        "hooks": {
            "use": "hook_signed",
            "secrets": ["whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()],
            "allow_private": ["127.0.0.0/8"],
            "ports": [int(url.rpartition(":")[2])],
            "allow_http_hosts": ["127.0.0.1"],
        },
    }
    names = dict(zip(CHANNELS, providers, strict=True))
    channels: dict[str, Any] = {channel: {"providers": [name]} for channel, name in names.items()}
    channels["email"]["sender"] = "Shop <shop@example.com>"
    return {
        "environment": environment,
        "providers": providers,
        "channels": channels,
        "destinations": {"slack": {"ops": {"channel": "C7"}}},
    }


def everyone(url: str) -> dict[str, Any]:
    return {
        "email": "ada@example.com",
        "phone": "+15550100001",
        "slack": "ops",
        "discord": f"{url}/discord",
        "teams": f"{url}/teams",
        "telegram": "-100",
        "webhook": f"{url}/hook",
    }


async def test_one_request_reaches_every_channel(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        people = {**everyone(server.url), "phone": "+4915112345678"}
        answer = await gw.send(people, channels=CHANNELS, strategy="all")
        found = {}
        for one in answer["deliveries"]:
            found[one["channel"]] = await gw.final(one["id"])
        assert {channel: one["status"] for channel, one in found.items()} == dict.fromkeys(CHANNELS, "sent"), found
        assert {request.target.partition("?")[0] for request in server.requests} == set(ROUTES)
        assert len(server.requests) == len(ROUTES)


async def test_a_destination_is_written_by_its_name_and_never_by_what_stands_behind_it(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        delivery = await gw.final(await gw.send({"slack": "ops"}, channels=["slack"]))
        assert (delivery["status"], delivery["address"]) == ("sent", "ops")
        [request] = server.requests
        assert request.json()["channel"] == "C7"


async def test_in_staging_no_channel_lets_anything_out(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url, "staging")) as gw:
        people = {**everyone(server.url), "phone": "+4915112345678"}
        answer = await gw.send(people, channels=CHANNELS)
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"captured": len(CHANNELS)}
        assert server.requests == []
        captured = (await gw.get("/v1/captured"))["items"]
        assert {one["channel"] for one in captured} == set(CHANNELS)


async def test_a_providers_report_moves_the_delivery_on(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        sent = await gw.until(await gw.send(), {"sent"})
        report = {
            "RecordType": "Bounce",
            "MessageID": "pm-1",
            "Type": "HardBounce",
            "TypeCode": 1,
            "Email": "ada@example.com",
            "BouncedAt": "2027-01-15T08:00:00Z",
            "Description": "The server was unable to deliver your message",
            "Metadata": {},
        }
        path = "/v1/callbacks/postmark"
        assert (await gw.client.post(path, json=report)).status_code == 401
        signed = {"Authorization": "Basic " + base64.b64encode(b"postmark:a-long-callback-password").decode()}
        for expected in (1, 0):
            answer = await gw.client.post(path, json=report, headers=signed)
            assert (answer.status_code, answer.json()) == (200, {"changed": expected})
        assert (await gw.delivery(sent["id"]))["status"] == "bounced"
        listed = (await gw.get("/v1/suppressions"))["items"]
        assert [(one["address"], one["source"]) for one in listed] == [("ada@example.com", "postmark")]
        again = await gw.final(await gw.send())
        assert (again["status"], again["reason"]) == ("skipped", "suppressed")


async def test_a_channel_is_told_what_the_caller_said_in_its_own_terms(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        overrides = {"slack": {"thread_ts": "1.1"}, "email": {"subject": "Only in the mail"}}
        await gw.final(await gw.send({"slack": "ops"}, channels=["slack"], overrides=overrides))
        [request] = server.requests
        assert request.json()["thread_ts"] == "1.1"
        assert "Only in the mail" not in request.body.decode()


async def test_only_a_configured_sender_may_be_named(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.post(
            {"phone": "+4915112345678"}, channels=["sms"], overrides={"sms": {"from": "+15550100066"}}
        )
        assert answer.status_code == 422
        assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [
            ("overrides.sms.from", "not_allowed"),
        ]


async def test_a_number_that_is_none_is_refused_at_once(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.post({"phone": "0151 1234"}, channels=["sms"])
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["errors"]] == ["to[0].phone"]
