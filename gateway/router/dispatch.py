"""Who works on what, and when: lanes, slots, claims and leases.

Owns the decision which delivery this process takes on next. Refuses to know what delivering means (`deliver`) and what
is stored afterwards (`settle`). Memory never holds more deliveries than there are slots.

A delivery accepted here while its lane has a free slot and no backlog is *born leased*: it goes straight on, with no
claim and no poll. Everything else waits in the table and is claimed in batches, oldest due first.

What was in hand when two workers in a row were lost may be what ended them. Such *suspects* are taken on one at a time:
the next crash then takes no other suspect with it, and only the culprit's attempts are used up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from channels.contract import Message
from gateway.middleware.breaker import Breaker, State
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.states import Mode, Priority, lane_of
from gateway.router.deliver import Abandoned, Deliver, Envelope
from gateway.router.often import Taken
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.rules import Rules
from gateway.router.settle import Done, settle
from gateway.storage.contract import Claimed, DeliveryRow, Lease, Settlement, Store, StoreUnavailable

_DEFAULT_SLOTS: Final = 32
_AWAY_MS: Final = 1000
"""How long a lane waits after the store failed it."""
_AHEAD_MS: Final = 2000
"""How far ahead of a provider's rate a lane reserves: further, and a stop would waste what was reserved."""
MANY_CALLERS: Final = 8
"""So many requests that wait for the store at once are more than an idle gateway ever sees."""
_REMEMBERED_S: Final = 0.05
"""How long many callers are remembered: longer than the moment between two commits in which none waits."""
_FEW: Final = 4
"""One in so many of its slots is what a lane works on while many callers wait: a fifth of the processor, measured."""
_SUSPECT: Final = 2
"""So many workers in a row that were lost with a delivery in hand make it a suspect: one may be chance."""
_APART_MS: Final = 100
"""How soon a suspect that has to wait for another is looked at again."""
_CANCEL_S: Final = 5
"""How long what is cut short at a stop may take to give its delivery back."""


class Callers:
    """Who waits for the store to keep what they sent. `accept` counts them, the dispatcher gives way to many."""

    def __init__(self) -> None:
        self.waiting = 0
        self._many_until = 0.0

    def come(self) -> None:
        """Count one more."""
        self.waiting += 1
        if self.waiting >= MANY_CALLERS:
            self._many_until = time.monotonic() + _REMEMBERED_S

    def go(self) -> None:
        """Count one less."""
        self.waiting -= 1

    @property
    def are_many(self) -> bool:
        """Say whether many wait, or did a moment ago: a commit answers all of them, and the next are on their way."""
        return self.waiting >= MANY_CALLERS or time.monotonic() < self._many_until


@dataclass(slots=True)
class Lane:
    """A queue of deliveries that share a fate. `backlog`: more may wait in the table than was last claimed."""

    name: str
    channel: str
    slots: int
    in_hand: int = 0
    asked: int = 0
    """Slots reserved while the store is asked for work."""
    backlog: bool = True
    closed_until: int = 0
    closed_ms: int = 0

    def close(self, now: int, until: int) -> None:
        """Take on nothing until then."""
        self.closed_until = until
        self.closed_ms = until - now

    def is_closed(self, now: int) -> bool:
        """Whether it is closed now. A clock that was set back does not keep it closed for as long as it jumped."""
        self.closed_until = min(self.closed_until, now + self.closed_ms)
        return self.closed_until > now

    @property
    def free(self) -> int:
        """Count the slots nobody holds."""
        return self.slots - self.in_hand - self.asked


@dataclass(slots=True)
class Hand:
    """A delivery this process holds, and until when."""

    lane: Lane
    until: int
    suspect: bool = False
    task: asyncio.Task[None] | None = None
    envelope: Envelope | None = None

    @property
    def is_on_wire(self) -> bool:
        """Say whether a provider has it, and its answer is all that is waited for."""
        return self.envelope is not None and self.envelope.on_wire


class Dispatcher:
    """Runs deliveries. `run` until `stop`; `offer`, `start` and `withdraw` serve `accept`."""

    def __init__(
        self,
        *,
        worker: str,
        store: Store,
        deliver: Deliver,
        providers: Providers,
        rules: Rules,
        raw: Callable[[Message], bytes],
        clock: Callable[[], int],
        id_source: IdSource,
        lease_ms: int,
        poll_ms: int,
        on_settled: Callable[[Claimed, Settlement], None],
        on_due: Callable[[str], None],
        callers: Callers,
        log: Any,
    ) -> None:
        self._worker = worker
        self._store = store
        self._deliver = deliver
        self._providers = providers
        self._raw = raw
        self._clock = clock
        self._ids = id_source
        self._lease_ms = lease_ms
        self._poll_ms = poll_ms
        self._on_settled = on_settled
        self._on_due = on_due
        self._callers = callers
        self._log = log
        self._lanes = {lane.name: lane for lane in _lanes(rules, providers)}
        self._hands: dict[tuple[UUID, int], Hand] = {}
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._alarm_at: int | None = None
        self._poll_at = 0.0
        self._drain_s = 0.0
        self._stopping = False
        self._working = False

    # --- for accept ---

    def offer(self, rows: Sequence[tuple[DeliveryRow, Mode]]) -> list[Lease | None]:
        """Reserve slots for deliveries that are about to be accepted; `None`: let it wait in the table.

        What stays in the house (captured, simulated) does not wait for a provider that is left alone.
        """
        if not self._working or self._stopping:
            return [None] * len(rows)
        now = self._clock()
        shut: set[str] = set()
        return [self._lease(row, mode, now, shut) for row, mode in rows]

    def _lease(self, row: DeliveryRow, mode: Mode, now: int, shut: set[str]) -> Lease | None:
        """Reserve a slot. `shut` remembers the lanes that take in nothing now: each offer only fills them further."""
        found = self._lanes.get(row.lane)
        if found is None:
            return None
        if found.free <= 0:
            found.backlog = True
            return None
        if found.name not in shut and (found.is_closed(now) or self._room(found, now) <= found.in_hand):
            shut.add(found.name)
        waits = found.backlog
        if found.name in shut:
            waits = self._deliver.leaves(mode, row.channel, row.address or "", row.stored_user)
        if waits:
            found.backlog = True
            return None
        found.in_hand += 1
        return Lease(worker=self._worker, until=now + self._lease_ms)

    def start(self, claim: Claimed, lease: Lease, *, checked_at: int) -> None:
        """Begin a delivery that was born leased and is on disk now."""
        self._take(claim, self._lanes[claim.lane], lease.until, checked_at)

    def withdraw(self, lane: str) -> None:
        """Give a reserved slot back: nothing was stored."""
        self._lanes[lane].in_hand -= 1
        self._wake.set()

    def waiting(self, lane: str, due_at: int) -> None:
        """Hear that a delivery waits in the table, due at `due_at`."""
        found = self._lanes.get(lane)
        if found is None:
            return
        if due_at <= self._clock():
            self.heard(lane)
            if found.free <= 0 or not self._working:
                self._on_due(lane)
        elif self._alarm_at is None or due_at < self._alarm_at:
            self._alarm_at = due_at
            self._wake.set()

    def heard(self, lane: str) -> None:
        """Hear, perhaps from another process, that something is due in a lane."""
        found = self._lanes.get(lane)
        if found is not None:
            found.backlog = True
            if found.free > 0:
                self._wake.set()

    def reopen(self, channel: str) -> None:
        """Hear that a channel's providers changed: look at once what its lanes may take on now."""
        for lane in self._lanes.values():
            if lane.channel == channel:
                lane.closed_until = 0
                lane.backlog = True
        self._wake.set()

    # --- life ---

    async def run(self) -> None:
        """Claim and deliver until stopped; what is in hand then is finished or given back."""
        self._working = True
        renewals = asyncio.create_task(self._renew())
        try:
            while not self._stopping:
                self._wake.clear()
                more = await self._round()
                if not more and not self._stopping:
                    await self._rest()
            await self._drain()
        finally:
            renewals.cancel()
            self._working = False
            self._ended.set()

    async def stop(self, drain_s: float) -> None:
        """Take on nothing more, finish what is in flight within `drain_s`, and give the rest back."""
        self._drain_s = drain_s
        self._stopping = True
        self._wake.set()
        if self._working:
            await self._ended.wait()

    async def _drain(self) -> None:
        """Wait for what is in hand, leases kept: what accept has offered and not yet started is in hand too."""
        try:
            async with asyncio.timeout(self._drain_s):
                while any(lane.in_hand for lane in self._lanes.values()):
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            late = [hand.task for hand in self._hands.values() if hand.task is not None]
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCEL_S)

    def in_hand(self) -> Mapping[str, int]:
        """Count the deliveries held, by lane."""
        return {lane.name: lane.in_hand for lane in self._lanes.values()}

    @property
    def healthy(self) -> bool:
        """Whether it runs and has not been asked to stop."""
        return self._working and not self._stopping

    # --- claiming ---

    async def _round(self) -> bool:
        """Claim once; answers whether another round makes sense at once."""
        now = self._clock()
        if asyncio.get_running_loop().time() >= self._poll_at or (self._alarm_at is not None and self._alarm_at <= now):
            self._look_everywhere(now)
        lanes = [lane for lane in self._lanes.values() if lane.backlog]
        wanted = {lane.name: count for lane in lanes if (count := self._wants(lane, now)) > 0}
        if not wanted:
            return False
        lease = Lease(worker=self._worker, until=now + self._lease_ms)
        for name, count in wanted.items():
            self._lanes[name].asked += count
            self._lanes[name].backlog = False  # `waiting` may say otherwise meanwhile
        claims = await self._claim(wanted, lease, now)
        if self._stopping:
            await self._give_back([(claim.id, claim.token) for claim in claims])
            return False
        got = dict.fromkeys(wanted, 0)
        suspects = [claim for claim in claims if claim.lost >= _SUSPECT]
        for claim in claims:
            got[claim.lane] += 1
            if claim.lost < _SUSPECT:
                self._take(claim, self._lanes[claim.lane], lease.until, 0)
        if suspects:
            await self._one_of(suspects, lease, now)
        for name, count in got.items():
            if count == wanted[name]:
                self._lanes[name].backlog = True
        return any(self._lanes[name].backlog and self._wants(self._lanes[name], now) > 0 for name in wanted)

    async def _claim(self, wanted: Mapping[str, int], lease: Lease, now: int) -> list[Claimed]:
        """Ask the store for work; a store that fails is left alone for a moment."""
        try:
            return await self._store.claim(wanted, lease, now)
        except Exception as error:  # noqa: BLE001 - whatever it was: a dispatcher that is gone sends nothing ever again
            known = isinstance(error, StoreUnavailable)
            self._log.warning("claim_failed", error=str(error), exc_info=None if known else error)
            for name in wanted:
                self._lanes[name].close(now, now + _AWAY_MS)
                self._lanes[name].backlog = True
            return []
        finally:
            for name, count in wanted.items():
                self._lanes[name].asked -= count

    async def _one_of(self, suspects: Sequence[Claimed], lease: Lease, now: int) -> None:
        """Take on one suspect, if none is in hand: a crash then names it. The others wait for a moment.

        They are given back first, so that the one cannot take them with it; they sent nothing, which is not counted.
        """
        first = 0 if any(hand.suspect for hand in self._hands.values()) else 1
        chosen, others = suspects[:first], suspects[first:]
        for claim in chosen:
            self._lanes[claim.lane].asked += 1
        at = now + _APART_MS
        await self._give_back([(claim.id, claim.token) for claim in others], due_at=at)
        for claim in others:
            self.waiting(claim.lane, at)
        for claim in chosen:
            self._lanes[claim.lane].asked -= 1
            self._take(claim, self._lanes[claim.lane], lease.until, 0)

    def _wants(self, lane: Lane, now: int) -> int:
        """Say how many deliveries a lane can take: few claims of many rows, rather than many of one."""
        if lane.is_closed(now):
            return 0
        free = min(lane.free, self._room(lane, now) - lane.in_hand)
        enough = max(1, (_few(lane) if self._callers.are_many else lane.slots) // 2)
        return free if free >= enough or (free > 0 and lane.in_hand == 0) else 0

    def _room(self, lane: Lane, now: int) -> int:
        """Say how many deliveries the lane's providers would let in now; closes the lane while none would."""
        handles = [handle for handle in self._providers.of(lane.channel) if not handle.standing.paused]
        slots = lane.slots
        # Callers wait for their answers and deliveries do not: while many do, they have most of the processor.
        if self._callers.are_many:
            on_wire = [hand for hand in self._hands.values() if hand.lane is lane and hand.is_on_wire]
            slots = min(slots, _few(lane) + len(on_wire))
        if not handles:
            return slots  # none is configured or all are paused: whatever comes is kept or held, and soon gone
        best = max(min(_admits(handle.breaker, slots, now), _soon(handle, slots)) for handle in handles)
        if best == 0:
            lane.close(now, max(now + 1, min(handle.breaker.until or now for handle in handles)))
            self._set_alarm(lane.closed_until)
        return best

    async def _rest(self) -> None:
        """Wait for a reason to look again: a slot, a new delivery, a due time, or the poll's turn."""
        wait_s = max(0.0, self._poll_at - asyncio.get_running_loop().time())
        if self._alarm_at is not None:
            wait_s = min(wait_s, max(0, self._alarm_at - self._clock()) / 1000)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            self._look_everywhere(self._clock())

    def _look_everywhere(self, now: int) -> None:
        """Have the next round look at every lane: another process may have put something there."""
        if self._alarm_at is not None and self._alarm_at <= now:
            self._alarm_at = None
        self._poll_at = asyncio.get_running_loop().time() + self._poll_ms / 1000  # no matter where the clock is set to
        for lane in self._lanes.values():
            lane.backlog = True

    def _set_alarm(self, at: int) -> None:
        if self._alarm_at is None or at < self._alarm_at:
            self._alarm_at = at

    # --- one delivery ---

    def _take(self, claim: Claimed, lane: Lane, until: int, checked_at: int) -> None:
        lane.in_hand += 0 if checked_at else 1
        hand = Hand(lane=lane, until=until, suspect=claim.lost >= _SUSPECT)
        # By token too: a process that was frozen beyond a lease may claim again what it still has in hand.
        self._hands[claim.id, claim.token] = hand
        hand.task = asyncio.create_task(self._work(claim, hand, checked_at))
        hand.task.add_done_callback(partial(self._put_down, claim.id, claim.token))

    def _put_down(self, id_: UUID, token: int, task: asyncio.Task[None]) -> None:
        hand = self._hands.pop((id_, token))
        hand.lane.in_hand -= 1
        if hand.lane.backlog or self._stopping:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("delivery_task_failed", exc_info=error, delivery_id=ids.show(ids.DELIVERY, id_))

    async def _work(self, claim: Claimed, hand: Hand, checked_at: int) -> None:
        envelope = hand.envelope = self._deliver.envelope(claim, lease_until=lambda: hand.until, checked_at=checked_at)
        try:
            done = await self._deliver.deliver(envelope)
        except Taken:
            return  # its lease went over to the delivery that carries it
        except asyncio.CancelledError:
            if not envelope.on_wire:
                await self._give_back([(claim.id, claim.token)])
            raise
        except (Abandoned, StoreUnavailable) as error:
            # The store is asked before the wire and never on it: this claim sent nothing, and must not count as lost.
            self._log.warning("delivery_left", error=str(error), delivery_id=ids.show(ids.DELIVERY, claim.id))
            await self._give_back([(claim.id, claim.token)])
            return
        await self._keep(claim, done)

    async def _give_back(self, claims: Sequence[tuple[UUID, int]], *, due_at: int = 0) -> None:
        """Release claims that sent nothing, unless somebody else has them by now; due at once, or at `due_at`.

        A store that is away is asked again for as long as a lease lasts: longer, and somebody has.
        """
        ends = self._clock() + self._lease_ms
        while claims and (now := self._clock()) < ends:
            try:
                await self._store.release(claims, max(now, due_at))
            except StoreUnavailable as error:
                self._log.warning("release_failed", error=str(error))
                await asyncio.sleep(_AWAY_MS / 1000)
            else:
                return

    async def _keep(self, claim: Claimed, done: Done) -> None:
        now = self._clock()
        settlement = settle(claim, done, now, raw=self._raw, new_id=self._ids.new(now))
        while True:
            try:
                held = await self._store.settle(settlement)
                break
            except StoreUnavailable as error:
                # The answer is in our hands and the lease is renewed: keep trying, or it would be sent twice.
                self._log.warning("settle_failed", error=str(error), delivery_id=ids.show(ids.DELIVERY, claim.id))
                await asyncio.sleep(_AWAY_MS / 1000)
        if not held:
            self._log.warning("lease_lost", delivery_id=ids.show(ids.DELIVERY, claim.id))
            return
        if not settlement.final:
            self.waiting(claim.lane, settlement.due_at)
        self._on_settled(claim, settlement)

    async def _renew(self) -> None:
        """Keep what is held: a slow provider may take longer than a lease."""
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            now = self._clock()
            newest = dict(sorted(self._hands))  # by delivery, its latest token: an older one is somebody else's by now
            old = {
                (id_, token): hand
                for id_, token in newest.items()
                if (hand := self._hands[id_, token]).until - now < self._lease_ms * 2 // 3
            }
            if not old:
                continue
            until = now + self._lease_ms
            try:
                kept = await self._store.renew(list(old), until)
            except Exception as error:  # noqa: BLE001 - without renewals every slow delivery would be sent twice
                known = isinstance(error, StoreUnavailable)
                self._log.warning("renew_failed", error=str(error), exc_info=None if known else error)
                continue
            for (id_, _), hand in old.items():
                if id_ in kept:
                    hand.until = until


def _few(lane: Lane) -> int:
    """Say how many of a lane's deliveries are worked on while callers go first. Those on the wire cost nothing."""
    return max(1, lane.slots // _FEW)


def _admits(breaker: Breaker, slots: int, now: int) -> int:
    """Say how many a breaker would let in now; one whose pause is over lets one in to try."""
    breaker.heed(now)
    if breaker.state is State.CLOSED:
        return slots
    if breaker.until is None:
        return breaker.allowed_now
    return 1 if breaker.until <= now else 0


def _soon(handle: ProviderHandle, slots: int) -> int:
    """Say how many a provider's rate lets go soon: who is taken on has its moment reserved, and waits for it here."""
    pace = handle.pace
    if pace is None:
        return slots
    calls = max(1, _AHEAD_MS * pace.count // pace.window_ms)
    return calls * handle.gate.places if handle.paced_calls else calls


def _lanes(rules: Rules, providers: Providers) -> Iterable[Lane]:
    for channel, rule in [*rules.channels.items(), (rules.events.name, rules.events)]:
        handles = providers.of(channel)
        slots = rule.settings.slots
        if slots is None:
            slots = _slots(handles[0]) if handles else _DEFAULT_SLOTS
        for priority in Priority:
            yield Lane(name=lane_of(channel, priority), channel=channel, slots=slots)


def _slots(handle: ProviderHandle) -> int:
    """Say how many of a lane's deliveries are in hand at once: so many that its first provider never waits for one."""
    return max(4 * handle.adapter.limits.concurrency, 2 * handle.gate.places)
