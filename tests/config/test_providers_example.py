"""The page of providers to copy from loads as it stands, and has one of every adapter."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.config.load import load
from gateway.registry import Registry

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "deploy" / "providers.example.toml"
DEVELOPMENT_ONLY = {"dev_log", "sms_json"}


def service_account() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "example",
            "client_email": "gateway@example.iam.example.com",
            "private_key_id": "1",
            "private_key": pem,
            "token_uri": "https://oauth2.googleapis.com/token",
        },
    )


def test_every_provider_of_the_page_loads_and_none_is_left_out():
    registry = Registry.load()
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    environ = {
        "SMTP_PASSWORD": "x",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SENDGRID_API_KEY": "SG.x",
        "MAILGUN_API_KEY": "x",
        "MAILGUN_SIGNING_KEY": "x",
        "POSTMARK_SERVER_TOKEN": "x",
        "POSTMARK_WEBHOOK_PASSWORD": "a-long-callback-password",
        "RESEND_API_KEY": "re_x",
        "RESEND_WEBHOOK_SECRET": secret,
        "BREVO_API_KEY": "xkeysib-x",
        "BREVO_WEBHOOK_PASSWORD": "a-long-callback-password",
        "OWN_API_KEY": "x",
        "APPRISE_URL": "jsons://user:password@example.com/{to}",
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_SIGNING_SECRET": "8f742231b10e8888abcd99yyyzzz85a5",
        "SLACK_OPS_URL": "https://hooks.slack.com/services/T0/B0/x",
        "TELEGRAM_BOT_TOKEN": "123:abc",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "x",
        "VAPID_PRIVATE_KEY": registry.adapter("push_web").new_keys().private_key,
        "FCM_SERVICE_ACCOUNT": service_account(),
        "WEBHOOK_SECRET": secret,
    }
    settings = load(EXAMPLE, environ, registry)
    assert {one.use for one in settings.providers.values()} == set(registry.names()) - DEVELOPMENT_ONLY
    named = {name for channel in settings.channels.values() for name in channel.providers}
    assert named <= settings.providers.keys()
