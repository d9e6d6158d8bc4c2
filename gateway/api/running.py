"""Health, metrics and the way in: what load balancers, Prometheus and a curious browser ask for. No key needed."""

from __future__ import annotations

from typing import Final

import gateway
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.errors import UNAVAILABLE, Problem
from gateway.router.answers import Answer

_TAG: Final = "Running it"
_READY_RETRY_S: Final = 2


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """The gateway's state: `live` or `ready`."""

    status: str


class WelcomeAnswer(Answer, frozen=True, kw_only=True):
    """Where things are."""

    name: str
    version: str
    documentation: str
    openapi: str
    health: str


async def live(_context: ApiContext, _call: Call[NoQuery, None]) -> Reply:
    """Answer as long as the process serves."""
    return json_reply(HealthAnswer(status="live"))


async def ready(context: ApiContext, _call: Call[NoQuery, None]) -> Reply:
    """Answer whether it can do its work."""
    trouble = await context.ready()
    if trouble is not None:
        raise Problem(UNAVAILABLE, trouble, retry_after_s=_READY_RETRY_S)
    return json_reply(HealthAnswer(status="ready"))


async def metrics(context: ApiContext, _call: Call[NoQuery, None]) -> Reply:
    """Show all figures for Prometheus."""
    text, media_type = await context.scrape()
    return Reply(status=200, body=text, media_type=media_type.encode())


async def welcome(_context: ApiContext, _call: Call[NoQuery, None]) -> Reply:
    """Tell a visitor where things are."""
    return json_reply(
        WelcomeAnswer(
            name="Notification gateway",
            version=gateway.__version__,
            documentation="/schema",
            openapi="/schema/openapi.json",
            health="/health/ready",
        ),
    )


OPERATIONS: Final = (
    Operation(
        id="getWelcome",
        method="GET",
        path="/",
        tag=_TAG,
        summary="Tell where things are",
        act=welcome,
        open=True,
        answer=AnswerRule(type=WelcomeAnswer, description="Where things are."),
    ),
    Operation(
        id="getLiveness",
        method="GET",
        path="/health/live",
        tag=_TAG,
        summary="Say whether the process serves",
        act=live,
        open=True,
        answer=AnswerRule(type=HealthAnswer, description="It does."),
    ),
    Operation(
        id="getReadiness",
        method="GET",
        path="/health/ready",
        tag=_TAG,
        summary="Say whether database, migrations and dispatcher work",
        description="503 says in `detail` what does not.",
        act=ready,
        open=True,
        answer=AnswerRule(type=HealthAnswer, description="All of it works."),
    ),
    Operation(
        id="getMetrics",
        method="GET",
        path="/metrics",
        tag=_TAG,
        summary="Show all figures for Prometheus",
        act=metrics,
        open=True,
        answer=AnswerRule(type=str, media_type="text/plain", description="Prometheus text format."),
    ),
)
