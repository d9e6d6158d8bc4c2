"""The preference page's verbs: some choices change, the rest stays; the last word counts, whoever speaks at once."""

from __future__ import annotations

import asyncio

from gateway.model.preferences import EVERY
from gateway.model.quiet import QuietHours
from gateway.storage.contract import AddressChange, ChosenBy, OptOutRow, PreferencesChange, PreferencesPut, UserPut
from gateway.storage.store import SqlStore
from tests.storage.test_people import at
from tests.storage.test_people import put as person

NIGHT = QuietHours(start=1320, end=420)


def ada() -> UserPut:
    return person("42", at("ada@example.com"))


def change(**more: object) -> PreferencesChange:
    known = {"user_id": "42", "cells": {}, "address": ("email", "ada@example.com"), "source": ChosenBy.PAGE, "now": 2}
    return PreferencesChange(**{**known, **more})  # type: ignore[arg-type] # a test's shorthand


async def test_some_choices_change_and_the_rest_stays(store: SqlStore):
    await store.put_users([ada()])
    cells = {("marketing", "email"): True, ("news", EVERY): False}
    put = PreferencesPut(user_id="42", cells=cells, quiet_hours=NIGHT, source=ChosenBy.API, now=1)
    await store.put_preferences(put)
    row = await store.change_preferences(change(cells={("marketing", "email"): None, (EVERY, "sms"): False}))
    assert row is not None
    assert {one.choice: (one.allowed, one.source) for one in row.cells} == {
        ("news", EVERY): (False, ChosenBy.API),
        (EVERY, "sms"): (False, ChosenBy.PAGE),
    }
    assert row.user.choices.quiet_hours == NIGHT
    row = await store.change_preferences(change(quiet_hours=None))
    assert row is not None
    assert row.user.choices.quiet_hours is None


async def test_changes_at_once_do_not_undo_each_other(store: SqlStore):
    await store.put_users([ada()])
    categories = [f"category-{number}" for number in range(8)]
    await asyncio.gather(*(store.change_preferences(change(cells={(name, "email"): False})) for name in categories))
    row = await store.preferences("42")
    assert row is not None
    assert sorted(one.category for one in row.cells) == categories


async def test_a_yes_takes_back_what_any_address_of_theirs_said_of_that_cell(store: SqlStore):
    await store.put_users([ada()])
    several = [(name, "marketing") for name in ("ada", "other", "x")] + [("ada", "news")]
    for name, category in several:
        address = f"{name}@example.com"
        await store.opt_out(
            OptOutRow(channel="email", address=address, category=category, source="smtp-main", created_at=1)
        )
    asked = change(cells={("marketing", "email"): True}, address=("email", "other@example.com"))
    await store.change_preferences(asked)
    keys = [("email", "ada@example.com", "marketing"), ("email", "other@example.com", "marketing")]
    assert not await store.opted_out(keys)
    kept = [("email", "x@example.com", "marketing"), ("email", "ada@example.com", "news")]
    assert set(await store.opted_out(kept)) == set(kept)


async def test_nothing_is_kept_of_who_is_not_there(store: SqlStore):
    assert await store.change_preferences(change(cells={("marketing", "email"): True})) is None


async def test_an_address_leaves_and_comes_back(store: SqlStore):
    def said(leaves: set[str], back: set[str]) -> AddressChange:
        return AddressChange(
            channel="email", address="bob@example.com", leaves=leaves, comes_back=back, source="page", now=1
        )

    keys = [("email", "bob@example.com", name) for name in ("marketing", "news")]
    for _ in range(2):
        await store.change_address(said({"marketing", "news"}, set()))
    assert set(await store.opted_out(keys)) == set(keys)
    await store.change_address(said(set(), {"news"}))
    assert set(await store.opted_out(keys)) == {keys[0]}
