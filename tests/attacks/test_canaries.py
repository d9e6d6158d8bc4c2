"""Canaries: secrets, addresses and words of messages, in a gateway to which everything happens.

Its log is at DEBUG; its providers answer with what they were sent, refuse, break off and are not there; it is asked
wrongly, killed, started again and configured wrongly. Afterwards no canary is found in anything that it has said.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.testing_server import Do, HttpServer, Received, Reply
from tests.attacks.conftest import a_send
from tests.support.gateway import write_config
from tests.support.process import COMMAND, GatewayProcess
from tests.support.smtp_server import Behaviour, SmtpServer

SECRETS = {
    "bootstrap_key": "c4n4ry-bootstrap-key-0123456789abcdef",
    "secret_key": "c4n4ry-secret-key-0123456789abcdef-0123",
    "smtp": "c4n4ry-smtp-password",
    "postmark": "c4n4ry-postmark-token",
    "callback": "c4n4ry-callback-password",
    "slack": "xoxb-1-c4n4ry-slack",
    "telegram": "123456:c4n4ry-telegram",
    "twilio": "c4n4ry0twilio0auth0token",
    "hook": "whsec_" + base64.b64encode(b"c4n4ry-hook-secret-0123456789").decode(),
    "discord": "c4n4ry-discord-webhook",
    "teams": "c4n4ry-teams-webhook",
    "database": "c4n4ry-database-password",
}
WORDS = {
    "email": "c4n4ry.person@example.com",
    "phone": "+4915199990042",
    "telegram id": "-1009876599990042",
    "title": "c4n4ry-title",
    "body": "c4n4ry-body",
    "data": "c4n4ry-variable",
    "file": "c4n4ry-file",
    "name": "c4n4ry-name",
    "idempotency key": "c4n4ry-idempotency-key",
    "query": "c4n4ry-query",
}
NEVER = [
    "c4n4ry",
    WORDS["phone"],
    WORDS["phone"][1:],
    WORDS["telegram id"],
    SECRETS["hook"],
    SECRETS["hook"].removeprefix("whsec_"),
    base64.b64encode(b"c4n4ry-file").decode(),
    base64.b64encode(f"\0gateway\0{SECRETS['smtp']}".encode()).decode(),
    base64.b64encode(f"postmark:{SECRETS['callback']}".encode()).decode(),
]
TROUBLE: dict[str, Callable[[Received], Any]] = {
    "echoes what it was sent": lambda asked: Reply(400, json=_echo(asked)),
    "knows no such account": lambda asked: Reply(401, json=_echo(asked)),
    "breaks": lambda asked: Reply(500, body=str(_echo(asked)).encode()),
    "is confused": lambda asked: Reply(200, body=f"<html>{_echo(asked)}".encode()),
    "leads elsewhere": lambda asked: Reply(302, {"Location": f"https://evil.example/{SECRETS['slack']}"}),
    "hangs up": lambda _: Do.CLOSE,
}


def _echo(asked: Received) -> dict[str, Any]:
    """Answer in the words of all providers at once, with everything that came in."""
    said = f"{dict(asked.headers)} {asked.target} {WORDS['email']} {WORDS['phone']} {WORDS['telegram id']}"
    return {
        "ok": False, "error": said, "description": said, "message": said, "Message": said, "ErrorCode": 300,
        "code": 20003, "error_code": 400, "more_info": said, "errors": [{"message": said, "code": said}],
    }  # fmt: skip


@dataclass
class Aviary:
    """Everything that the gateway has said, by where it was said."""

    folder: Path
    heard: list[tuple[str, str]] = field(default_factory=list)

    def hear(self, where: str, text: str) -> None:
        self.heard.append((where, text))

    async def command(self, config: Path, *words: str, ends: tuple[int, ...], **variables: str) -> None:
        """Run a command to its end and hear all of it."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
        done = await asyncio.to_thread(
            subprocess.run,
            [COMMAND, *words, "--config", config],
            capture_output=True,
            text=True,
            env={**environ, **variables},
            timeout=60,
            check=False,
        )
        assert done.returncode in ends, done.stdout + done.stderr
        assert done.stdout + done.stderr
        self.hear(" ".join(words), done.stdout + done.stderr)

    def sung(self) -> list[str]:
        """List every canary that was heard, with its surroundings."""
        found: list[str] = []
        for where, text in self.heard:
            for canary in NEVER:
                places = re.finditer(re.escape(canary), text, re.IGNORECASE)
                found += [f"{where}: …{text[max(0, at.start() - 200) : at.end() + 60]}…" for at in places]
        return found


def _next(trouble: Iterator[Callable[[Received], Any]]) -> Callable[[Received], Any]:
    def answer(asked: Received) -> Any:
        return next(trouble)(asked)

    return answer


def _config(folder: Path, mail: SmtpServer, url: str, **more: Any) -> dict[str, Any]:
    wire = {"connect_timeout_s": 1, "read_timeout_s": 1, "total_timeout_s": 2}
    port = int(url.rpartition(":")[2])
    providers: dict[str, Any] = {
        "smtp": {
            "use": "email_smtp", "host": mail.host, "port": mail.port, "security": "none",
            "username": "gateway", "password": {"env": "CANARY_SMTP"},
        },
        "postmark": {
            "use": "email_postmark", "server_token": SECRETS["postmark"], "base_url": url,
            "callback_username": "postmark", "callback_password": SECRETS["callback"],
        },
        "slack-bot": {"use": "chat_slack", "token": SECRETS["slack"], "base_url": f"{url}/api/"},
        "discord-hooks": {"use": "chat_discord", "webhook_origins": [url]},
        "teams-hooks": {"use": "chat_teams", "webhook_origins": [url]},
        "telegram-bot": {"use": "chat_telegram", "token": SECRETS["telegram"], "base_url": url},
        "twilio": {
            "use": "sms_twilio", "account_sid": "AC0123456789abcdef0123456789abcdef",
            "auth_token": SECRETS["twilio"], "sender": "+4915199990000", "base_url": url,
        },
        "hooks": {
            "use": "hook_signed", "secrets": [SECRETS["hook"]], "allow_private": ["127.0.0.0/8"], "ports": [port],
            "allow_http_hosts": ["127.0.0.1"],
        },
    }  # fmt: skip
    for name, provider in providers.items():
        provider.update({} if name == "smtp" else wire)
    quick = {"attempts": 2, "first_s": 0.05, "most_s": 0.1, "budget_s": 2}
    channels: dict[str, Any] = {
        "email": {"providers": ["smtp", "postmark"], "sender": "Shop <shop@example.com>"},
        **{name: {"providers": [provider]} for name, provider in {
            "slack": "slack-bot", "discord": "discord-hooks", "teams": "teams-hooks", "telegram": "telegram-bot",
            "sms": "twilio", "webhook": "hooks",
        }.items()},
    }  # fmt: skip
    for channel in channels.values():
        channel.update(retry=quick, breaker={"failures": 100, "first_s": 0.05, "most_s": 0.1})
    return {
        "environment": "production",
        "database": f"sqlite:///{folder}/gateway.db",
        "bootstrap_key": SECRETS["bootstrap_key"],
        "secret_key": SECRETS["secret_key"],
        "providers": providers,
        "channels": channels,
        "destinations": {"discord": {"ops": {"webhook": f"{url}/{SECRETS['discord']}"}}},
        "logging": {"level": "debug", "format": "json"},
        "server": {"poll_s": 0.02},
        **more,
    }


def _send(url: str, number: int) -> dict[str, Any]:
    people = {
        "email": WORDS["email"], "name": WORDS["name"], "phone": WORDS["phone"], "slack": "#general",
        "discord": "ops" if number % 2 else f"{url}/{SECRETS['discord']}",
        "teams": f"{url}/{SECRETS['teams']}", "telegram": WORDS["telegram id"],
        "webhook": f"{url}/{SECRETS['discord']}?token={SECRETS['teams']}", "data": {"x": WORDS["data"]},
    }  # fmt: skip
    file = {"filename": "a.txt", "content_type": "text/plain", "content": base64.b64encode(b"c4n4ry-file").decode()}
    return {
        "to": people,
        "channels": ["email", "slack", "discord", "teams", "telegram", "sms", "webhook"],
        "content": {"title": WORDS["title"], "body": WORDS["body"]},
        "attachments": [file],
    }


async def _ask_wrongly(client: httpx.AsyncClient, birds: Aviary) -> None:
    """Ask what is refused, with canaries in every place."""
    wrong = WORDS["email"].replace(".com", "..com")
    basic = httpx.BasicAuth("postmark", "wrong-" + SECRETS["callback"])
    callback = {"RecordType": "Bounce", "Type": "HardBounce", "Email": WORDS["email"], "MessageID": "x"}
    for answer in [
        await client.post("/v1/notifications", json=a_send(wrong)),
        await client.post("/v1/notifications", json=a_send({"phone": WORDS["phone"] + "0" * 9})),
        await client.post("/v1/notifications", content=f'{{"to": {{"email": "{WORDS["email"]}" '),
        await client.post("/v1/notifications", json=[WORDS["body"]]),
        await client.get(f"/v1/notifications?to={WORDS['query']}&address={WORDS['query']}@x"),
        await client.get("/v1/keys", headers={"Authorization": f"Bearer x{SECRETS['bootstrap_key']}"}),
        await client.get("/v1/keys", headers={"Authorization": f"Basic {SECRETS['bootstrap_key']}"}),
        await client.post("/v1/callbacks/postmark", json=callback, auth=basic),
        await client.post("/v1/callbacks/postmark", content=WORDS["body"], auth=("postmark", SECRETS["callback"])),
        await client.post("/v1/callbacks/telegram-bot", content=WORDS["body"]),
        await client.post("/v1/callbacks/twilio", data={"From": WORDS["phone"], "Body": WORDS["body"]}),
        await client.delete(f"/v1/suppressions/email/x{WORDS['email']}"),
    ]:  # fmt: skip
        assert 400 <= answer.status_code < 500, answer.text
        birds.hear(f"{answer.request.method} {answer.url.path[:20]}", answer.text)
    good = await client.post("/v1/callbacks/postmark", json=callback, auth=("postmark", SECRETS["callback"]))
    assert good.status_code == 200, good.text


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Aviary:
    return Aviary(tmp_path_factory.mktemp("canaries"))


async def test_no_canary_sings_while_everything_goes_wrong(birds: Aviary):
    refusals = [f"451 4.7.1 <{WORDS['email']}> greylisted", f"550 5.1.1 <{WORDS['email']}> {WORDS['phone']}"]
    behaviour = Behaviour(users={"gateway": SECRETS["smtp"]}, rcpt={WORDS["email"]: refusals})
    other = Behaviour(users={"gateway": "another"}, on={"auth": f"535 5.7.8 {SECRETS['smtp']} is wrong"})
    trouble = itertools.cycle(TROUBLE.values())  # six kinds for six channels: each meets all of them
    async with SmtpServer(behaviour) as mail, HttpServer(_next(trouble)) as server:
        config = write_config(birds.folder / "gateway.toml", _config(birds.folder, mail, server.url))
        variables = {"CANARY_SMTP": SECRETS["smtp"]}
        await birds.command(config, "check", "--show", ends=(0,), **variables)
        await birds.command(config, "check", "--online", ends=(1,), **variables)
        for life in range(2):
            process = GatewayProcess(config, "serve", "--port", "0", variables=variables)
            try:
                await _live(birds, process, server.url, life)
                assert life or not process.kill()
                assert not life or await process.stop() == 0
            finally:
                process.kill()
                birds.hear(f"the log of life {life}", process.log.read_text())
                mail.behaviour = other
            mail.behaviour = Behaviour(
                users={"gateway": "another"}, on={"auth": f"535 5.7.8 {SECRETS['smtp']} is wrong"}
            )
        assert mail.connections
        assert {"/api/chat.postMessage", f"/bot{SECRETS['telegram']}/sendMessage"} <= {
            one.target for one in server.requests
        }
    said = dict(birds.heard)["the log of life 0"]
    assert said.count('"level":"debug"') > 10, "the log is not at DEBUG: this test would hear nothing"
    assert birds.sung() == []


async def _live(birds: Aviary, process: GatewayProcess, url: str, life: int) -> None:
    headers = {"Authorization": f"Bearer {SECRETS['bootstrap_key']}"}
    async with httpx.AsyncClient(base_url=await process.ready(), headers=headers, timeout=20) as client:
        accepted: list[str] = []
        for number in range(len(TROUBLE) if life == 0 else 2):
            key = {"Idempotency-Key": f"{WORDS['idempotency key']}-{life}-{number}"}
            sent = await client.post("/v1/notifications", json=_send(url, number), headers=key)
            assert sent.status_code == 202, sent.text
            again = await client.post("/v1/notifications", json={**_send(url, number), "tags": ["x"]}, headers=key)
            assert again.status_code == 422
            birds.hear("a key used again", again.text)
            accepted.append(sent.json()["id"])
        await asyncio.gather(*(_finished(client, id_) for id_ in accepted))
        await _ask_wrongly(client, birds)
        for path in (
            "/metrics",
            "/v1/providers",
            "/v1/stats",
            "/health/ready",
            "/",
            "/schema/openapi.json",
            "/v1/keys",
        ):
            answer = await client.get(path)
            assert answer.status_code in {200, 503}, path
            birds.hear(path, answer.text)
        checked = await client.post("/v1/providers/slack-bot/check")
        birds.hear("a check", checked.text)
        key = (await client.post("/v1/keys", json={"name": "k", "mode": "live", "scopes": ["send"]})).json()["key"]
        masked = await client.post("/v1/notifications", json=_send(url, 0), headers={"Authorization": f"Bearer {key}"})
        assert masked.status_code == 202
        told = re.sub(r'"name":"[^"]*"', "", masked.text)
        birds.hear("the answer to who may not read", told)


async def _finished(client: httpx.AsyncClient, id_: str) -> None:
    async with asyncio.timeout(20):
        while (await client.get(f"/v1/notifications/{id_}")).json()["status"] != "completed":  # noqa: ASYNC110 # no event
            await asyncio.sleep(0.02)


BAD: dict[str, Any] = {
    "an unknown key": {"bootstrap_kee": SECRETS["bootstrap_key"]},
    "a secret of the wrong type": {"secret_key": [SECRETS["secret_key"]]},
    "a key that is too short": {"bootstrap_key": SECRETS["smtp"]},
    "a secret in a misspelt key": {"providers": {"s": {"use": "chat_slack", "tokn": SECRETS["slack"]}}},
    "a token that is none": {"providers": {"t": {"use": "chat_telegram", "token": SECRETS["slack"]}}},
    "a secret in a URL": {
        "providers": {"p": {"use": "email_postmark", "base_url": f"https://u:{SECRETS['postmark']}@x/"}},
    },
    "a hook's secret that is none": {"providers": {"h": {"use": "hook_signed", "secrets": [SECRETS["smtp"]]}}},
    "a database that is none": {"database": f"mysql://u:{SECRETS['database']}@db.example.com/x"},
    "a destination that is none": {"destinations": {"discord": {"ops": f"https://x/{SECRETS['discord']}"}}},
    "a proxy with a password": {"outbound": {"proxy": f"socks5://u:{SECRETS['database']}@proxy.example.com"}},
}  # fmt: skip


async def test_no_fault_of_a_configuration_sings_it(birds: Aviary):
    waiting = []
    for number, (name, config) in enumerate(BAD.items()):
        path = write_config(birds.folder / f"bad-{number}.toml", config)
        waiting.append(birds.command(path, "check", ends=(2,)))
        assert name
    await asyncio.gather(*waiting[:5])
    await asyncio.gather(*waiting[5:])
    assert birds.sung() == []


async def test_a_database_that_cannot_be_reached_does_not_sing_its_password(birds: Aviary):
    url = f"postgresql://gateway:{SECRETS['database']}@127.0.0.1:1/gateway"
    path = write_config(birds.folder / "postgres.toml", {"database": url, "logging": {"level": "debug"}})
    await birds.command(path, "check", "--show", ends=(0,))
    await birds.command(path, "migrate", ends=(1,))
    await birds.command(path, "serve", "--port", "0", ends=(1,))
    assert birds.sung() == []
