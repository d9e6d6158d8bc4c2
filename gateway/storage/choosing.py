"""The preference page's words, written: some of a person's choices, or what an address says for itself.

Owns no table: choices are `storage.preferences`'s and opt-outs `storage.opt_outs`'s. Refuses to know what was shown.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET
from sqlalchemy import Connection

from gateway.model.preferences import EVERY
from gateway.storage import opt_outs, preferences
from gateway.storage.bulk import Batch, Kind, columns, run
from gateway.storage.contract import AddressChange, OptOutRow, PreferencesChange, PreferencesPut, PreferencesRow

_FORGET: Final = Batch(
    "DELETE FROM opt_outs WHERE (channel, address, category) IN (SELECT channel, address, category FROM v)",
    columns(channel=Kind.TEXT, address=Kind.TEXT, category=Kind.TEXT),
)


def change(conn: Connection, asked: PreferencesChange) -> PreferencesRow | None:
    """Change some choices; the person is locked first, so that two changes at once follow one another."""
    if not preferences.lock(conn, asked.user_id, asked.now):
        return None
    before = preferences.one(conn, asked.user_id)
    if before is None:
        raise AssertionError("a user who is locked cannot be gone")
    known = before.user.choices
    cells = {choice: said for choice, said in {**known.cells, **asked.cells}.items() if said is not None}
    addresses = {(one.channel, one.key) for one in before.user.addresses} | {asked.address}
    back = [
        (channel, key, category)
        for (category, on), said in asked.cells.items()
        if said and EVERY not in (category, on)
        for channel, key in sorted(addresses)
        if channel == on
    ]
    run(conn, _FORGET, back)
    put = PreferencesPut(
        user_id=asked.user_id,
        cells=cells,
        quiet_hours=known.quiet_hours if asked.quiet_hours is UNSET else asked.quiet_hours,
        source=asked.source,
        now=asked.now,
    )
    return preferences.put(conn, put)


def change_address(conn: Connection, asked: AddressChange) -> None:
    """Note what an address says for itself."""
    run(conn, _FORGET, [(asked.channel, asked.address, category) for category in sorted(asked.comes_back)])
    rows = [
        OptOutRow(
            channel=asked.channel,
            address=asked.address,
            category=category,
            source=asked.source,
            created_at=asked.now,
        )
        for category in sorted(asked.leaves)
    ]
    opt_outs.add_many(conn, rows)
