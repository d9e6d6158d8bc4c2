"""The queue in memory, by the contract of `Store`: for the simulation, which runs thousands of them.

`test_simulation` holds it against the real store: the same calls, the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from gateway.model.states import WAITING, Status
from gateway.model.turns import NEVER
from gateway.storage.contract import Claimed, DeliveryRow, Lease, Reservation, Settlement


@dataclass
class Queued:
    """A row of the queue."""

    claim: Claimed
    due_at: int
    worker: str | None = None
    token: int = 0
    attempts: int = 0
    losses: int = 0
    granted: bool = False
    unsure: bool = False


@dataclass
class Ended:
    """What became of a delivery."""

    status: Status
    at: int
    token: int


class Table:
    """Rows and what became of those that left."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Queued] = {}
        self.ended: dict[UUID, Ended] = {}
        self.grants: dict[str, list[int]] = {}
        self.called_back: set[UUID] = set()

    def insert(self, row: DeliveryRow, claim: Claimed) -> None:
        """Keep a new delivery; `claim` is what a claim of it will show."""
        queued = Queued(claim=claim, due_at=row.due_at)
        if row.lease is not None:
            queued.worker, queued.due_at, queued.token = row.lease.worker, row.lease.until, 1
        self.rows[row.id] = queued

    def claim(self, wanted: Mapping[str, int], lease: Lease, now: int) -> list[Claimed]:
        picked = [row for lane, most in wanted.items() for row in self._due(lane, now)[:most]]
        leased = [(row, self._lease(row, lease)) for row in picked]
        for row, claim in leased:
            if claim.id in self.called_back:
                row.worker, row.due_at = None, NEVER
        return [claim for _, claim in leased if claim.id not in self.called_back]

    def _due(self, lane: str, now: int) -> list[Queued]:
        due = [row for row in self.rows.values() if row.claim.lane == lane and row.due_at <= now]
        return sorted(due, key=lambda row: (row.due_at, row.claim.id))

    def _lease(self, row: Queued, lease: Lease) -> Claimed:
        row.losses += row.worker is not None
        row.worker, row.due_at = lease.worker, lease.until
        row.token += 1
        return msgspec.structs.replace(
            row.claim,
            token=row.token,
            attempts=row.attempts,
            lost=row.losses,
            granted=row.granted,
            unsure=row.unsure,
        )

    def settle(self, settlement: Settlement) -> bool:
        row = self._held(settlement.id, settlement.token)
        if row is None:
            return False
        if settlement.status in WAITING:
            row.due_at, row.worker, row.losses = settlement.due_at, None, 0
            row.granted, row.unsure = settlement.granted, settlement.unsure
            row.attempts += len(settlement.attempts)
        else:
            del self.rows[settlement.id]
            self.ended[settlement.id] = Ended(settlement.status, settlement.now, settlement.token)
        return True

    def renew(self, claims: Sequence[tuple[UUID, int]], until: int) -> set[UUID]:
        held = [row for id_, token in claims if (row := self._held(id_, token)) is not None]
        for row in held:
            row.due_at = until
        return {row.claim.id for row in held}

    def release(self, claims: Sequence[tuple[UUID, int]], due_at: int) -> None:
        for id_, token in claims:
            if (row := self._held(id_, token)) is not None:
                row.worker, row.due_at = None, due_at

    def reserve(self, ask: Reservation) -> int:
        granted = self.grants.setdefault(ask.key, [])
        at = ask.now
        if granted:
            at = max(at, granted[-1])
        if len(granted) >= ask.count:
            at = max(at, granted[-ask.count] + ask.window_ms)
        granted.append(at)
        return at

    def expire(self, now: int) -> None:
        """End what is past its deadline, in nobody's hand and surely not sent, as upkeep does."""
        for id_, row in list(self.rows.items()):
            if row.worker is None and not row.unsure and not row.losses and row.claim.deadline_at <= now:
                del self.rows[id_]
                self.ended[id_] = Ended(Status.EXPIRED, now, row.token)

    def cancel(self, id_: UUID, now: int) -> Status | None:
        """Call one back, as the store does; answers what it ended as, if it waited. Else it will when it waits."""
        row = self.rows.get(id_)
        if row is None or (row.worker is not None and row.due_at > now):
            self.called_back.add(id_)
            return None
        lost = row.unsure or row.losses or row.worker is not None
        status = Status.UNKNOWN if lost else Status.CANCELLED
        del self.rows[id_]
        self.ended[id_] = Ended(status, now, row.token)
        return status

    def _held(self, id_: UUID, token: int) -> Queued | None:
        row = self.rows.get(id_)
        return row if row is not None and row.token == token and row.worker is not None else None
