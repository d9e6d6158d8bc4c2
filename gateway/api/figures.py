"""`/v1/stats`: how many deliveries entered which status, by the hour."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import UNSET, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import Time, unix_ms
from gateway.api.operation import AnswerRule, Operation
from gateway.api.reading import Query
from gateway.errors import Code, Fault, invalid
from gateway.model.states import Scope
from gateway.router.answers import Answer, utc

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_MOST_DAYS: Final = 92
"""A quarter of hourly rows is a few ten thousand at most; a longer time would answer without an end in sight."""


class StatsQuery(Query, frozen=True, kw_only=True):
    """Which hours; default: the last 24."""

    since: Time | UnsetType = UNSET
    until: Time | UnsetType = UNSET


class HourAnswer(Answer, frozen=True, kw_only=True):
    """How many deliveries entered a status within one hour."""

    hour: str
    project: str
    channel: str
    provider: str | None
    status: str
    reason: str | None
    count: int


class StatsAnswer(Answer, frozen=True, kw_only=True):
    """The hours, and their sums by status."""

    since: str
    until: str
    totals: dict[str, int]
    items: list[HourAnswer]


async def stats(context: ApiContext, call: Call[StatsQuery, None]) -> Reply:
    """Count."""
    now = context.clock()
    until = unix_ms(call.query.until)
    until = now if until is None else until
    since = unix_ms(call.query.since)
    since = max(0, until - _DAY_MS) if since is None else since
    if until < since:
        raise invalid([Fault("until", Code.OUT_OF_RANGE, "Must not be before since.")])
    if until - since > _MOST_DAYS * _DAY_MS:
        raise invalid([Fault("since", Code.OUT_OF_RANGE, f"Ask for at most {_MOST_DAYS} days at once.")])
    rows = await context.store.stats(call.caller.sees, since - since % _HOUR_MS, until)
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row.status] += row.count
    return json_reply(
        StatsAnswer(
            since=utc(since),
            until=utc(until),
            totals=dict(totals),
            items=[
                HourAnswer(
                    hour=utc(row.hour),
                    project=row.project,
                    channel=row.channel,
                    provider=row.provider,
                    status=row.status,
                    reason=row.reason,
                    count=row.count,
                )
                for row in rows
            ],
        ),
    )


OPERATIONS: Final = (
    Operation(
        id="getStats",
        method="GET",
        path="/v1/stats",
        tag="Running it",
        summary="Count deliveries by hour and status",
        description="Counts how many deliveries entered each status, by the hour; default: the last 24 hours.",
        act=stats,
        scopes=(Scope.READ,),
        query=StatsQuery,
        answer=AnswerRule(type=StatsAnswer, description="Hours and totals."),
    ),
)
