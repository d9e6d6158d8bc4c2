"""People and their addresses, on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.model.states import Why
from gateway.storage import people
from gateway.storage.contract import (
    ADDRESSES_MOST,
    AddressPut,
    AddressRow,
    TooManyAddresses,
    UserFilter,
    UserPut,
    UserRow,
)
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import Clock, Rows


def at(address: str, channel: str = "email", **more: Any) -> AddressPut:
    return AddressPut(channel=channel, address=address, key=address.lower(), **more)


def put(id_: str, *addresses: AddressPut, now: int = 5, **more: Any) -> UserPut:
    values = {"name": "Ada", "locale": None, "timezone": None, "attributes": b"{}"} | more
    return UserPut(id=id_, addresses=addresses, now=now, **values)


def places(user: UserRow | None) -> set[tuple[str, str]]:
    assert user is not None
    return {(one.channel, one.address) for one in user.addresses}


async def test_a_person_is_kept_whole_and_found(store: SqlStore) -> None:
    wanted = put("42", at("Ada@example.com", profile=True), at("token", "mobile_push", label="Pixel"), locale="de")
    [kept] = await store.put_users([wanted])
    assert kept.created
    found = await store.user("42")
    assert found == kept.user
    assert (found.name, found.locale, found.timezone, found.created_at) == ("Ada", "de", None, 5)
    email, push = found.addresses
    assert (email.channel, email.address, email.key, email.profile) == (
        "email",
        "Ada@example.com",
        "ada@example.com",
        True,
    )
    assert (push.label, push.profile, push.retired_at) == ("Pixel", False, None)
    assert await store.user("43") is None


async def test_storing_again_replaces_the_whole_and_keeps_the_ids_of_what_stays(store: SqlStore) -> None:
    [first] = await store.put_users([put("42", at("a@example.com"), at("b@example.com", label="old"))])
    [second] = await store.put_users([put("42", at("b@example.com"), at("c@example.com"), now=9, name=None)])
    assert not second.created
    assert (second.user.name, second.user.created_at, second.user.updated_at) == (None, 5, 9)
    assert places(second.user) == {("email", "b@example.com"), ("email", "c@example.com")}
    ids = {one.address: one.id for one in first.user.addresses}
    stayed = next(one for one in second.user.addresses if one.address == "b@example.com")
    assert (stayed.id, stayed.label, stayed.created_at) == (ids["b@example.com"], None, 5)
    assert await store.user("42") == second.user


async def test_a_thousand_are_kept_in_one_call_and_gathered_in_another(store: SqlStore) -> None:
    wanted = [put(f"u{n}", at(f"u{n}@example.com"), at(f"t{n}", "mobile_push")) for n in range(1000)]
    kept = await store.put_users(wanted)
    assert [one.user.id for one in kept] == [one.id for one in wanted]
    assert all(one.created for one in kept)
    assert not any(one.created for one in await store.put_users(wanted))
    found, none, some = await asyncio.gather(
        store.users_of([f"u{n}" for n in range(1000)]), store.users_of([]), store.users_of(["u7", "nobody"])
    )
    assert len(found) == 1000
    assert all(len(one.addresses) == 2 for one in found.values())
    assert (none, set(some)) == ({}, {"u7"})


async def test_of_one_user_twice_in_a_batch_the_later_counts(store: SqlStore) -> None:
    kept = await store.put_users([put("42", at("a@example.com")), put("42", at("b@example.com"), name="Later")])
    assert {one.user.name for one in kept} == {"Later"}
    assert places(await store.user("42")) == {("email", "b@example.com")}


async def test_many_changes_of_one_person_at_once_leave_one_whole(open_store: OpenStore) -> None:
    stores = [await open_store() for _ in range(2)]
    wanted = [put("42", at(f"{n}@example.com"), at(f"t{n}", "mobile_push"), name=str(n), now=n) for n in range(40)]
    await asyncio.gather(*[stores[n % 2].put_users([one]) for n, one in enumerate(wanted)])
    found = await stores[0].user("42")
    assert found is not None
    assert places(found) == {("email", f"{found.name}@example.com"), ("mobile_push", f"t{found.name}")}


async def test_an_address_joins_is_renamed_and_leaves(store: SqlStore) -> None:
    await store.put_users([put("42", at("a@example.com"))])
    added = await store.add_address("42", at("token", "mobile_push", label="Pixel"), 7)
    assert isinstance(added, AddressRow)
    again = await store.add_address("42", at("token", "mobile_push", label="Phone"), 8)
    assert isinstance(again, AddressRow)
    assert (again.id, again.label, again.created_at) == (added.id, "Phone", 7)
    assert places(await store.user("42")) == {("email", "a@example.com"), ("mobile_push", "token")}
    assert await store.add_address("43", at("token", "mobile_push"), 7) is None
    assert await store.remove_address("43", added.id) is None
    gone = await store.remove_address("42", added.id)
    assert gone == again
    assert await store.remove_address("42", added.id) is None


async def test_a_person_has_no_more_addresses_than_can_be_sent_to(store: SqlStore) -> None:
    await store.put_users([put("42", *[at(f"t{n}", "mobile_push") for n in range(ADDRESSES_MOST)])])
    assert isinstance(await store.add_address("42", at("one more", "mobile_push"), 7), TooManyAddresses)
    assert isinstance(await store.add_address("42", at("t0", "mobile_push"), 7), AddressRow)


async def test_a_retired_address_is_not_sent_to_is_shown_and_lives_again_only_when_added(
    store: SqlStore, rows: Rows
) -> None:
    await store.put_users([put("42", at("a@example.com"), at("b@example.com")), put("43", at("a@example.com"))])
    dead = rows.suppression("A@example.com", reason=Why.ADDRESS_DEAD, created_at=9)
    angry = rows.suppression("b@example.com", reason=Why.COMPLAINED)
    told = [("42", dead), ("42", dead), (None, dead), ("42", angry)]
    await store._db.write(lambda conn: people.retire(conn, told))
    assert places((await store.users_of(["42"]))["42"]) == {("email", "b@example.com")}
    assert places((await store.users_of(["43"]))["43"]) == {("email", "a@example.com")}, "another person's own"
    found = await store.user("42")
    assert found is not None
    dead = next(one for one in found.addresses if one.address == "a@example.com")
    assert (dead.retired_at, dead.retired_reason) == (9, "address_dead")
    await store.put_users([put("42", at("a@example.com"))])
    assert places((await store.users_of(["42"]))["42"]) == set(), "a profile that is stored again says nothing new"
    await store.add_address("42", at("a@example.com"), 10)
    assert places((await store.users_of(["42"]))["42"]) == {("email", "a@example.com")}


async def test_people_are_listed_newest_first_by_what_is_asked(store: SqlStore, clock: Clock) -> None:
    for n in range(5):
        addresses = [at(f"u{n}@example.com")] + ([at(f"t{n}", "mobile_push")] if n % 2 else [])
        await store.put_users([put(f"u{n}", *addresses, now=clock.now + n // 2)])

    async def listed(after: tuple[int, str] | None = None, limit: int = 10, **where: Any) -> list[str]:
        return [one.id for one in await store.users(UserFilter(**where), limit, after)]

    assert await listed() == ["u4", "u3", "u2", "u1", "u0"]
    assert await listed(limit=2) == ["u4", "u3"]
    assert await listed((clock.now + 1, "u3")) == ["u2", "u1", "u0"]
    assert await listed(channel="mobile_push") == ["u3", "u1"]
    assert await listed(channel="email", key="u2@example.com") == ["u2"]
    assert await listed(channel="sms", key="u2@example.com") == []
    assert await listed(since=clock.now + 1, until=clock.now + 2) == ["u3", "u2"]


@pytest.mark.parametrize("text", ["a/b", "ä😀", "a b", "'; DROP TABLE users; --", "%2F"])
async def test_any_printable_text_is_an_id(store: SqlStore, text: str) -> None:
    await store.put_users([put(text, at("a@example.com"))])
    assert places((await store.users_of([text]))[text]) == {("email", "a@example.com")}
    assert (await store.users(UserFilter(), 5, None))[0].id == text


async def test_a_hard_bounce_told_later_retires_and_a_soft_one_does_not(store: SqlStore, rows: Rows) -> None:
    await store.put_users([put("42", at("Ada@example.com"), at("two@example.com"))])
    await store.accept(
        rows.acceptance(
            rows.delivery(user_id="42", address="Ada@example.com"),
            rows.delivery(user_id="42", address="two@example.com"),
        )
    )
    claims = await rows.claim(store)
    for one in claims:
        await store.settle(rows.sent(one, provider_id=one.address))
    changes = [
        rows.change("bounced", provider_id="Ada@example.com", reason=Why.ADDRESS_DEAD),
        rows.change("bounced", provider_id="two@example.com", reason=Why.CONTENT_REFUSED),
    ]
    assert await store.apply_status(changes, rows.clock.now) == 2
    assert places((await store.users_of(["42"]))["42"]) == {("email", "two@example.com")}
