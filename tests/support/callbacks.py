"""What each provider's callbacks look like, signed as the provider signs them, by its own library where there is one.

Owns the configuration of one provider for each adapter that takes callbacks, and one report for each that such a
provider makes of a delivery. A forger has everything but the secrets.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

PUBLIC: Final = "https://notify.example.com"
TO: Final = {"email": "ada@example.com", "sms": "+15550100001", "slack": "C7"}
OURS: Final = "+15550100009"

TWILIO_TOKEN: Final = "twilio-auth-token"
TWILIO_ACCOUNT: Final = "AC0123456789abcdef0123456789abcdef"
SLACK_SECRET: Final = "slack-signing-secret"
RESEND_SECRET: Final = "whsec_" + base64.b64encode(b"resend-secret-of-thirty-two-octet").decode()
MAILGUN_KEY: Final = "mailgun-signing-key"
SMTP_SECRET: Final = "a-secret-of-our-own-mail-server"
PASSWORD: Final = "a-long-callback-password"
TOPIC: Final = "arn:aws:sns:eu-central-1:123456789012:ses-events"
SENDGRID_KEY: Final = ec.generate_private_key(ec.SECP256R1())
SNS_KEY: Final = rsa.generate_private_key(65537, 2048)
CERTIFICATE_URL: Final = (
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
)


@dataclass(frozen=True)
class Posted:
    """A request to `/v1/callbacks/…`."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: str = ""

    def altered(self) -> Posted:
        """Change what it says, and nothing about its signature."""
        return replace(self, body=self.body.replace(b"ada@", b"bob@").replace(b"+15550100001", b"+15550100002") + b" ")

    def without(self, *names: str) -> Posted:
        """Leave headers out."""
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})


@dataclass(frozen=True)
class Reporter:
    """One provider: how it is configured, and how it reports a hard bounce (or what is nearest) of a delivery.

    `post(delivery_id, now, to)`, `to` being whom it is about; `becomes` is what the delivery then is. `sealed` says
    whether the signature covers the body: with a password alone it does not.
    """

    channel: str
    use: str
    settings: Mapping[str, Any]
    post: Callable[[str, float, str], Posted]
    becomes: str = "bounced"
    sealed: bool = True
    suppresses: bool = True


def _json(value: Any, **headers: str) -> Posted:
    return Posted(json.dumps(value).encode(), {"content-type": "application/json", **headers})


def _iso(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def basic(user: str, password: str = PASSWORD) -> str:
    """Write an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def twilio(fields: Mapping[str, str], query: str = "", *, token: str = TWILIO_TOKEN) -> Posted:
    """Sign a form as Twilio does, by its own library."""
    url = f"{PUBLIC}/v1/callbacks/reporter" + (f"?{query}" if query else "")
    signature = RequestValidator(token).compute_signature(url, fields)
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    return Posted(urlencode(fields).encode(), headers, query)


def twilio_said(text: str, sid: str, *, to: str = OURS, who: str = TO["sms"], **more: str) -> Posted:
    """Make what Twilio posts when a person writes to our number."""
    fields = {"MessageSid": sid, "SmsSid": sid, "SmsStatus": "received", "From": who, "To": to, "Body": text, **more}
    return twilio(fields)


def _twilio_status(delivery: str, now: float, to: str) -> Posted:
    del now
    fields = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30005", "To": to, "From": OURS}
    return twilio(fields, urlencode({"delivery": delivery}))


def slack(payload: Mapping[str, Any], now: float, *, secret: str = SLACK_SECRET) -> Posted:
    """Sign an interaction as Slack does, by its own library."""
    body = urlencode({"payload": json.dumps(payload)})
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(int(now)), body=body)
    assert signature is not None
    return Posted(
        body.encode(),
        {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": str(int(now)),
            "x-slack-signature": signature,
        },
    )


def slack_press(delivery: str, now: float, to: str = TO["slack"], **more: Any) -> Posted:
    """Press the button that acknowledges."""
    return slack(
        {
            "type": "block_actions",
            "user": {"id": "U42"},
            "container": {"type": "message", "message_ts": "1.2", "channel_id": to},
            "actions": [{"type": "button", "action_id": "acknowledge", "value": delivery, "action_ts": f"{now:.3f}"}],
            **more,
        },
        now,
    )


def _resend(delivery: str, now: float, to: str) -> Posted:
    data = {
        "type": "email.bounced",
        "created_at": _iso(now),
        "data": {
            "email_id": "re-1",
            "to": [to],
            "tags": {"delivery": delivery},
            "bounce": {"type": "Permanent", "subType": "General", "message": "gone"},
        },
    }
    body = json.dumps(data)
    signature = Webhook(RESEND_SECRET).sign("msg_1", dt.datetime.fromtimestamp(now, dt.UTC), body)
    headers = {"svix-id": "msg_1", "svix-timestamp": str(int(now)), "svix-signature": signature}
    return Posted(body.encode(), {"content-type": "application/json", **headers})


def _sendgrid(delivery: str, now: float, to: str) -> Posted:
    event = {
        "event": "bounce",
        "type": "bounce",
        "status": "5.1.1",
        "email": to,
        "timestamp": now,
        "gateway_message_id": delivery,
        "sg_event_id": "e1",
        "bounce_classification": "Invalid Address",
    }
    stamp, body = str(int(now)), json.dumps([event]).encode()
    signature = base64.b64encode(SENDGRID_KEY.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    return Posted(
        body,
        {
            "content-type": "application/json",
            "x-twilio-email-event-webhook-timestamp": stamp,
            "x-twilio-email-event-webhook-signature": signature,
        },
    )


def _mailgun(delivery: str, now: float, to: str) -> Posted:
    stamp, token = str(int(now)), "t" * 50
    signature = hmac.new(MAILGUN_KEY.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
    event = {
        "event": "failed",
        "severity": "permanent",
        "reason": "bounce",
        "timestamp": now,
        "id": "e1",
        "recipient": to,
        "delivery-status": {"code": 550, "enhanced-code": "5.1.1"},
        "message": {"headers": {"message-id": "mg-1@mg.example.com"}},
        "user-variables": {"gateway_message_id": delivery},
    }
    return _json({"signature": {"timestamp": stamp, "token": token, "signature": signature}, "event-data": event})


def _postmark(delivery: str, now: float, to: str) -> Posted:
    bounce = {
        "RecordType": "Bounce",
        "MessageID": "pm-1",
        "ID": 1,
        "Type": "HardBounce",
        "Email": to,
        "BouncedAt": _iso(now),
        "Metadata": {"delivery": delivery},
    }
    return _json(bounce, authorization=basic("postmark"))


def _brevo(delivery: str, now: float, to: str) -> Posted:
    event = {"event": "hard_bounce", "email": to, "message-id": "<br-1@x>", "ts_epoch": int(now * 1000)}
    return _json({**event, "X-Mailin-custom": delivery}, authorization=basic("brevo"))


def _certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(SNS_KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(SNS_KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


CERTIFICATE: Final = _certificate()


def sns(message: str, now: float) -> Posted:
    """Sign a notification as SNS does (signature version 2)."""
    fields = {
        "Message": message,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "Timestamp": _iso(now),
        "TopicArn": TOPIC,
        "Type": "Notification",
    }
    signed = "".join(f"{name}\n{value}\n" for name, value in fields.items()).encode()
    signature = base64.b64encode(SNS_KEY.sign(signed, padding.PKCS1v15(), hashes.SHA256())).decode()
    envelope = {**fields, "SignatureVersion": "2", "Signature": signature, "SigningCertURL": CERTIFICATE_URL}
    return Posted(json.dumps(envelope).encode(), {"content-type": "text/plain; charset=UTF-8"})


def _ses(delivery: str, now: float, to: str) -> Posted:
    return sns(
        json.dumps(
            {
                "eventType": "Bounce",
                "mail": {
                    "messageId": "ses-1",
                    "timestamp": _iso(now),
                    "destination": [to],
                    "tags": {"gateway_message_id": [delivery]},
                },
                "bounce": {
                    "bounceType": "Permanent",
                    "bounceSubType": "General",
                    "timestamp": _iso(now),
                    "bouncedRecipients": [{"emailAddress": to, "status": "5.1.1"}],
                },
            }
        ),
        now,
    )


def _smtp(delivery: str, now: float, to: str) -> Posted:
    del now
    return Posted(bounce(delivery, to), {"content-type": "message/rfc822", "authorization": f"Bearer {SMTP_SECRET}"})


def bounce(delivery: str, to: str, status: str = "5.1.1", action: str = "failed") -> bytes:
    """Write a delivery report."""
    return "\r\n".join(
        [
            "From: MAILER-DAEMON@mx.example.com",
            "Subject: Undelivered Mail Returned to Sender",
            "MIME-Version: 1.0",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
            "",
            "--b",
            "Content-Type: message/delivery-status",
            "",
            "Reporting-MTA: dns; mx.example.com",
            "",
            f"Final-Recipient: rfc822; {to}",
            f"Action: {action}",
            f"Status: {status}",
            "",
            "--b",
            "Content-Type: text/rfc822-headers",
            "",
            f"Message-ID: <{delivery}@example.com>",
            f"To: {to}",
            "",
            "--b--",
            "",
        ]
    ).encode()


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()


def reporters(url: str, smtp_port: int) -> dict[str, Reporter]:
    """List them, their services on a test server at `url` and on an SMTP server of ours."""
    resend = {"api_key": "re_1", "base_url": url, "callback_secret": RESEND_SECRET}
    ses = {
        "region": "eu-central-1",
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "secret",
        "base_url": url,
        "sns_topics": [TOPIC],
        "sns_base_url": url,
    }
    sendgrid = {"api_key": "SG.1", "base_url": url, "webhook_public_key": _public(SENDGRID_KEY)}
    mailgun = {"api_key": "k", "domain": "mg.example.com", "base_url": url, "webhook_signing_key": MAILGUN_KEY}
    passworded = {"callback_password": PASSWORD, "base_url": url}
    twilio_ = {
        "account_sid": TWILIO_ACCOUNT,
        "auth_token": TWILIO_TOKEN,
        "sender": OURS,
        "base_url": url,
        "callback_url": f"{PUBLIC}/v1/callbacks/reporter",
    }
    slack_ = {
        "token": "xoxb-1",
        "base_url": f"{url}/api/",
        "signing_secret": SLACK_SECRET,
        "webhook_origins": [url],
    }
    smtp_ = {"host": "127.0.0.1", "port": smtp_port, "security": "none", "callback_secret": SMTP_SECRET}
    postmark = {"server_token": "t", "callback_username": "postmark", **passworded}
    brevo = {"api_key": "k", "callback_username": "brevo", **passworded}
    return {
        "twilio": Reporter("sms", "sms_twilio", twilio_, _twilio_status),
        "slack": Reporter("slack", "chat_slack", slack_, slack_press, becomes="sent", suppresses=False),
        "resend": Reporter("email", "email_resend", resend, _resend),
        "sendgrid": Reporter("email", "email_sendgrid", sendgrid, _sendgrid),
        "mailgun": Reporter("email", "email_mailgun", mailgun, _mailgun, sealed=False),
        "postmark": Reporter("email", "email_postmark", postmark, _postmark, sealed=False),
        "brevo": Reporter("email", "email_brevo", brevo, _brevo, sealed=False),
        "ses": Reporter("email", "email_ses", ses, _ses),
        "smtp": Reporter("email", "email_smtp", smtp_, _smtp, sealed=False),
    }
