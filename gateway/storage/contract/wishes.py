"""Wishes: what a person tells a provider about its messages, and what the store does with it.

A wish is about one sender ("STOP" to a number) or about one category ("unsubscribe" in a mail). Owns its row, its verbs
and which word counts where several were heard. Refuses to know how a provider says it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from gateway.storage.contract.rows import Row

HEARD_MOST: Final = 8
"""How many ids of heard words are remembered for one wish: a word that comes again is known by its id, since the
providers that send no time cannot be told apart by it."""


class Scope(StrEnum):
    """What a wish is about."""

    SENDER = "sender"
    CATEGORY = "category"


class Wish(Row, frozen=True, kw_only=True):
    """What an address last said about one sender or category (`scope`, `name`): no more (`stopped`), or again.

    `address` as suppressions are looked up; `source` is the provider that passed it on; `heard` the ids of the words
    heard last, oldest first; `at` Unix ms.
    """

    channel: str
    address: str
    scope: Scope
    name: str
    stopped: bool
    source: str
    detail: str | None = None
    heard: tuple[str, ...] = ()
    at: int


Place = tuple[str, str, str, str]
"""Channel, address, scope, name: what a wish is about."""

Stop = tuple[str, str, str]
"""Channel, address and sender."""


def place_of(wish: Wish) -> Place:
    """Say what a wish is about."""
    return (wish.channel, wish.address, wish.scope.value, wish.name)


def later(before: Wish | None, word: Wish) -> Wish | None:
    """Decide what a new word makes of what was known; `None` if it says nothing new.

    The latest word counts, whatever the order in which words come in; of two of one moment the one that says no more.
    A word that was heard before is not heard again. Pure.
    """
    if before is None:
        return word
    known = set(before.heard).intersection(word.heard)
    older = (word.at, word.stopped) < (before.at, before.stopped)
    if known or older or (word.at, word.stopped, word.heard) == (before.at, before.stopped, ()):
        return None
    return msgspec.structs.replace(word, heard=(*before.heard, *word.heard)[-HEARD_MOST:])


class WishStore(Protocol):
    """The verbs about wishes."""

    async def hear(self, words: Sequence[Wish]) -> int:
        """Take words in, in any order and however often; answers how many changed what may be sent.

        A word about a category is an opt-out of it, and taking it back lifts only what the same provider passed on.
        """
        ...

    async def stopped(self, asked: Collection[Stop]) -> Collection[Stop]:
        """Tell which of these (channel, address, sender) are stopped (gathers; reads)."""
        ...
