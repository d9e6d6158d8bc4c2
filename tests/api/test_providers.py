"""`/v1/providers`: who may ask, what is shown, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.http_server import HttpServer, Reply
from tests.support.smtp_server import SmtpServer

PATHS = [
    ("GET", "/v1/providers"),
    ("POST", "/v1/providers/smtp/pause"),
    ("POST", "/v1/providers/smtp/resume"),
    ("POST", "/v1/providers/smtp/check"),
]


@pytest.fixture
async def gw(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SmtpServer() as smtp, HttpServer({"GET /server": Reply(200, json={"ID": 1})}) as http:
        config = {
            "environment": "production",
            "public_url": "https://notify.example.com",
            "providers": {
                "idle": {"use": "dev_log"},
                "postmark": {
                    "use": "email_postmark",
                    "base_url": http.url,
                    "server_token": "s3cret-token",
                    "callback_username": "hook",
                    "callback_password": "s3cret-password",
                    "rate": "10/s",
                    "proxy": "direct",
                },
                "smtp": {"use": "email_smtp", "host": smtp.host, "port": smtp.port, "security": "none"},
                "hooks": {"use": "hook_signed"},
            },
            "channels": {
                "email": {"providers": ["smtp", "postmark"], "sender": "a@example.com"},
                "webhook": {"providers": ["hooks"]},
            },
        }
        async with running_gateway(tmp_path, config, work=False) as running:
            yield running


async def test_every_provider_is_shown_in_failover_order_and_no_secret(gw: RunningGateway) -> None:
    answer = await gw.client.get("/v1/providers")
    assert "s3cret" not in answer.text
    found = answer.json()
    assert found["next_cursor"] is None
    places = [(one["name"], one["channel"], one["position"]) for one in found["items"]]
    assert places == [("smtp", "email", 1), ("postmark", "email", 2), ("hooks", "webhook", 1), ("idle", "email", None)]
    assert {one["status"] for one in found["items"]} == {"ok"}
    postmark = found["items"][1]
    assert postmark["use"] == "email_postmark"
    assert postmark["receipts"] is True
    assert postmark["callback_url"] == "https://notify.example.com/v1/callbacks/postmark"
    rate = postmark["rate"]
    assert (rate["limit"], rate["counts"], rate["count"], rate["window_ms"], rate["used"]) == (
        "10/s",
        "messages",
        1,
        100,
        0,
    )
    assert found["items"][2]["callback_url"] is None, "nothing reports to signed hooks"
    assert found["items"][0]["rate"] is None
    assert found["items"][0]["last"] is None


async def test_the_list_has_pages(gw: RunningGateway) -> None:
    names, cursor = [], None
    while True:
        page = await gw.get("/v1/providers", limit=3, **({} if cursor is None else {"cursor": cursor}))
        names.append([one["name"] for one in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [["smtp", "postmark", "hooks"], ["idle"]]


async def test_pausing_and_resuming_answer_the_provider_and_may_be_repeated(gw: RunningGateway) -> None:
    operator = await gw.new_client("admin")
    first = (await operator.post("/v1/providers/smtp/pause")).json()
    assert (first["name"], first["status"], first["paused_by"]) == ("smtp", "paused", "test")
    again = (await gw.client.post("/v1/providers/smtp/pause")).json()
    assert (again["paused_at"], again["paused_by"]) == (first["paused_at"], "test")
    for _ in range(2):
        resumed = await operator.post("/v1/providers/smtp/resume")
        assert resumed.status_code == 200
        shown = resumed.json()
        assert (shown["status"], shown["paused_at"], shown["paused_by"]) == ("ok", None, None)


@pytest.mark.parametrize(
    ("name", "ok", "words"),
    [("smtp", True, "250"), ("postmark", True, "200"), ("hooks", None, "cannot be checked without sending")],
)
async def test_a_check_says_what_the_provider_says(gw: RunningGateway, name: str, ok: bool | None, words: str) -> None:
    answer = await gw.client.post(f"/v1/providers/{name}/check")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["provider"], found["ok"]) == (name, ok)
    assert words in found["detail"]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_only_an_administrator_may_ask(gw: RunningGateway, method: str, path: str) -> None:
    other = await gw.new_client("send", "read", "manage")
    answer = await other.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (403, "/errors/forbidden")
    assert (await gw.client.request(method, path)).status_code == 200


@pytest.mark.parametrize("word", ["pause", "resume", "check"])
async def test_an_unknown_name_is_404(gw: RunningGateway, word: str) -> None:
    for name in ("nobody", "%00", "smtp%0a", "s" * 300):
        answer = await gw.client.post(f"/v1/providers/{name}/{word}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found")
