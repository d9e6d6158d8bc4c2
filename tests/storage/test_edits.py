"""Edited templates, on both databases."""

from __future__ import annotations

import asyncio

from gateway.storage.contract import EditRow
from gateway.storage.store import SqlStore


def row(number: int, *, project: str = "p", key: str = "k") -> EditRow:
    return EditRow(project=project, key=key, number=number, version=f"{project}/{key}/{number}", created_at=number)


async def draft(store: SqlStore, *, project: str = "p") -> EditRow:
    made = row(await store.next_edit(project, "k", 1), project=project)
    await store.keep_edit(made, b"text %d" % made.number)
    return made


async def test_whoever_asks_at_once_gets_another_number(store: SqlStore, open_store):
    other = await open_store()
    numbers = await asyncio.gather(*(one.next_edit("p", "k", 1) for one in (store, other) for _ in range(10)))
    assert sorted(numbers) == list(range(1, 21))
    assert await store.next_edit("q", "k", 1) == 1


async def test_versions_are_listed_newest_first_with_their_texts(store: SqlStore):
    made = [await draft(store) for _ in range(3)]
    await draft(store, project="q")
    assert await store.edits("p", "k") == tuple(reversed(made))
    assert await store.edits("p", "other") == ()
    assert await store.template_sources(["p/k/1", "p/k/3", "nothing"]) == {"p/k/1": b"text 1", "p/k/3": b"text 3"}
    assert await store.template_sources([]) == {}


async def test_one_version_is_published_and_can_be_taken_back(store: SqlStore):
    for _ in range(2):
        await draft(store)
    assert not await store.publish_edit("p", "k", 3, 10)
    assert not await store.publish_edit("q", "k", 1, 10)
    assert await store.publish_edit("p", "k", 1, 10)
    assert await store.publish_edit("p", "k", 2, 20)
    assert await store.publish_edit("p", "k", 1, 30)
    [edited] = await store.edited_templates()
    assert (edited.last_number, edited.published_number, edited.published_version) == (2, 1, "p/k/1")
    assert [(one.number, one.published_at) for one in await store.edits("p", "k")] == [(2, 20), (1, 10)]
    assert await store.unpublish_edit("p", "k", 40)
    assert not await store.unpublish_edit("p", "k", 40)
    [edited] = await store.edited_templates()
    assert (edited.published_number, edited.published_version) == (None, None)
