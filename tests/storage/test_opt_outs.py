"""Opt-outs by address, on both databases."""

from __future__ import annotations

from gateway.storage.contract import OptOutRow
from gateway.storage.store import SqlStore

MARKETING = ("email", "ada@example.com", "marketing")


def row(channel: str, address: str, category: str) -> OptOutRow:
    return OptOutRow(channel=channel, address=address, category=category, source="link", created_at=1)


async def test_an_opt_out_concerns_one_address_and_one_category(store: SqlStore):
    assert await store.opt_out(row(*MARKETING))
    asked = [MARKETING, ("email", "ada@example.com", "orders"), ("email", "bob@example.com", "marketing")]
    assert set(await store.opted_out(asked)) == {MARKETING}


async def test_saying_it_again_changes_nothing_and_taking_it_back_works(store: SqlStore):
    assert await store.opt_out(row(*MARKETING))
    assert not await store.opt_out(row(*MARKETING))
    assert await store.opt_in(MARKETING)
    assert not await store.opt_in(MARKETING)
    assert not await store.opted_out([MARKETING])


async def test_nobody_asked_about_is_nobody(store: SqlStore):
    assert not await store.opted_out([])
