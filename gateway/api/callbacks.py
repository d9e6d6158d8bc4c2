"""`POST /v1/callbacks/{provider}`: what providers tell us, untouched until its signature is verified.

No key: the provider's own signature over the raw bytes is the proof.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from channels.contract import Callback
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.errors import MALFORMED, UNAUTHORIZED
from gateway.router.answers import Answer

_TAG: Final = "Callbacks"


class CallbackAnswer(Answer, frozen=True, kw_only=True):
    """How many of the reported events changed something; a repeat changes nothing."""

    changed: int


async def take(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Verify, read and apply."""
    provider = call.path["provider"]
    path = f"{context.settings.public_url.rstrip('/')}/v1/callbacks/{provider}"
    callback = Callback(
        url=f"{path}?{call.query_string}" if call.query_string else path,
        method="POST",
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in call.headers.items()},
        query=dict(parse_qsl(call.query_string, keep_blank_values=True)),
        body=call.raw,
    )
    return json_reply(CallbackAnswer(changed=await context.reports.take(provider, callback)))


OPERATIONS: Final = (
    Operation(
        id="takeCallback",
        method="POST",
        path="/v1/callbacks/{provider}",
        tag=_TAG,
        summary="Take a provider's report",
        description="For a configured provider's own webhooks: its signature over the raw bytes is the key.",
        act=take,
        open=True,
        untouched=True,
        answer=AnswerRule(type=CallbackAnswer),
        problems=(UNAUTHORIZED, MALFORMED),
    ),
)
