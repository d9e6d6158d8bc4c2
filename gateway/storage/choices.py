"""What people chose, read for many at once, and the one look-up before a delivery goes.

Owns the reading. Who chose nothing costs nothing: `users.chosen_at` says so. Refuses to know which word decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from gateway.model.preferences import NO_CHOICES, Choice, Choices
from gateway.model.quiet import QuietHours
from gateway.storage import opt_outs, suppressions
from gateway.storage.bulk import Batch, Kind, Values, columns, run
from gateway.storage.contract import Consent, ConsentAsked
from gateway.storage.ledger import Books

QUIET_NAMES: Final = "u.chosen_at, u.quiet_start, u.quiet_end, u.quiet_timezone"
"""The columns of `users` that `choices_in` reads."""

_USER: Final = columns(user_id=Kind.TEXT)

_FIND_USERS: Final = Batch(
    f"SELECT u.user_id, u.timezone, {QUIET_NAMES} FROM v JOIN users AS u ON u.user_id = v.user_id",  # noqa: S608 - a constant
    _USER,
)

_FIND_CELLS: Final = Batch(
    "SELECT p.user_id, p.category, p.channel, p.allowed FROM v JOIN preferences AS p ON p.user_id = v.user_id",
    _USER,
)

Chosen = tuple[int | None, int | None, int | None, str | None]
"""The columns `QUIET_NAMES` of one user."""


def choices_in(conn: Connection, users: Mapping[str, Chosen]) -> dict[str, Choices]:
    """Read what people chose, by the columns that were read of their rows; those who chose nothing are left out."""
    chosen = {id_: quiet for id_, quiet in users.items() if quiet[0] is not None}
    cells: defaultdict[str, dict[Choice, bool]] = defaultdict(dict)
    for id_, category, channel, allowed in run(conn, _FIND_CELLS, [(id_,) for id_ in sorted(chosen)]):
        cells[id_][category, channel] = bool(allowed)
    return {id_: Choices(cells=cells.get(id_, {}), quiet_hours=quiet_hours_in(quiet)) for id_, quiet in chosen.items()}


def quiet_hours_in(chosen: Sequence[Any]) -> QuietHours | None:
    """Read the quiet hours among these columns."""
    _, start, end, timezone = chosen
    return None if start is None or end is None else QuietHours(start=start, end=end, timezone=timezone)


def consent(conn: Connection, asked: Sequence[ConsentAsked], *, books: Books) -> list[Consent]:
    """Look up for several deliveries who is suppressed, opted out, and chose what: a few statements for all of them."""
    suppressed = suppressions.look_up(conn, [_listed(one) for one in asked], books=books)
    left = opt_outs.look_up(conn, [_left(one) for one in asked])
    rows = run(conn, _FIND_USERS, [(id_,) for id_ in sorted({one.user_id for one in asked if one.user_id is not None})])
    users = {row[0]: row for row in rows}
    chosen = choices_in(conn, {id_: _chosen(row) for id_, row in users.items()})
    return [
        Consent(
            suppression=found[0] if found else None,
            opted_out=bool(opted_out),
            choices=chosen.get(one.user_id or "", NO_CHOICES),
            timezone=users[one.user_id][1] if one.user_id in users else None,
        )
        for one, found, opted_out in zip(asked, suppressed, left, strict=True)
    ]


def _listed(one: ConsentAsked) -> Collection[tuple[str, str]]:
    return () if one.key is None else ((one.channel, one.key),)


def _left(one: ConsentAsked) -> Collection[tuple[str, str, str]]:
    return () if one.key is None or one.category is None else ((one.channel, one.key, one.category),)


def _chosen(row: Values) -> Chosen:
    return (row[2], row[3], row[4], row[5])
