"""Every golden request, judged by the schema that its provider (or who reads its pages for a living) publishes.

The contract suite holds that adapters send exactly their golden requests, so what is true of those is true of the
adapters. Where the schemas come from: `judges/README.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from channels.testing import GoldenRequest, HttpChannelContract
from tests.channels import (
    test_chat_discord,
    test_chat_telegram,
    test_email_brevo,
    test_email_postmark,
    test_email_resend,
    test_push_fcm,
    test_sms_twilio,
)

JUDGES = Path(__file__).parent / "judges"
JUDGED: Mapping[str, tuple[ModuleType, str]] = {
    "brevo": (test_email_brevo, r"/smtp/email"),
    "discord": (test_chat_discord, r"/api/webhooks/\d+/[^/]+"),
    "fcm": (test_push_fcm, r"/v1/projects/.*/messages:send"),
    "postmark": (test_email_postmark, r"/email"),
    "resend": (test_email_resend, r"/emails"),
    "telegram": (test_chat_telegram, r"/bot.*/sendMessage"),
    "twilio": (test_sms_twilio, r"/2010-04-01/.*/Messages\.json"),
}
_READ_FROM_A_FORM = {"integer": int, "number": float, "boolean": {"true": True, "false": False}.__getitem__}


def schema(name: str) -> dict[str, Any]:
    return json.loads((JUDGES / f"{name}.json").read_text())


def faults(name: str, body: Any) -> list[str]:
    """Say what the schema has against a body."""
    return [f"{one.json_path}: {one.message}" for one in Draft202012Validator(schema(name)).iter_errors(body)]


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
