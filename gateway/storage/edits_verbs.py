"""The store's verbs for edited templates."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.storage import edits
from gateway.storage.contract.edits import EditedRow, EditRow
from gateway.storage.database import Database


class EditVerbs:
    """Part of `SqlStore`; satisfies `contract.EditStore`."""

    _db: Database

    async def next_edit(self, project: str, key: str, now: int) -> int:
        """Give out the next number."""
        return await self._db.write(lambda conn: edits.next_number(conn, project, key, now))

    async def keep_edit(self, row: EditRow, source: bytes) -> None:
        """Keep a version."""
        await self._db.write(lambda conn: edits.keep(conn, row, source))

    async def edits(self, project: str, key: str) -> tuple[EditRow, ...]:
        """List versions."""
        return await self._db.read(lambda conn: edits.of(conn, project, key))

    async def publish_edit(self, project: str, key: str, number: int, now: int) -> bool:
        """Publish a version."""
        return await self._db.write(lambda conn: edits.publish(conn, project, key, number, now))

    async def unpublish_edit(self, project: str, key: str, now: int) -> bool:
        """Take the published version back."""
        return await self._db.write(lambda conn: edits.unpublish(conn, project, key, now))

    async def edited_templates(self) -> tuple[EditedRow, ...]:
        """List every edited template."""
        return await self._db.read(edits.edited)

    async def template_sources(self, versions: Collection[str]) -> Mapping[str, bytes]:
        """Load several texts."""
        return await self._db.read(lambda conn: edits.sources(conn, versions))
