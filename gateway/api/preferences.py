"""`/v1/users/{user_id}/preferences`: what a person wants to get, where, and when they want to be left alone.

Owns the border. One person, one say: preferences are shared by all projects.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation
from gateway.errors import not_found
from gateway.model.people import PreferencesRequest
from gateway.model.preferences import EVERY, Cell
from gateway.model.quiet import QuietHours, write_clock
from gateway.model.states import Scope
from gateway.router.answers import Answer
from gateway.storage.contract import ChosenBy, PreferencesRow

_TAG: Final = "People"


class CategoryAnswer(Answer, frozen=True, kw_only=True):
    """What the person said of a category. `enabled` is `null` where they said nothing of it as a whole."""

    enabled: bool | None
    channels: dict[str, bool]


class QuietHoursAnswer(Answer, frozen=True, kw_only=True):
    """When the person wants to be left alone; with `enabled: false`, never."""

    start: str | UnsetType = UNSET
    end: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class PreferencesAnswer(Answer, frozen=True, kw_only=True):
    """What a person chose, and `resolved`: may each category use each channel, and whose word is that.

    A `source` is `lock`, `required`, `opt_out`, `category_channel`, `category`, `channel`, `category_default` or
    `default`.
    """

    channels: dict[str, bool]
    categories: dict[str, CategoryAnswer]
    quiet_hours: QuietHoursAnswer | None
    resolved: dict[str, dict[str, Cell]]


async def show_preferences(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show what a person chose, and what follows from it."""
    user_id = call.path["user_id"]
    return _reply(context, user_id, await context.store.preferences(user_id) if user_id.isprintable() else None)


async def put_preferences(context: ApiContext, call: Call[NoQuery, PreferencesRequest]) -> Reply:
    """Keep what a person chooses, in place of what they chose before."""
    user_id = call.path["user_id"]
    put = context.preferences.put(user_id, call.body, ChosenBy.API, context.clock())
    return _reply(context, user_id, await context.store.put_preferences(put) if user_id.isprintable() else None)


def _reply(context: ApiContext, user_id: str, row: PreferencesRow | None) -> Reply:
    if row is None:
        raise not_found("user", user_id[:100])
    cells = row.user.choices.cells
    return json_reply(
        PreferencesAnswer(
            channels=_by_channel(row, EVERY),
            categories={
                name: CategoryAnswer(enabled=cells.get((name, EVERY)), channels=_by_channel(row, name))
                for name in context.preferences.shown_categories(row)
            },
            quiet_hours=shown_quiet_hours(row.user.choices.quiet_hours),
            resolved=context.preferences.resolved(row),
        ),
    )


def _by_channel(row: PreferencesRow, category: str) -> dict[str, bool]:
    cells = sorted(row.user.choices.cells.items())
    return {channel: allowed for (of, channel), allowed in cells if of == category and channel != EVERY}


def shown_quiet_hours(hours: QuietHours | None) -> QuietHoursAnswer | None:
    """Show quiet hours as they are written."""
    if hours is None:
        return None
    if hours.start == hours.end:
        return QuietHoursAnswer(enabled=False)
    return QuietHoursAnswer(
        start=write_clock(hours.start),
        end=write_clock(hours.end),
        timezone=UNSET if hours.timezone is None else hours.timezone,
    )


_EXAMPLE: Final = {
    "channels": {"sms": False},
    "categories": {"marketing": {"enabled": True, "channels": {"email": False}}},
    "quiet_hours": {"start": "22:00", "end": "07:00", "timezone": "Europe/Vienna"},
}

OPERATIONS: Final = (
    Operation(
        id="getPreferences",
        method="GET",
        path="/v1/users/{user_id}/preferences",
        tag=_TAG,
        summary="Show what a person wants to get, and where",
        act=show_preferences,
        scopes=(Scope.READ, Scope.MANAGE),
        answer=AnswerRule(type=PreferencesAnswer, description="Their choices, and what follows from them."),
    ),
    Operation(
        id="putPreferences",
        method="PUT",
        path="/v1/users/{user_id}/preferences",
        tag=_TAG,
        summary="Keep what a person wants to get, and where",
        description=(
            "Replaces the whole. The specific beats the general, and an explicit no wins: a choice for a category on a "
            "channel beats those for the category and for the channel, and a no to either of these two beats a yes to "
            "the other. `required` categories are sent whatever was chosen; a cell may be locked by the configuration. "
            "A yes that names a category takes back what was said by the link in a message."
        ),
        act=put_preferences,
        scopes=(Scope.MANAGE,),
        body=BodyRule(type=PreferencesRequest, examples={"whole": _EXAMPLE, "nothing": {}}),
        answer=AnswerRule(type=PreferencesAnswer, description="The choices as stored, and what follows from them."),
    ),
)
