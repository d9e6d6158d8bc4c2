"""What is gathered into one message, in rows and verbs."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from gateway.storage.contract.rows import Row


class Gathering(Row, frozen=True, kw_only=True):
    """Ask for the whole digest for a delivery in hand: `token` is its claim's, `most` how many items are wanted."""

    digest_id: UUID
    delivery_id: UUID
    token: int
    most: int


class DigestItem(Row, frozen=True, kw_only=True):
    """One delivery that is part of a digest, with what its own message would have been made of.

    `request` is `None` where retention has taken it.
    """

    delivery_id: UUID
    notification_id: UUID
    reference: str | None
    template_version: str | None
    created_at: int
    request: bytes | None
    recipient: bytes


class Gathered(Row, frozen=True, kw_only=True):
    """A digest in the hands of the delivery that carries it: its newest items, oldest first, and how many there are."""

    items: tuple[DigestItem, ...]
    count: int


class DigestStore(Protocol):
    """Digests. Joining one is part of `accept` (`DeliveryRow.join`) and `settle` (`Settlement.join`).

    The first to join opens the digest and says when it is due. When it is due, whichever of its deliveries is claimed
    first carries it, and no other is sent: they wait for its settlement and end with it. If it ends without having been
    sent for a reason of its own (cancelled, expired, replaced), they are due at once, and another carries the digest.
    """

    async def gather(self, asked: Gathering) -> Gathered | None:
        """Make a delivery in hand carry its digest, and take the others (gathers; writes).

        `None`: another carries it, or the lease is lost; this claim is nobody's any more and must not be sent.
        Repeatable: a later attempt takes what is still waiting.
        """
        ...

    async def digest_due(self, name: str) -> int | None:
        """Tell when the digest of this name that is open now will be sent; `None` if there is none (reads)."""
        ...
