"""What people choose, written: by a service, on a page, by the link in a message, at a provider.

Owns the table `preferences` and the quiet hours among the columns of `users`. Whoever writes a person's choices locks
the person's row first, so that an erasure comes before or after. Refuses to know which word decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from gateway.model.preferences import EVERY, Choice, named_yes
from gateway.storage import opt_outs, people
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run
from gateway.storage.contract import (
    UNSUBSCRIBE_LINK,
    ChosenBy,
    OptOut,
    OptOutRow,
    PreferenceRow,
    PreferencesPut,
    PreferencesRow,
)

_PLACE: Final = columns(user_id=Kind.TEXT, category=Kind.TEXT, channel=Kind.TEXT)

_WRITE_QUIET: Final = Query(
    """
    UPDATE users
    SET quiet_start = $2, quiet_end = $3, quiet_timezone = $4, quiet_source = $5, quiet_at = $6
    WHERE user_id = $1
    """,
)

_LOCK: Final = Batch(
    """
    UPDATE users SET chosen_at = v.now FROM v WHERE users.user_id = v.user_id
    RETURNING users.user_id
    """,
    columns(user_id=Kind.TEXT, now=Kind.INT),
)

_FIND: Final = Query(
    """
    SELECT p.category, p.channel, p.allowed, p.source, p.updated_at FROM preferences AS p
    WHERE p.user_id = $1 ORDER BY p.category, p.channel
    """,
)

_FIND_QUIET: Final = Query("SELECT u.quiet_source, u.quiet_at FROM users AS u WHERE u.user_id = $1")

_FIND_OPT_OUTS: Final = Query(
    """
    SELECT o.channel, o.address, o.category FROM addresses AS a
    JOIN opt_outs AS o ON o.channel = a.channel AND o.address = a.key
    WHERE a.user_id = $1 AND a.retired_at IS NULL
    """,
)

_WRITE: Final = insert_into(
    "preferences",
    (*_PLACE, *columns(allowed=Kind.BOOL, source=Kind.TEXT, updated_at=Kind.INT)),
    """
    ON CONFLICT (user_id, category, channel) DO UPDATE
    SET allowed = excluded.allowed, source = excluded.source, updated_at = excluded.updated_at
    """,
)

_DELETE: Final = Batch(
    """
    DELETE FROM preferences WHERE (user_id, category, channel) IN (SELECT user_id, category, channel FROM v)
    """,
    _PLACE,
)

_TAKE_BACK: Final = Batch(
    """
    DELETE FROM opt_outs WHERE (channel, address, category, source) IN
        (SELECT a.channel, a.key, v.category, v.source
         FROM v JOIN addresses AS a ON a.user_id = v.user_id AND a.channel = v.channel)
    """,
    (*_PLACE, *columns(source=Kind.TEXT)),
)

_RESUBSCRIBE: Final = Batch(
    """
    UPDATE preferences SET allowed = true, updated_at = v.at FROM v
    WHERE preferences.user_id = v.user_id AND preferences.category = v.category AND preferences.channel = v.channel
        AND preferences.source = v.source AND NOT preferences.allowed
    """,
    (*_PLACE, *columns(source=Kind.TEXT, at=Kind.INT)),
)


def one(conn: Connection, user_id: str) -> PreferencesRow | None:
    """Show what a person chose."""
    user = people.one(conn, user_id)
    if user is None:
        return None
    [(quiet_source, quiet_at)] = ask(conn, _FIND_QUIET, user_id)
    return PreferencesRow(
        user=user,
        cells=tuple(map(_row, ask(conn, _FIND, user_id))),
        quiet_source=None if quiet_source is None else ChosenBy(quiet_source),
        quiet_at=quiet_at,
        opt_outs=frozenset((row[0], row[1], row[2]) for row in ask(conn, _FIND_OPT_OUTS, user_id)),
    )


def lock(conn: Connection, user_id: str, now: int) -> bool:
    """Hold a person's row until the transaction ends; `False` if there is none."""
    return bool(run(conn, _LOCK, [(user_id, now)]))


def put(conn: Connection, asked: PreferencesPut) -> PreferencesRow | None:
    """Keep choices whole."""
    if not lock(conn, asked.user_id, asked.now):
        return None
    before = one(conn, asked.user_id)
    if before is None:
        raise AssertionError("a user who is locked cannot be gone")
    known = {row.choice: row.allowed for row in before.cells}
    run(conn, _DELETE, [(asked.user_id, *choice) for choice in sorted(known.keys() - asked.cells.keys())])
    changed = sorted((choice, allowed) for choice, allowed in asked.cells.items() if known.get(choice) is not allowed)
    run(conn, _WRITE, [(asked.user_id, *choice, allowed, asked.source, asked.now) for choice, allowed in changed])
    again = _asked_for(known, asked.cells, {address.channel for address in before.user.addresses})
    run(conn, _TAKE_BACK, [(asked.user_id, *choice, UNSUBSCRIBE_LINK) for choice in again])
    hours = asked.quiet_hours
    if hours != before.user.choices.quiet_hours:
        quiet = (None, None, None) if hours is None else (hours.start, hours.end, hours.timezone)
        ask(conn, _WRITE_QUIET, asked.user_id, *quiet, asked.source, asked.now)
    return one(conn, asked.user_id)


def leave(conn: Connection, row: OptOutRow, user_id: str | None) -> None:
    """Note what the link in a message says, of the address and of its person."""
    opt_outs.add(conn, row)
    if user_id is not None:
        _say(conn, [(user_id, row.category, row.channel, False, ChosenBy.LINK, row.created_at)])


def come_back(conn: Connection, key: OptOut, user_id: str | None, now: int) -> None:
    """Take that back."""
    opt_outs.remove(conn, key)
    if user_id is not None:
        _say(conn, [(user_id, key[2], key[0], True, ChosenBy.LINK, now)])


def heard(conn: Connection, said: Iterable[tuple[str, OptOut, bool, int]]) -> None:
    """Keep what people told a provider: (user, what about, whether to stop, when).

    A stop is a choice; that one may write again only takes back what was said there.
    """
    last = {(user_id, key[2], key[0]): (stop, at) for user_id, key, stop, at in said}
    rows = sorted((place, *word) for place, word in last.items())
    _say(conn, [(*place, False, ChosenBy.PROVIDER, at) for place, stop, at in rows if stop])
    run(conn, _RESUBSCRIBE, [(*place, ChosenBy.PROVIDER, at) for place, stop, at in rows if not stop])


def _say(conn: Connection, rows: Sequence[Values]) -> None:
    """Keep choices (user, category, channel, allowed, source, when) of people who are there."""
    latest = {row[0]: row[-1] for row in rows}
    there = {row[0] for row in run(conn, _LOCK, sorted(latest.items()))}
    run(conn, _WRITE, [row for row in rows if row[0] in there])


def _asked_for(before: Mapping[Choice, bool], after: Mapping[Choice, bool], channels: Iterable[str]) -> list[Choice]:
    """List the cells that a person now asks for in words that name the category, and did not before."""
    categories = {category for category, _ in after if category != EVERY}
    return [
        (category, channel)
        for category in sorted(categories)
        for channel in sorted(channels)
        if named_yes(after, category, channel) and not named_yes(before, category, channel)
    ]


def _row(row: Sequence[Any]) -> PreferenceRow:
    return PreferenceRow(
        category=row[0], channel=row[1], allowed=bool(row[2]), source=ChosenBy(row[3]), updated_at=row[4]
    )
