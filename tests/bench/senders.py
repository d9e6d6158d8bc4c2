"""Each REST adapter, ready for a bench: its settings, messages as they are in use, and what its provider answers.

The answers are the documented successes. Messages have an id, an address and words of their own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from channels.contract import Content, Message
from channels.push_web import vapid_keys
from channels.testing_server import Reply

WORDS: Final = "Your order has left our warehouse and should arrive tomorrow.\n"
LOOPBACK: Final[Mapping[str, Any]] = {"allow_private": ["127.0.0.0/8"], "allow_http_hosts": ["127.0.0.1"]}


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter. `settings` and `to` are told the server's URL; `replies` are by path, that of the message first.

    `target` is the least ratio to the bare wire, where there is one.
    """

    use: str
    kind: str
    settings: Callable[[str], dict[str, Any]]
    replies: dict[str, Reply]
    to: Callable[[str, int], str]
    target: float | None = 0.5

    def message(self, url: str, number: int) -> Message:
        """Make the message of that number."""
        name = f"dlv_{number:032x}"
        return Message(
            id=name,
            kind=self.kind,
            to=self.to(url, number),
            to_name="Ada Lovelace",
            sender="Shop <no-reply@example.com>" if self.kind == "email" else None,
            content=_content(self.kind, number),
            idempotency_key=name,
            created_at=1_795_000_000.0,
            expires_at=4_070_908_800.0,
            category="orders",
            tags=("shop",),
        )


def _content(kind: str, number: int) -> Content:
    """Make a mail of two parts, or what the renderer hands to any other channel."""
    title, order = "Your order has left our warehouse", f"Order {number}.\n"
    if kind == "email":
        html = f"<p>{order}</p>" + f"<p>{WORDS}</p>" * 10
        return Content(subject=title, text=order + WORDS * 10, html=html)
    if kind == "sms":
        return Content(subject=title, text=order + WORDS)
    native = {
        "title": title,
        "body": f"{order}Your order has left **our warehouse** and should arrive *tomorrow*.",
        "url": "https://shop.example.com/orders/1",
        "actions": [{"label": "Track it", "url": "https://shop.example.com/track/1"}],
    }
    return Content(subject=title, text=order + WORDS, data=native)


def _mailbox(_: str, number: int) -> str:
    return f"customer-{number}@example.com"


def _phone(_: str, number: int) -> str:
    return f"+4915112{number:06d}"


def _email(use: str, at: str, reply: Reply, **settings: Any) -> Case:
    return Case(
        use=use,
        kind="email",
        settings=lambda url: {"base_url": url, **settings},
        replies={at: reply},
        to=_mailbox,
    )


def _bot(use: str, kind: str, at: str, reply: Reply, to: str, *, token: str, base: str = "") -> Case:
    return Case(
        use=use,
        kind=kind,
        settings=lambda url: {"token": token, "base_url": url + base},
        replies={at: reply},
        to=lambda _url, _number: to,
    )


def cases() -> tuple[Case, ...]:
    """List them, in the order of the README's table."""
    return (*_mails(), *_chats(), *_texts(), *_pushes(), _hook())


def _mails() -> tuple[Case, ...]:
    postmark = {"To": "ada@example.com", "SubmittedAt": "2026-11-22T07:25:01Z", "MessageID": "b7bc2f4a", "ErrorCode": 0}
    return (
        _email(
            "email_ses",
            "/v2/email/outbound-emails",
            Reply(200, json={"MessageId": "0100018c-abc-000000"}),
            region="eu-central-1",
            access_key_id="AKIDEXAMPLE",
            secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        ),
        _email("email_sendgrid", "/v3/mail/send", Reply(202, {"X-Message-Id": "14c5d75ce93"}), api_key="SG.key"),
        _email(
            "email_mailgun",
            "/v3/mg.example.com/messages",
            Reply(200, json={"id": "<20261123.1.ABC@mg.example.com>", "message": "Queued. Thank you."}),
            api_key="key",
            domain="mg.example.com",
        ),
        _email("email_postmark", "/email", Reply(200, json={**postmark, "Message": "OK"}), server_token="token"),
        _email("email_resend", "/emails", Reply(200, json={"id": "49a3999c-0ce1-4ea6"}), api_key="re_key"),
        _email("email_brevo", "/smtp/email", Reply(201, json={"messageId": "<1@relay.example.com>"}), api_key="key"),
        _email("email_json", "/v1/mails", Reply(202, json={"id": "m1"}), api_key="key", path="/v1/mails"),
    )


def _chats() -> tuple[Case, ...]:
    discord, teams = "/api/webhooks/223704706495545344/token", "/workflows/1/triggers/manual/paths/invoke"
    posted = {"ok": True, "channel": "C7", "ts": "1503435956.000247", "message": {"text": "x"}}
    told = {"ok": True, "result": {"message_id": 7, "chat": {"id": -100}, "date": 1_795_000_000}}
    return (
        _bot("chat_slack", "slack", "/api/chat.postMessage", Reply(json=posted), "C7", token="xoxb-1", base="/api/"),
        Case(
            use="chat_discord",
            kind="discord",
            settings=lambda url: {"webhook_origins": [url]},
            replies={discord: Reply(200, json={"id": "1101", "channel_id": "77", "content": "x"})},
            to=lambda url, _: url + discord,
        ),
        Case(
            use="chat_teams",
            kind="teams",
            settings=lambda url: {"webhook_origins": [url]},
            replies={teams: Reply(202, {"x-ms-workflow-run-id": "0858"})},
            to=lambda url, _: url + teams,
        ),
        _bot("chat_telegram", "telegram", "/bot123:abc/sendMessage", Reply(json=told), "-100", token="123:abc"),
    )


def _texts() -> tuple[Case, ...]:
    account = "AC0123456789abcdef0123456789abcdef"
    queued = {"sid": "SM1", "status": "queued", "error_code": None, "num_segments": "1"}
    return (
        Case(
            use="sms_twilio",
            kind="sms",
            settings=lambda url: {
                "account_sid": account,
                "auth_token": "secret",
                "sender": "+15550100009",
                "base_url": url,
            },
            replies={f"/2010-04-01/Accounts/{account}/Messages.json": Reply(201, json=queued)},
            to=_phone,
        ),
        Case(
            use="sms_json",
            kind="sms",
            settings=lambda url: {"base_url": url, "key": "key", "sender": "Shop", "path": "/v1/texts"},
            replies={"/v1/texts": Reply(202, json={"id": "m1"})},
            to=_phone,
        ),
    )


def _pushes() -> tuple[Case, ...]:
    granted = Reply(200, json={"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"})
    return (
        Case(
            use="push_web",
            kind="web_push",
            settings=lambda url: {
                **LOOPBACK,
                "private_key": _keys(),
                "subject": "mailto:ops@example.com",
                "ports": [urlsplit(url).port],
            },
            replies={"/push/1": Reply(201, {"Location": "https://push.example.com/m/1"})},
            to=lambda url, _: _subscription(f"{url}/push/1"),
            target=None,  # each is encrypted for its reader (RFC 8291): the bare wire posts what is encrypted already
        ),
        Case(
            use="push_fcm",
            kind="mobile_push",
            settings=lambda url: {"service_account": _account(f"{url}/token"), "base_url": url},
            replies={
                "/v1/projects/shop-1/messages:send": Reply(200, json={"name": "projects/shop-1/messages/0:1"}),
                "/token": granted,
            },
            to=lambda _, number: f"token-{number}",
        ),
    )


def _hook() -> Case:
    return Case(
        use="hook_signed",
        kind="webhook",
        settings=lambda url: {
            **LOOPBACK,
            "secrets": ["whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()],
            "ports": [urlsplit(url).port],
        },
        replies={"/hook": Reply(204)},
        to=lambda url, _: f"{url}/hook",
    )


# --- keys, made once ---


@cache
def _keys() -> str:
    return vapid_keys().private_key


@cache
def _reader() -> dict[str, str]:
    """Make the keys of a browser."""
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {"p256dh": _url64(octets), "auth": _url64(b"0123456789abcdef")}


def _subscription(endpoint: str) -> str:
    return json.dumps({"endpoint": endpoint, "keys": _reader()})


@cache
def _pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _account(token_uri: str) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "shop-1",
            "private_key_id": "k1",
            "private_key": _pem(),
            "client_email": "push@shop-1.iam.example.com",
            "token_uri": token_uri,
        }
    )


def _url64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
