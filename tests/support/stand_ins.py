"""A stand-in on loopback for the provider of every shipped adapter, and a configuration that leads to them.

Owns what is each service's own: where it takes a message, what it documents as its answer to a good one, and which form
its secrets have. Refuses to repeat the configuration, which is given: `deploy/providers.example.toml`.

One HTTP server stands in for all: what a service has at `/email` is here at `/NAME/email`, the name being that of the
configured provider. One SMTP server takes mail, and asks for the configured user and password.
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import importlib.util
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from channels.push_web import vapid_keys
from channels.testing_server import HttpServer, Received, Reply
from gateway.registry import Registry
from tests.support.every_channel import everyone, service_account
from tests.support.gateway import merged
from tests.support.smtp_server import Behaviour, Mail, SmtpServer

_SHOWN_CHARS: Final = 80  # of a body: enough to know it again, and one line of a terminal
_HOOK: Final = "/hook"  # where every incoming webhook of a configured destination leads


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the stand-in of one provider is."""

    url: str  # of this provider, without a slash at the end
    origin: str
    port: int
    smtp_port: int


def _random(_: Place) -> str:
    return secrets.token_hex(20)


def _whsec(_: Place) -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _verification_key(_: Place) -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def _rest(at: Place) -> dict[str, Any]:
    return {"base_url": at.url}


def _webhooks(at: Place) -> dict[str, Any]:
    return {"webhook_origins": [at.origin]}


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """What stands in for the provider of one adapter.

    `answers` are by path below the provider's URL, `*` standing for any part of it. `settings` are laid over those of
    the example, and `secrets` make those of its secrets that cannot be any random text, by the setting's name.
    """

    answers: Mapping[str, Reply] = field(default_factory=dict[str, Reply])
    settings: Callable[[Place], dict[str, Any]] = _rest
    secrets: Mapping[str, Callable[[Place], str]] = field(default_factory=dict[str, Callable[[Place], str]])


STAND_INS: Final[Mapping[str, StandIn]] = {
    "email_smtp": StandIn(settings=lambda at: {"host": "127.0.0.1", "port": at.smtp_port, "security": "none"}),
    "email_ses": StandIn(answers={"/v2/email/outbound-emails": Reply(200, json={"MessageId": "0107-ses-000000"})}),
    "email_sendgrid": StandIn(
        answers={"/v3/mail/send": Reply(202, {"X-Message-Id": "sendgrid-1"})},
        secrets={"webhook_public_key": _verification_key},
    ),
    "email_mailgun": StandIn(
        answers={
            "/v3/*/messages": Reply(200, json={"id": "<mailgun-1@mg.example.com>", "message": "Queued. Thank you."})
        },
    ),
    "email_postmark": StandIn(
        answers={"/email": Reply(200, json={"MessageID": "postmark-1", "ErrorCode": 0, "Message": "OK"})}
    ),
    "email_resend": StandIn(
        answers={"/emails": Reply(200, json={"id": "resend-1"})}, secrets={"callback_secret": _whsec}
    ),
    "email_brevo": StandIn(
        answers={"/v3/smtp/email": Reply(201, json={"messageId": "<brevo-1@smtp-relay.example.com>"})},
        settings=lambda at: {"base_url": f"{at.url}/v3"},
    ),
    "email_json": StandIn(answers={"*": Reply(200, json={"id": "own-1"})}),  # its path is the example's
    "chat_slack": StandIn(
        answers={
            "/api/chat.postMessage": Reply(200, json={"ok": True, "channel": "C0123456789", "ts": "1.2"}),
            _HOOK: Reply(200, body="ok"),
        },
        settings=lambda at: {"base_url": f"{at.url}/api", **_webhooks(at)},
    ),
    "chat_discord": StandIn(
        answers={"/discord": Reply(200, json={"id": "1101", "channel_id": "77"})}, settings=_webhooks
    ),
    "chat_teams": StandIn(answers={"/teams": Reply(202)}, settings=_webhooks),
    "chat_telegram": StandIn(
        answers={
            "/bot*/sendMessage": Reply(200, json={"ok": True, "result": {"message_id": 7, "chat": {"id": -100}}}),
        },
        secrets={"token": lambda _: f"{secrets.randbelow(10**9)}:{secrets.token_hex(16)}"},
    ),
    "bridge_apprise": StandIn(
        answers={"*": Reply(200)},  # Apprise's own JSON service, to the recipient's path
        settings=lambda _: {"schemas": ["json"]},
        secrets={"url": lambda at: at.url.replace("http://", "json://") + "/{to}"},
    ),
    "sms_twilio": StandIn(
        answers={
            "/2010-04-01/Accounts/*/Messages.json": Reply(
                201, json={"sid": "SM" + "0" * 32, "status": "queued", "error_code": None}
            ),
        },
        secrets={"account_sid": lambda _: f"AC{secrets.token_hex(16)}"},
    ),
    "sms_json": StandIn(answers={"*": Reply(200, json={"id": "sms-1"})}),  # its path is the example's
    "push_web": StandIn(
        answers={"/push": Reply(201)},
        settings=lambda at: {
            "allow_private": ["127.0.0.0/8"],
            "ports": [at.port],
            "allow_http_hosts": ["127.0.0.1"],
        },
        secrets={"private_key": lambda _: vapid_keys().private_key},
    ),
    "push_fcm": StandIn(
        answers={
            "/token": Reply(200, json={"access_token": "stand-in", "expires_in": 3599, "token_type": "Bearer"}),
            "/v1/projects/*/messages:send": Reply(200, json={"name": "projects/shop-1/messages/0:1"}),
        },
        secrets={"service_account": lambda at: service_account(at.url)},
    ),
    "hook_signed": StandIn(
        answers={_HOOK: Reply(204)},
        settings=lambda _: {"allow_private": ["127.0.0.0/8"], "plain_private": True},
        secrets={"secrets": _whsec},
    ),
    "dev_log": StandIn(settings=lambda _: {}),
}
"""By adapter."""


class NoStandIn(Exception):
    """A provider of the example has an adapter that nothing here stands in for."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One message as it arrived: the request's line (`POST /ses/v2/…`, `SMTP ada@example.com`), and its beginning."""

    line: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Try:
    """One message to send: through which provider, and to whom (`to` of a request)."""

    provider: str
    adapter: str
    channel: str
    to: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A configuration, the values of its variables, and what to send over it.

    `channels` are the providers by channel, first to last. `left_out` says which providers cannot be tried, and why.
    """

    config: Mapping[str, Any]
    variables: Mapping[str, str]
    channels: Mapping[str, list[str]]
    tries: list[Try]
    left_out: Mapping[str, str]


class StandIns:
    """The two servers, and what arrived at them, in order; `told` hears of each. Made by `standing_in`."""

    def __init__(self, told: Callable[[Arrival], None]) -> None:
        self.arrivals: list[Arrival] = []
        self.http = HttpServer(self._answer)
        self.smtp = _Mailbox(self._arrived)
        self._told = told
        self._answers: dict[str, Mapping[str, Reply]] = {}

    def plan(self, example: Mapping[str, Any]) -> Plan:
        """Lead every provider of a configuration to its stand-in. Raises `NoStandIn` where an adapter has none."""
        left_out = _left_out(example["providers"])
        variables: dict[str, str] = {}
        providers = {
            name: self._placed(name, section, variables)
            for name, section in example["providers"].items()
            if name not in left_out
        }
        channels = _channels(example["channels"], providers)
        destinations = example["destinations"]
        for channel, named in destinations.items():
            url = f"{self._at(channels[channel][0]).url}{_HOOK}"
            _fill(named, variables, partial(str, url))
        self.smtp.behaviour = Behaviour(users=_users(providers, variables))
        self._answers = {name: STAND_INS[section["use"]].answers for name, section in providers.items()}
        listed = {channel: {"providers": names} for channel, names in channels.items()}
        return Plan(
            config={
                **example,
                "environment": "production",
                "providers": providers,
                "channels": merged(example["channels"], listed),
            },
            variables=variables,
            channels=channels,
            tries=self._tries(providers, channels, destinations),
            left_out=left_out,
        )

    def _at(self, name: str) -> Place:
        origin = self.http.url
        return Place(url=f"{origin}/{name}", origin=origin, port=self.http.port, smtp_port=self.smtp.port)

    def _placed(self, name: str, section: Mapping[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        stand_in, at = STAND_INS[section["use"]], self._at(name)
        for key, value in section.items():
            _fill(value, variables, partial(stand_in.secrets.get(key, _random), at))
        return {**section, **stand_in.settings(at)}

    def _tries(
        self, providers: Mapping[str, Any], channels: Mapping[str, list[str]], destinations: Mapping[str, Any]
    ) -> list[Try]:
        """Send once through every provider, and to each configured destination through the first of its channel."""
        found: list[Try] = []
        for channel, names in channels.items():
            key = "phone" if channel == "sms" else channel
            for name in names:
                addresses = [{**everyone(self._at(name).url), "slack": "C0123456789"}[key]]
                if name == names[0]:
                    addresses += destinations.get(channel, {})
                adapter = providers[name]["use"]
                found += [Try(provider=name, adapter=adapter, channel=channel, to={key: one}) for one in addresses]
        return found

    def _answer(self, request: Received) -> Reply:
        line = f"{request.method} {request.path}"
        name, _, path = request.path[1:].partition("/")
        answers = self._answers.get(name, {})
        reply = next((reply for where, reply in answers.items() if fnmatchcase(f"/{path}", where)), None)
        self._arrived(Arrival(line=line if reply else f"{line} (404: nothing here)", body=_beginning(request.body)))
        return reply or Reply(404)

    def _arrived(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)
        self._told(arrival)


class _Mailbox(SmtpServer):
    """Tells of every message before it is kept."""

    def __init__(self, told: Callable[[Arrival], None]) -> None:
        super().__init__()
        self._told = told

    async def keep(self, mail: Mail) -> None:
        message = email.message_from_bytes(mail.content, policy=email.policy.default)
        text = message.get_body(("plain", "html"))
        body = mail.content if text is None else text.get_content().encode()
        self._told(Arrival(line=f"SMTP {', '.join(mail.rcpt_tos)}", body=_beginning(body)))
        await super().keep(mail)


@contextlib.asynccontextmanager
async def standing_in(told: Callable[[Arrival], None]) -> AsyncIterator[StandIns]:
    """Run both servers, on free ports of 127.0.0.1."""
    stand_ins = StandIns(told)
    async with stand_ins.http, stand_ins.smtp:
        yield stand_ins


def _left_out(providers: Mapping[str, Any]) -> dict[str, str]:
    for name, section in providers.items():
        if section["use"] not in STAND_INS:
            raise NoStandIn(f"[providers.{name}] uses {section['use']}, which has no stand-in: add one to {__name__}")
    if importlib.util.find_spec("apprise") is not None:
        return {}
    bridges = [name for name, section in providers.items() if section["use"] == "bridge_apprise"]
    return dict.fromkeys(bridges, "the package apprise is not installed")


def _channels(example: Mapping[str, Any], providers: Mapping[str, Any]) -> dict[str, list[str]]:
    """List the providers of each channel: those that the example names, then the others that serve it."""
    registry = Registry.load()
    found = {channel: [name for name in keys["providers"] if name in providers] for channel, keys in example.items()}
    for name, section in providers.items():
        channel = section.get("channel") or section.get("kind") or registry.kind(section["use"])
        names = found.setdefault(channel, [])
        if name not in names:
            names.append(name)
    return found


def _users(providers: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """Read who may sign in to the SMTP server."""
    mail = [one for one in providers.values() if one["use"] == "email_smtp" and "username" in one]
    return {one["username"]: variables[one["password"]["env"]] for one in mail}


def _fill(value: Any, variables: dict[str, str], make: Callable[[], str]) -> None:
    """Give the variables that a setting reads their values, however deep they stand in it."""
    match value:
        case {"env": str(name)}:
            variables.setdefault(name, make())
        case dict():
            for one in value.values():
                _fill(one, variables, make)
        case list():
            for one in value:
                _fill(one, variables, make)
        case _:
            pass


def _beginning(octets: bytes) -> str:
    """Show the first characters on one line, fit for a terminal whatever they are."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return f"({len(octets)} octets that are no text)"
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:_SHOWN_CHARS]
