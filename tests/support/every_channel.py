"""Every channel with a provider's test server behind it: one server answers as each of them, by its path."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from channels.push_web import vapid_keys
from channels.testing_server import Reply

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
    "/push": Reply(201),
    "/v1/projects/shop-1/messages:send": Reply(200, json={"name": "projects/shop-1/messages/0:1"}),
    "/hook": Reply(204),
}
TOKEN = "/token"
CHANNELS = ["email", "slack", "discord", "teams", "telegram", "sms", "web_push", "mobile_push", "webhook"]


def answering(request: Any) -> Reply:
    """Answer as whichever provider lives at this path; the query does not matter."""
    path = request.target.partition("?")[0]
    if path == TOKEN:
        return Reply(200, json={"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"})
    return ROUTES[path]


@cache
def _service_account_key() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def service_account(url: str) -> str:
    """Write a service account whose access tokens come from the test's server."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "shop-1",
            "private_key_id": "k1",
            "private_key": _service_account_key(),
            "client_email": "push@shop-1.iam.example.com",
            "token_uri": f"{url}{TOKEN}",
        },
    )


def subscription(endpoint: str) -> dict[str, Any]:
    """Make what a browser's `PushSubscription` is as JSON."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    keys = {"p256dh": _base64url(point), "auth": _base64url(bytes(range(16)))}
    return {"endpoint": endpoint, "expirationTime": None, "keys": keys}


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def config(url: str, environment: str = "production") -> dict[str, Any]:
    """Configure every channel over a server at `url`."""
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
        "browsers": {
            "use": "push_web",
            "private_key": vapid_keys().private_key,
            "subject": "mailto:ops@example.com",
            "allow_private": ["127.0.0.0/8"],
            "ports": [int(url.rpartition(":")[2])],
            "allow_http_hosts": ["127.0.0.1"],
        },
        "phones": {"use": "push_fcm", "service_account": service_account(url), "base_url": url},
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
    """Make a recipient with an address on every channel."""
    return {
        "email": "ada@example.com",
        "phone": "+4915112345678",
        "slack": "ops",
        "discord": f"{url}/discord",
        "teams": f"{url}/teams",
        "telegram": "-100",
        "web_push": subscription(f"{url}/push"),
        "mobile_push": "a-registration-token",
        "webhook": f"{url}/hook",
    }
