"""Who wants what, where: a person's choices against a category's terms, and for each cell the word that decided.

A **cell** is one category on one channel. Pure. Owns the truth table and nothing else: refuses to know how choices are
stored, and who is suppressed (no choice lets a message go to a suppressed address).

The table, from the strongest word down. The first row that applies decides, and its name is the cell's `source`:

| source             | applies when                                                                   | allowed      |
|--------------------|--------------------------------------------------------------------------------|--------------|
| `lock`             | an administrator locked the cell (`[categories.X] locked = { sms = false }`)    | as locked    |
| `required`         | the category is `required` (which `default` never is)                           | yes          |
| `opt_out`          | the address itself left the category: a link in a message, a provider's report  | no           |
| `category_channel` | the person spoke of this category on this channel                               | as they said |
| `category`         | the person said no to the category (`enabled: false`)                           | no           |
| `channel`          | the person said no to the channel                                               | no           |
| `category`         | the person said yes to the category (`enabled: true`)                           | yes          |
| `category_default` | the category is closed by default (`default = false`, or for this channel)      | no           |
| `channel`          | the person said yes to the channel                                              | yes          |
| `category_default` | the category is open by default, and says so of this channel                    | yes          |
| `default`          | nobody said anything                                                            | yes          |

The specific beats the general: "marketing by e-mail, yes" beats "no e-mail" and "no marketing". An explicit no wins
where two words are equally specific: a category and a channel each name half of the cell, so "no SMS" holds for a
category that the person said yes to; and what an address said stands beside what its person said of the same cell. A
yes to a channel opens no category that is closed by default, since consent names what it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.model.quiet import QuietHours

EVERY: Final = ""
"""In a choice's category or channel: whichever it is. No category and no channel is called so."""


class Source(StrEnum):
    """Whose word decided a cell."""

    LOCK = "lock"
    REQUIRED = "required"
    OPT_OUT = "opt_out"
    CATEGORY_CHANNEL = "category_channel"
    CATEGORY = "category"
    CHANNEL = "channel"
    CATEGORY_DEFAULT = "category_default"
    DEFAULT = "default"


Choice = tuple[str, str]
"""What a choice is about: (category, channel), with `EVERY` in one of them where it speaks of all."""


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What a person chose: yes or no by (category, channel), and the hours in which they want to be left alone."""

    cells: Mapping[Choice, bool] = {}
    quiet_hours: QuietHours | None = None


NO_CHOICES: Final = Choices()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator says of a category.

    `default` holds for people who chose nothing; as a mapping it speaks of the channels it names, and of the others it
    says nothing.
    """

    name: str
    required: bool = False
    locked: Mapping[str, bool] = {}
    default: bool | Mapping[str, bool] = True

    def default_on(self, channel: str) -> bool | None:
        """Say what holds on a channel for who chose nothing; `None` where the category does not say."""
        if isinstance(self.default, bool):
            return None if self.default else False
        return self.default.get(channel)


class Cell(msgspec.Struct, frozen=True):
    """Whether a category may use a channel, and the word that decided."""

    allowed: bool
    source: Source


_NOBODY_SAID: Final = Cell(allowed=True, source=Source.DEFAULT)
_WORDS: Final = {
    Source.LOCK: "locked by the administrator",
    Source.REQUIRED: "the category is required",
    Source.OPT_OUT: "this address unsubscribed from the category",
    Source.CATEGORY_CHANNEL: "the person's choice for this category on this channel",
    Source.CATEGORY: "the person's choice for this category",
    Source.CHANNEL: "the person's choice for this channel",
    Source.CATEGORY_DEFAULT: "the category's default",
    Source.DEFAULT: "nobody chose otherwise",
}


def resolve(choices: Choices, terms: Terms, channel: str, *, opted_out: bool) -> Cell:
    """Decide one cell, as the table above says."""
    if (locked := terms.locked.get(channel)) is not None:
        return Cell(locked, Source.LOCK)
    if terms.required:
        return Cell(allowed=True, source=Source.REQUIRED)
    if opted_out:
        return Cell(allowed=False, source=Source.OPT_OUT)
    return _by_person(choices.cells, terms, channel) if choices.cells else _by_default(terms, channel)


def _by_person(cells: Mapping[Choice, bool], terms: Terms, channel: str) -> Cell:
    if (own := cells.get((terms.name, channel))) is not None:
        return Cell(own, Source.CATEGORY_CHANNEL)
    of_category, of_channel = cells.get((terms.name, EVERY)), cells.get((EVERY, channel))
    if of_category is False or of_channel is False:
        return Cell(allowed=False, source=Source.CATEGORY if of_category is False else Source.CHANNEL)
    if of_category:
        return Cell(allowed=True, source=Source.CATEGORY)
    default = _by_default(terms, channel)
    return Cell(allowed=True, source=Source.CHANNEL) if of_channel and default.allowed else default


def _by_default(terms: Terms, channel: str) -> Cell:
    default = terms.default_on(channel)
    if default is None:
        return _NOBODY_SAID
    return Cell(default, Source.CATEGORY_DEFAULT)


def words(cell: Cell) -> str:
    """Say why in a sentence's part, with the source's name: what `detail` shows."""
    return f"{cell.source.value}: {_WORDS[cell.source]}"


def named_yes(cells: Mapping[Choice, bool], category: str, channel: str) -> bool:
    """Say whether the person asked for a category on a channel in words that name the category."""
    own = cells.get((category, channel))
    return bool(cells.get((category, EVERY)) if own is None else own)
