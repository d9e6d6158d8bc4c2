"""Every golden request, judged by the schema that its provider (or who reads its pages for a living) publishes.

The contract suite holds that adapters send exactly their golden requests, so what is true of those is true of the
adapters. Mailgun's forms are judged where they are read, in `test_email_mailgun.py`. Where the schemas come from:
`judges/README.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import ModuleType
from typing import Any

import pytest

from channels.testing import GoldenRequest, HttpChannelContract
from tests.channels import (
    test_chat_discord,
    test_chat_teams,
    test_chat_telegram,
    test_email_brevo,
    test_email_postmark,
    test_email_resend,
    test_email_sendgrid,
    test_push_fcm,
    test_sms_twilio,
)
from tests.support.published import faults, schema

JUDGED: Mapping[str, tuple[ModuleType, str]] = {
    "brevo": (test_email_brevo, r"/smtp/email"),
    "discord": (test_chat_discord, r"/api/webhooks/\d+/[^/]+"),
    "fcm": (test_push_fcm, r"/v1/projects/.*/messages:send"),
    "postmark": (test_email_postmark, r"/email"),
    "resend": (test_email_resend, r"/emails"),
    "sendgrid": (test_email_sendgrid, r"/v3/mail/send"),
    "teams": (test_chat_teams, r"/.*"),
    "telegram": (test_chat_telegram, r"/bot.*/sendMessage"),
    "twilio": (test_sms_twilio, r"/2010-04-01/.*/Messages\.json"),
}
_READ_FROM_A_FORM = {"integer": int, "number": float, "boolean": {"true": True, "false": False}.__getitem__}


def golden(name: str) -> list[GoldenRequest]:
    """List the module's golden requests to the operation that the schema is about."""
    module, path = JUDGED[name]
    suites = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, HttpChannelContract)]
    rows = [row for suite in suites for row in suite.requests]
    return [row for row in rows if re.fullmatch(path, row.path.partition("?")[0])]


def body_of(name: str, row: GoldenRequest) -> Any:
    """Give the body as the schema speaks of it: in a form, every value is text."""
    if row.form is None:
        return row.json
    properties = schema(name)["properties"]
    return {
        key: _READ_FROM_A_FORM.get(properties.get(key, {}).get("type"), str)(text) for key, text in row.form.items()
    }


@pytest.mark.parametrize("name", JUDGED)
def test_the_published_schema_takes_every_golden_request(name: str):
    rows = golden(name)
    assert rows, "nothing was judged"
    wrong = {row.name: found for row in rows if (found := faults(name, body_of(name, row)))}
    assert not wrong


@pytest.mark.parametrize("name", JUDGED)
def test_the_judge_would_notice_a_misspelt_name(name: str):
    body = body_of(name, golden(name)[0])
    assert faults(name, {**body, "no_such_field": "x"})


def inside(body: Any) -> Iterator[dict[str, Any]]:
    """Walk the objects in a body, the body itself first."""
    if isinstance(body, dict):
        yield body
    for one in body.values() if isinstance(body, dict) else body if isinstance(body, list) else ():
        yield from inside(one)


NESTED = {
    "brevo": "sender",
    "fcm": "message",
    "postmark": "Headers",
    "sendgrid": "personalizations",
    "teams": "attachments",
}


@pytest.mark.parametrize("name", NESTED)
def test_the_judge_would_notice_a_misspelt_name_inside(name: str):
    """Also where the body is deep: in the objects of the field that is named here."""
    noticed = 0
    for row in golden(name):
        body = deepcopy(body_of(name, row))
        for one in inside(body.get(NESTED[name])):
            one["no_such_field"] = "x"
            noticed += bool(faults(name, body))
            del one["no_such_field"]
    assert noticed
