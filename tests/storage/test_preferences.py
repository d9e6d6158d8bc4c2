"""Choices: kept whole, kept apart, read in a fixed number of statements, and gone with their person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import create_engine

from gateway.model.ids import IdSource
from gateway.model.preferences import Choices
from gateway.model.quiet import QuietHours
from gateway.model.states import Why
from gateway.storage import people, preferences
from gateway.storage.bulk import driver_of
from gateway.storage.contract import (
    UNSUBSCRIBE_LINK,
    ChosenBy,
    Consent,
    ConsentAsked,
    OptOutRow,
    PreferencesPut,
    SuppressionRow,
)
from gateway.storage.ledger import Books
from gateway.storage.schema import METADATA
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock, Rows
from tests.storage.test_people import at
from tests.storage.test_people import put as person

T = 1_764_000_000_000
ADA = ("email", "ada@example.com")
BOOKS = Books(IdSource(), shards=1, simulator="simulator", secret=b"")
NEWS = ("news", "")
NEWS_EMAIL = ("news", "email")
NIGHT = QuietHours(start=22 * 60, end=7 * 60, timezone="Europe/Vienna")


def put(
    cells: Mapping[tuple[str, str], bool],
    quiet_hours: QuietHours | None = None,
    *,
    user_id: str = "ada",
    source: ChosenBy = ChosenBy.API,
    now: int = T,
) -> PreferencesPut:
    return PreferencesPut(user_id=user_id, cells=cells, quiet_hours=quiet_hours, source=source, now=now)


def link(category: str = "news") -> OptOutRow:
    return OptOutRow(channel=ADA[0], address=ADA[1], category=category, source=UNSUBSCRIBE_LINK, created_at=T + 5)


async def choices(store: SqlStore, id_: str = "ada") -> Choices:
    return (await store.users_of([id_]))[id_].choices


async def audit(store: SqlStore, id_: str = "ada") -> list[tuple[str, str, bool, str, int]]:
    found = await store.preferences(id_)
    assert found is not None
    return [(row.category, row.channel, row.allowed, row.source.value, row.updated_at - T) for row in found.cells]


async def test_choices_are_kept_whole_and_what_stays_keeps_its_source_and_time(store: SqlStore):
    await store.put_users([person("ada"), person("bob")])
    assert await choices(store) == Choices()
    kept = await store.put_preferences(put({("", "sms"): False, NEWS: True, NEWS_EMAIL: False}, NIGHT))
    assert kept is not None
    assert kept.user.choices == await choices(store)
    assert (kept.user.choices.quiet_hours, kept.quiet_source, kept.quiet_at) == (NIGHT, ChosenBy.API, T)
    again = await store.put_preferences(put({NEWS: True, NEWS_EMAIL: True}, NIGHT, source=ChosenBy.PAGE, now=T + 9))
    assert again is not None
    assert again.quiet_at == T
    assert await audit(store) == [("news", "", True, "api", 0), ("news", "email", True, "page", 9)]
    assert await choices(store, "bob") == Choices()
    await store.put_preferences(put({}, now=T + 10))
    assert await choices(store) == Choices()


async def test_a_profile_that_is_stored_again_keeps_the_choices(store: SqlStore):
    await store.put_users([person("ada")])
    await store.put_preferences(put({NEWS: False}, NIGHT))
    await store.put_users([person("ada")])
    assert await choices(store) == Choices(cells={NEWS: False}, quiet_hours=NIGHT)


async def test_nobody_has_no_preferences(store: SqlStore):
    assert await store.preferences("nobody") is None
    assert await store.put_preferences(put({NEWS: False}, user_id="nobody")) is None
    await store.leave(link(), "nobody")
    assert await store.opted_out([(*ADA, "news")])


async def test_the_link_speaks_for_the_address_and_its_person_and_can_be_taken_back(store: SqlStore):
    await store.put_users([person("ada")])
    for _ in range(2):
        await store.leave(link(), "ada")
    assert await audit(store) == [("news", "email", False, "link", 5)]
    assert await store.opted_out([(*ADA, "news")])
    await store.come_back((*ADA, "news"), "ada", T + 6)
    assert await audit(store) == [("news", "email", True, "link", 6)]
    assert not await store.opted_out([(*ADA, "news")])


async def test_a_later_yes_that_names_the_category_takes_the_link_back_and_no_other_does(store: SqlStore):
    await store.put_users([person("ada", at("Ada@Example.com"))])
    for cells, left in (
        ({("", "email"): True}, True),
        ({NEWS_EMAIL: False, NEWS: True}, True),
        ({("other", "email"): True}, True),
        ({NEWS: True}, False),
    ):
        await store.leave(link(), "ada")
        await store.put_preferences(put(cells))
        found = await store.preferences("ada")
        assert found is not None
        assert bool(found.opt_outs) is bool(await store.opted_out([(*ADA, "news")])) is left


async def test_what_was_said_at_a_provider_stays_when_a_yes_is_written_here(store: SqlStore):
    await store.put_users([person("ada", at(ADA[1]))])
    await store.opt_out(OptOutRow(channel="email", address=ADA[1], category="news", source="ses", created_at=T))
    await store.put_preferences(put({NEWS_EMAIL: True}))
    assert await store.opted_out([(*ADA, "news")])


async def test_the_look_up_before_the_wire_answers_each_caller_its_own(store: SqlStore):
    await store.put_users([person("ada", timezone="Asia/Tokyo"), person("bob")])
    await store.put_preferences(put({NEWS: False}, NIGHT))
    await store.opt_out(link())
    listed = SuppressionRow(
        channel="email", address="dead@example.com", reason=Why.ADDRESS_DEAD, source="x", created_at=1
    )
    await store.suppress(listed)

    def ask(key: str | None, category: str | None = None, user_id: str | None = None) -> ConsentAsked:
        return ConsentAsked(channel="email", key=key, category=category, user_id=user_id)

    asked = [
        ask(ADA[1], "news", "ada"),
        ask(ADA[1]),
        ask("dead@example.com", "news", "nobody"),
        ask(None, None, "bob"),
    ]
    known = await asyncio.gather(*map(store.consent, asked))
    chosen = Choices(cells={NEWS: False}, quiet_hours=NIGHT)
    assert known == [
        Consent(opted_out=True, choices=chosen, timezone="Asia/Tokyo"),
        Consent(),
        Consent(suppression=listed),
        Consent(),
    ]


async def test_what_is_said_at_a_provider_of_a_message_to_a_user_is_their_choice(
    store: SqlStore, rows: Rows, clock: Clock
):
    await store.put_users([person("ada", at(ADA[1]))])
    await store.accept(rows.acceptance(rows.delivery(user_id="ada")))
    assert await store.settle(rows.sent(await rows.claim_one(store), "x"))
    said = [
        rows.change(type_, provider_id="x", at=at_) for type_, at_ in (("unsubscribed", T), ("resubscribed", T + 1))
    ]
    for change, allowed in ((said[0], False), (said[1], True), (said[0], True)):
        await store.apply_status([change], clock.now)
        [(category, channel, found, source, _)] = await audit(store)
        assert (category, channel, found, source) == ("orders", "email", allowed, "provider")
    # A choice made here is not undone by what is said there of resubscribing.
    await store.put_preferences(put({("orders", "email"): False}))
    await store.apply_status([rows.change("resubscribed", provider_id="x", at=T + 9)], clock.now)
    assert await audit(store) == [("orders", "email", False, "api", 0)]


def test_who_chose_nothing_costs_no_statement_more(tmp_path: Path):
    engine = create_engine(f"sqlite:///{tmp_path / 'counted.db'}")
    METADATA.create_all(engine)
    with engine.connect() as conn:
        counted: list[str] = []
        conn.exec_driver_sql("SELECT 1")
        driver_of(conn).set_trace_callback(counted.append)
        people.put(conn, [person(f"u{n}", at(f"u{n}@example.com")) for n in range(50)], books=BOOKS)
        chosen = {f"u{n}" for n in range(50)}
        counted.clear()
        people.of(conn, [chosen])
        assert len(counted) == 2
        for n in range(50):
            preferences.put(conn, put({NEWS: False}, NIGHT, user_id=f"u{n}"))
        counted.clear()
        [found] = people.of(conn, [chosen])
        assert len(counted) == 3
        assert all(one.choices == Choices(cells={NEWS: False}, quiet_hours=NIGHT) for one in found.values())
