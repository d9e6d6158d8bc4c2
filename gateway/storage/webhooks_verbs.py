"""The verbs of `SqlStore` for events to services."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from gateway.storage import accepting, echoes, outbox, webhooks
from gateway.storage.contract import MakeDelivery, OutboxState, WebhookRow
from gateway.storage.database import Database, Verb
from gateway.storage.ledger import Books

_FIND: Final[Verb[UUID, WebhookRow | None]] = Verb("webhook", webhooks.find)


class WebhookVerbs:
    """What `contract.WebhookStore` promises."""

    _db: Database
    _books: Books

    async def add_webhook(self, row: WebhookRow, most: int) -> bool:
        """Keep a new endpoint."""
        return await self._db.write(lambda conn: webhooks.add(conn, row, most))

    async def webhook(self, project: str | None, id_: UUID) -> WebhookRow | None:
        """Show one."""
        found = await self._db.gather_read(_FIND, id_)
        return found if found is not None and project in (None, found.project) else None

    async def webhooks(self, project: str | None, limit: int, before: UUID | None) -> list[WebhookRow]:
        """List newest first."""
        return await self._db.read(lambda conn: webhooks.listing(conn, project, limit, before))

    async def change_webhook(
        self, id_: UUID, *, enabled: bool | None, events: tuple[str, ...] | None, now: int
    ) -> bool:
        """Switch one on or off, or let it hear of other events."""
        return await self._db.write(lambda conn: webhooks.change(conn, id_, enabled=enabled, events=events, now=now))

    async def replace_secrets(self, id_: UUID, before: bytes, after: bytes) -> bool:
        """Exchange the sealed secrets."""
        return await self._db.write(lambda conn: webhooks.replace_secrets(conn, id_, before, after))

    async def delete_webhook(self, project: str | None, id_: UUID) -> bool:
        """Forget one."""
        return await self._db.write(lambda conn: webhooks.remove(conn, project, id_))

    async def replay_events(self, id_: UUID, since: int, until: int) -> bool:
        """Begin a replay."""
        return await self._db.write(lambda conn: webhooks.replay(conn, id_, since, until))

    async def outbox_state(self, failing_ms: int) -> OutboxState:
        """Tell what there is to do."""
        return await self._db.read(lambda conn: outbox.state(conn, failing_ms))

    async def relay_events(self, make: MakeDelivery, limit: int, now: int) -> int:
        """Turn noted events into deliveries."""
        return await self._db.write(lambda conn: _relay(conn, make, limit, now, books=self._books))

    async def replay_slice(self, limit: int) -> int:
        """Look through the next notifications for a replay."""
        return await self._db.write(lambda conn: outbox.replay_slice(conn, limit))

    async def switch_off_failing(self, failing_ms: int, now: int) -> list[WebhookRow]:
        """Switch off what is hopeless."""
        return await self._db.write(lambda conn: webhooks.switch_off_failing(conn, failing_ms, now))


def _relay(conn: Connection, make: MakeDelivery, limit: int, now: int, *, books: Books) -> int:
    taken, groups = outbox.take(conn, limit)
    for events in groups:
        made = [make(one, books.ids.new(now), books.ids.new(now)) for one in events]
        accepting.accept(conn, made, books=books)
        echoes.note(conn, [(one.notification.id, event) for one, event in zip(made, events, strict=True)])
    return taken
