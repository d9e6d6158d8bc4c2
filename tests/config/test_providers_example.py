"""The page of providers to copy from loads as it stands and taken in, has one of every adapter and names every key."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from channels.contract import Reason
from channels.http import WireSettings
from gateway.config.load import load
from gateway.registry import Registry
from tests.support.tls import make_certificates

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "deploy" / "providers.example.toml"
COMMON = {field.encode_name for field in msgspec.structs.fields(WireSettings)}
"""Named once, at the first provider that takes them."""


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


def verification_key() -> str:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def environment(registry: Registry) -> dict[str, str]:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    return {
        "SMTP_PASSWORD": "x",
        "SMTP_BOUNCE_SECRET": "a-long-secret-for-bounces",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SENDGRID_API_KEY": "SG.x",
        "SENDGRID_WEBHOOK_KEY": verification_key(),
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
        "SMS_KEY": "x",
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


def blocks() -> dict[str, str]:
    """Cut the page into its providers, by adapter."""
    found = re.split(r"^\[providers\.[a-z-]+\].*\n", EXAMPLE.read_text(), flags=re.MULTILINE)[1:]
    return {match[1]: block for block in found if (match := re.match(r'use = "(\w+)"', block))}


def test_every_provider_of_the_page_loads_and_none_is_left_out():
    registry = Registry.load()
    settings = load(EXAMPLE, environment(registry), registry)
    assert {one.use for one in settings.providers.values()} == set(registry.names())
    named = {name for channel in settings.channels.values() for name in channel.providers}
    assert named <= settings.providers.keys()


@pytest.mark.parametrize("adapter", Registry.load().names())
def test_the_page_names_every_key_of_an_adapter(adapter: str):
    fields = msgspec.structs.fields(Registry.load().adapter(adapter).Settings)
    named = set(re.findall(r"^#?(\w+) = ", blocks()[adapter].partition("\n# ---")[0], re.MULTILINE))
    wire = {field.encode_name: field.default for field in msgspec.structs.fields(WireSettings)}
    same = {one.encode_name for one in fields if one.encode_name in wire and one.default == wire[one.encode_name]}
    elsewhere = same if adapter != "email_ses" else set()
    assert {field.encode_name for field in fields} - named - elsewhere == set()


def test_the_common_keys_are_named_where_they_are_explained():
    named = set(re.findall(r"^#?(\w+) = ", blocks()["email_ses"], re.MULTILINE))
    assert COMMON - named == set()


def test_every_line_that_is_commented_out_loads_when_it_is_taken_in(tmp_path: Path):
    text = re.sub(r"^#(?=[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    certificates = make_certificates(tmp_path)
    file = tmp_path / "gateway.toml"
    file.write_text(text.replace("/etc/ssl/own-ca.pem", str(certificates.ca_file)))
    registry = Registry.load()
    settings = load(file, environment(registry), registry)
    assert settings.providers["own-api"].settings.outcomes == {
        "unknown_recipient": Reason.ADDRESS_DEAD,
        "409": Reason.MESSAGE_INVALID,
    }


def test_a_default_that_is_shown_is_the_default(tmp_path: Path):
    """A commented line of a plain value is either the default or stands where there is none."""
    registry = Registry.load()
    wrong = []
    for adapter, block in blocks().items():
        for field in msgspec.structs.fields(registry.adapter(adapter).Settings):
            shown = re.search(rf"^#{field.encode_name} = (.+?)(?:\s+#.*)?$", block, re.MULTILINE)
            if shown and field.default != "" and isinstance(field.default, (int, float, str)):
                value = tomllib.loads(f"x = {shown[1]}")["x"]
                wrong += [f"{adapter}.{field.encode_name}: {value}"] if value != field.default else []
    assert wrong == []
