"""A whole gateway in this process: real configuration, store, adapters and API, with a clock that tests move.

async with running_gateway(tmp_path, smtp(server)) as gw:
    answer = await gw.send("ada@example.com")
    delivery = await gw.final(answer)
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx

from gateway.bootstrap import Gateway, api, open_gateway, working
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.observe.logging import configure as configure_logging
from gateway.registry import Registry
from tests.support.clock import MovableClock
from tests.support.patience import PATIENCE_S
from tests.support.smtp_server import Mail, SmtpServer

ADMIN = "the-bootstrap-key-of-these-tests-0001"
SECRET = "the-secret-key-of-these-tests-000000001"
FINAL = frozenset({"delivered", "bounced", "failed", "unknown", "skipped", "captured", "expired", "cancelled", "sent"})
"""Where a delivery through SMTP comes to rest: `sent` is final where no receipts are expected."""

Config = Mapping[str, Any]

QUICK = {"server": {"poll_s": 0.02}, "logging": {"level": "error"}}


def smtp(*servers: SmtpServer, environment: str = "production", **more: Any) -> dict[str, Any]:
    """Configure e-mail over these servers, the first preferred: providers `smtp-1`, `smtp-2`, …"""
    providers = {
        f"smtp-{number}": {"use": "email_smtp", "host": server.host, "port": server.port, "security": "none"}
        for number, server in enumerate(servers, start=1)
    }
    config: dict[str, Any] = {
        "environment": environment,
        "providers": providers,
        "channels": {"email": {"providers": list(providers), "sender": "Shop <shop@example.com>"}},
    }
    return merged(config, more)


def merged(first: Config, second: Config) -> dict[str, Any]:
    """Lay one configuration over another, table by table."""
    found = dict(first)
    for key, value in second.items():
        before = found.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        found[key] = merged(before, value) if both else value
    return found


def write_config(path: Path, config: Config) -> Path:
    """Write a configuration file: plain keys first, then the tables, each of their keys on a line."""
    tables = {key: value for key, value in config.items() if isinstance(value, Mapping)}
    lines = [_line(key, value) for key, value in config.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{json.dumps(name)}]", *(_line(key, value) for key, value in table.items())]
    path.write_text("\n".join([*lines, ""]))
    return path


def _line(key: str, value: Any) -> str:
    return f"{json.dumps(key)} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_line(key, one) for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def settings_of(folder: Path, config: Config, *, database: str | None = None) -> Settings:
    """Read a configuration as the command line would."""
    nothing = folder / "no-templates"  # compiling the shipped ones costs more than all the rest of a start
    nothing.mkdir(exist_ok=True)
    known = {
        "database": database or f"sqlite:///{folder}/gateway.db",
        "bootstrap_key": ADMIN,
        "secret_key": SECRET,
        "templates": {"folder": str(nothing)},
    }
    path = write_config(folder / "gateway.toml", merged(merged(known, QUICK), config))
    return load(path, {}, Registry.load())


@dataclass
class RunningGateway:
    """A gateway at work and the ways to ask it. `client` has every scope."""

    gateway: Gateway
    clock: MovableClock
    client: httpx.AsyncClient
    closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def with_key(self, key: str) -> httpx.AsyncClient:
        """Speak with another key."""
        made = _client(self.gateway, key, self.client)
        self.closing.push_async_callback(made.aclose)
        return made

    async def new_client(self, *scopes: str, mode: str = "live", project: str = "default") -> httpx.AsyncClient:
        """Make a key and speak with it."""
        wanted = {"name": "test", "mode": mode, "scopes": list(scopes), "project": project}
        answer = await self.client.post("/v1/keys", json=wanted)
        assert answer.status_code == 201, answer.text
        return self.with_key(answer.json()["key"])

    async def post(self, to: Any = "ada@example.com", *, client: httpx.AsyncClient | None = None, **more: Any) -> Any:
        """Ask for a send; answers the response, whatever it is."""
        headers = {"Idempotency-Key": more.pop("idempotency_key")} if "idempotency_key" in more else {}
        return await (client or self.client).post("/v1/notifications", json=body(to, **more), headers=headers)

    async def send(self, to: Any = "ada@example.com", *, client: httpx.AsyncClient | None = None, **more: Any) -> Any:
        """Send, expect the 202, and answer its body."""
        answer = await self.post(to, client=client, **more)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def explain(
        self, to: Any = "ada@example.com", *, client: httpx.AsyncClient | None = None, **more: Any
    ) -> Any:
        """Ask what a send would do; answers its one delivery."""
        answer = await (client or self.client).post("/v1/notifications/explain", json=body(to, **more))
        assert answer.status_code == 200, answer.text
        [one] = answer.json()["deliveries"]
        return one

    async def get(self, path: str, **query: Any) -> Any:
        """Read something that is there."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def delivery(self, where: Any) -> Any:
        """Read a delivery: by id, or the only one of an answer."""
        return await self.get(f"/v1/deliveries/{delivery_id(where)}")

    async def until(self, where: Any, statuses: Collection[str], *, within_s: float = PATIENCE_S) -> Any:
        """Wait until a delivery has one of these statuses."""
        ends = time.monotonic() + within_s
        while True:
            found = await self.delivery(where)
            if found["status"] in statuses:
                return found
            assert time.monotonic() < ends, f"still {found['status']} ({found['reason']}: {found['detail']})"
            await asyncio.sleep(0.005)

    async def final(self, where: Any, *, within_s: float = PATIENCE_S) -> Any:
        """Wait until a delivery has come to rest."""
        return await self.until(where, FINAL, within_s=within_s)

    async def held(self, where: Any, reason: str, *, attempts: int | None = None) -> Any:
        """Wait until a delivery is held for this reason, after that many attempts."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            found = await self.until(where, {"held", *FINAL})
            assert found["status"] == "held", f"{found['status']} ({found['reason']}: {found['detail']})"
            if found["reason"] == reason and attempts in (None, len(found["attempts"])):
                return found
            assert time.monotonic() < ends, f"still held for {found['reason']} after {len(found['attempts'])} attempts"
            await asyncio.sleep(0.005)

    async def all_final(self, notification_id: str, *, within_s: float = PATIENCE_S) -> Any:
        """Wait until a notification is completed or cancelled; answers it."""
        ends = time.monotonic() + within_s
        while True:
            found = await self.get(f"/v1/notifications/{notification_id}")
            if found["status"] in {"completed", "cancelled"}:
                return found
            assert time.monotonic() < ends, f"still {found['status']}: {found['counts']}"
            await asyncio.sleep(0.01)

    async def events(self, notification_id: str) -> list[Any]:
        """List what happened, oldest first."""
        return (await self.get(f"/v1/notifications/{notification_id}/events", limit=200))["items"]

    async def keep_house(self) -> None:
        """Do a round of upkeep now."""
        await self.gateway.upkeep.round()


def delivery_id(where: Any) -> str:
    """Find the delivery's id in what a send answered."""
    if isinstance(where, str):
        return where
    if "deliveries" in where:
        [where] = where["deliveries"]
    return where["id"]


def body(to: Any = "ada@example.com", **more: Any) -> dict[str, Any]:
    """Make a request to an address, or to whom it may concern; `content` unless a template is given."""
    recipients = {"email": to} if isinstance(to, str) else to
    content = {} if "template" in more or "content" in more else {"content": {"title": "Hello", "body": "It works."}}
    return {"to": recipients, **content, **more}


def parsed(mail: Mail | bytes) -> EmailMessage:
    """Read a message with the standard parser."""
    content = mail if isinstance(mail, bytes) else mail.content
    return email.message_from_bytes(content, policy=email.policy.default)


def _client(gateway: Gateway, key: str, like: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=api(gateway)) if like is None else like._transport
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://gateway.test",
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )


@contextlib.asynccontextmanager
async def running_gateway(
    folder: Path,
    config: Config,
    *,
    clock: MovableClock | None = None,
    work: bool = True,
    database: str | None = None,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a database in `folder` (or `database`) for the time of the context."""
    clock = clock or MovableClock()
    settings = settings_of(folder, config, database=database)
    configure_logging(settings.logging)
    async with (
        open_gateway(settings, clock=clock) as gateway,
        working(gateway, work=work),
        _client(gateway, ADMIN) as client,
    ):
        running = RunningGateway(gateway=gateway, clock=clock, client=client)
        async with running.closing:
            yield running


def message_ids(mails: Sequence[Mail]) -> list[str]:
    """List the Message-IDs that arrived."""
    return [str(parsed(mail)["message-id"]) for mail in mails]
