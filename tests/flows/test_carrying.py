"""What no channel of a request can carry is refused when it is accepted, with the path of the field."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from channels.testing_server import HttpServer, Reply
from tests.support.every_channel import CHANNELS, answering, config, everyone
from tests.support.gateway import merged, running_gateway
from tests.support.smtp_server import SmtpServer

URL = "http://127.0.0.1:9"
BLOCK = {"type": "divider"}
SID = "HX" + "0" * 32
FILE = {"filename": "a.txt", "content_type": "text/plain", "content": base64.b64encode(b"hello").decode()}


def faults_of(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(one["field"], one["code"]) for one in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("overrides", "faults"),
    [
        ({"slack": {"blocks": [BLOCK] * 51}}, [("overrides.slack.blocks", "too_many")]),
        ({"slack": {"blocks": "none", "blokcs": []}}, [("blocks", "wrong_type"), ("blokcs", "unknown_field")]),
        ({"discord": {"embeds": [{}] * 11}}, [("overrides.discord.embeds", "too_many")]),
        ({"discord": {"content": "x" * 2001}}, [("overrides.discord.content", "too_long")]),
        ({"discord": {"embeds": [{"description": "x" * 4097}]}}, [("overrides.discord.embeds", "too_long")]),
        ({"teams": {"card": {"body": "x" * 28_673}}}, [("overrides.teams.card", "too_long")]),
        ({"teams": {"text": "x"}}, [("overrides.teams.text", "unknown_field")]),
        ({"telegram": {"text": "x" * 4097}}, [("overrides.telegram.text", "too_long")]),
        ({"telegram": {"parse_mode": "BBCode"}}, [("overrides.telegram.parse_mode", "invalid")]),
        ({"sms": {"body": "x"}}, [("overrides.sms.body", "unknown_field")]),
        ({"sms": {"content_sid": "nonsense"}}, [("overrides.sms.content_sid", "invalid")]),
        ({"web_push": {"urgency": "at once"}}, [("overrides.web_push.urgency", "invalid")]),
        ({"web_push": {"ttl_s": -1}}, [("overrides.web_push.ttl_s", "out_of_range")]),
        ({"web_push": {"data": {"x": "y" * 4000}}}, [("overrides.web_push", "too_long")]),
        ({"web_push": {"urgncy": "low"}}, [("overrides.web_push.urgncy", "unknown_field")]),
        ({"mobile_push": {"data": {"x": "y" * 4097}}}, [("overrides.mobile_push", "too_long")]),
        ({"mobile_push": {"token": "x"}}, [("overrides.mobile_push.token", "unknown_field")]),
        ({"webhook": {"headers": {}}}, [("overrides.webhook.headers", "unknown_field")]),
        ({"email": {"template": {"variables": {}}}}, [("overrides.email.template.id", "required")]),
        ({"email": {"metadata": {"order": 7}}}, [("overrides.email.metadata.order", "wrong_type")]),
        ({"email": {"metadata": {'a"\r\nb': "7"}}}, [("", "invalid")]),
    ],
)
async def test_overrides_are_judged_by_the_adapter_that_reads_them(
    tmp_path: Path, overrides: dict[str, Any], faults: list[tuple[str, str]]
):
    async with running_gateway(tmp_path, config(URL), work=False) as gw:
        found = faults_of(await gw.post(everyone(URL), channels=CHANNELS, overrides=overrides))
        assert [code for _, code in found] == [code for _, code in faults]
        assert all(field.endswith(wanted) for (field, _), (wanted, _) in zip(found, faults, strict=True)), found
        explained = await gw.client.post(
            "/v1/notifications/explain",
            json={"to": everyone(URL), "content": {"title": "x"}, "channels": CHANNELS, "overrides": overrides},
        )
        assert faults_of(explained) == found, "explain refuses as a send does"


async def test_all_that_is_documented_is_taken(tmp_path: Path):
    overrides = {
        "slack": {"blocks": [BLOCK] * 50, "thread_ts": "1.1", "acknowledge": True, "username": "Shop"},
        "discord": {"embeds": [{"description": "x"}], "thread_id": 77, "allowed_mentions": {"parse": ["users"]}},
        "teams": {"card": {"type": "AdaptiveCard", "version": "1.5", "body": [{"type": "TextBlock", "text": "x"}]}},
        "telegram": {"disable_notification": True, "message_thread_id": 7},
        "sms": {"content_sid": SID, "content_variables": {"1": "Ada"}},
        "web_push": {"urgency": "high", "ttl_s": 60, "icon": "/i.png", "requireInteraction": True, "data": {"n": 1}},
        "mobile_push": {"android": {"priority": "high"}, "ttl_s": 60},
        "webhook": {"secrets": ["whsec_" + base64.b64encode(b"k" * 32).decode()]},
    }
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.send(everyone(server.url), channels=CHANNELS, overrides=overrides)
        found = [await gw.final(one["id"]) for one in answer["deliveries"]]
        assert [(one["channel"], one["status"], one["detail"]) for one in found if one["status"] != "sent"] == []


async def test_what_one_provider_of_a_channel_takes_is_taken(tmp_path: Path):
    sms = {"use": "sms_json", "base_url": URL, "key": "k"}
    wanted = merged(config(URL), {"providers": {"other": sms}, "channels": {"sms": {"providers": ["other", "twilio"]}}})
    async with running_gateway(tmp_path, wanted, work=False) as gw:
        phone = {"phone": "+4915112345678"}
        assert (await gw.post(phone, channels=["sms"], overrides={"sms": {"content_sid": SID}})).status_code == 202
        found = faults_of(await gw.post(phone, channels=["sms"], overrides={"sms": {"mediaurl": "x"}}))
        assert found == [("overrides.sms.mediaurl", "unknown_field")]


async def test_without_a_provider_and_with_an_adapter_that_says_nothing_anything_is_taken(tmp_path: Path):
    log = {"environment": "production", "providers": {"log": {"use": "dev_log", "kind": "slack"}}}
    for wanted in ({"channels": {"slack": {}}}, {**log, "channels": {"slack": {"providers": ["log"]}}}):
        async with running_gateway(tmp_path, wanted, work=False) as gw:
            answer = await gw.post({"slack": "#ops"}, channels=["slack"], overrides={"slack": {"whatever": 1}})
            assert answer.status_code == 202


async def test_a_text_beyond_the_channel_is_refused_and_one_that_only_looks_so_is_not(tmp_path: Path):
    async with running_gateway(tmp_path, config(URL), work=False) as gw:
        phone = {"phone": "+4915112345678"}
        found = faults_of(await gw.post(phone, channels=["sms"], content={"title": "t", "body": "x" * 1601}))
        assert found == [("content.body", "too_long")]
        for body in ("x" * 1590, "**" + "x" * 1597 + "**", "[x](https://example.com)"):
            taken = await gw.post(phone, channels=["sms"], content={"title": "t", "body": body})
            assert taken.status_code == 202, taken.text
        both = {**phone, "email": "ada@example.com"}
        long = {"title": "t", "body": "x" * 5000}
        assert faults_of(await gw.post(both, channels=["email", "sms"], content=long)) == [("content.body", "too_long")]
        assert (await gw.post(both, channels=["email"], content=long)).status_code == 202
        simulated = {"phone": "+15005550001"}
        assert (await gw.post(simulated, channels=["sms"], content=long)).status_code == 202
        written = {"telegram": {"text": "short"}}
        refused = faults_of(await gw.post({"telegram": "-100"}, channels=["telegram"], content=long))
        assert refused == [("content.body", "too_long")]
        taken = await gw.post({"telegram": "-100"}, channels=["telegram"], content=long, overrides=written)
        assert taken.status_code == 202, "the caller's own text takes the place of the long one"


async def test_files_are_refused_only_where_no_channel_carries_any(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        people = everyone(server.url)
        found = faults_of(await gw.post(people, channels=["sms", "slack"], attachments=[FILE]))
        assert found == [("attachments", "not_allowed")]
        answer = await gw.send(people, channels=["sms", "email"], attachments=[FILE])
        assert [(await gw.final(one["id"]))["status"] for one in answer["deliveries"]] == ["sent", "sent"]


async def test_files_beyond_a_channel_are_refused(tmp_path: Path):
    wanted = merged(config(URL), {"limits": {"attachment_body_bytes": 40_000_000}})
    async with running_gateway(tmp_path, wanted, work=False) as gw:
        big = {**FILE, "content": base64.b64encode(bytes(11_000_000)).decode()}
        found = faults_of(await gw.post("ada@example.com", channels=["email"], attachments=[big]))
        assert found == [("attachments", "too_long")], "Postmark takes 10 MB"


async def test_a_providers_own_template_and_metadata_reach_it(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        template = {"id": "welcome-7", "variables": {"name": "Ada"}}
        asked = {"email": {"template": template, "metadata": {"order": "7"}}}
        server.answering = lambda _: Reply(200, json={"MessageID": "pm-1", "ErrorCode": 0, "Message": "OK"})
        found = await gw.final(await gw.send(overrides=asked, tags=["welcome"], metadata={"internal": "stays here"}))
        assert found["status"] == "sent", found
        [request] = server.requests
        assert request.target == "/email/withTemplate"
        sent = request.json()
        assert (sent["TemplateAlias"], sent["TemplateModel"]) == ("welcome-7", {"name": "Ada"})
        assert sent["Metadata"]["order"] == "7"
        assert sent["Tag"] == "welcome"
        assert "stays here" not in request.body.decode()


async def test_a_template_that_no_provider_keeps_is_refused_and_a_spare_without_sends_our_words(tmp_path: Path):
    async with SmtpServer() as smtp, HttpServer(Reply(503)) as down:
        spare = {"use": "email_smtp", "host": smtp.host, "port": smtp.port, "security": "none"}
        wanted = merged(config(down.url), {"providers": {"spare": spare}})
        only = merged(wanted, {"channels": {"email": {"providers": ["spare"]}}})
        both = merged(wanted, {"channels": {"email": {"providers": ["postmark", "spare"]}}})
        asked = {"email": {"template": {"id": 7}}}
        (tmp_path / "only").mkdir()
        (tmp_path / "both").mkdir()
        async with running_gateway(tmp_path / "only", only) as gw:
            assert faults_of(await gw.post(overrides=asked)) == [("overrides.email.template", "not_allowed")]
        async with running_gateway(tmp_path / "both", both) as gw:
            assert (await gw.final(await gw.send(overrides=asked)))["provider"] == "spare"
        assert len(smtp.messages) == 1
