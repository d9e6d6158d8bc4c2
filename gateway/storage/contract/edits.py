"""Rows and verbs of templates edited through the API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec


class EditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an edited template. `published_at` is when it was first published: never, for a draft."""

    project: str
    key: str
    number: int
    version: str
    created_at: int
    published_at: int | None = None


class EditedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An edited template: its newest version, and the one that is published, if any."""

    project: str
    key: str
    last_number: int
    published_number: int | None
    published_version: str | None


class EditStore(Protocol):
    """Edited templates. None of these gathers: people call them, not traffic."""

    async def next_edit(self, project: str, key: str, now: int) -> int:
        """Give out the next number of a template, from 1; never the same one twice, whoever asks at once."""
        ...

    async def keep_edit(self, row: EditRow, source: bytes) -> None:
        """Keep a version and its text under a number that was given out."""
        ...

    async def edits(self, project: str, key: str) -> tuple[EditRow, ...]:
        """List the versions of one template, newest first."""
        ...

    async def publish_edit(self, project: str, key: str, number: int, now: int) -> bool:
        """Publish a version; `False` if there is none such. Repeatable."""
        ...

    async def unpublish_edit(self, project: str, key: str, now: int) -> bool:
        """Take a template's published version back; `False` if none was published."""
        ...

    async def edited_templates(self) -> tuple[EditedRow, ...]:
        """List every edited template of every project."""
        ...

    async def template_sources(self, versions: Collection[str]) -> Mapping[str, bytes]:
        """Load the kept texts of several versions; one that is not kept is left out."""
        ...
