"""Sends to topics become deliveries, slice by slice, beside everything else.

Owns how far one step goes and who gives way. Planning is `plan`, resolving is `resolve`: the code of every other send.
Who gets it is decided when their slice is planned: who subscribed before that does, who left before that does not.
However many processes do this, each slice is written once: it is claimed with a lease, and written only under the
claim's token, together with how far it brings the expansion. A process that dies leaves either all of a slice or
nothing, and another goes on when its lease runs out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from gateway.model import ids
from gateway.model.addresses import list_key
from gateway.model.ids import IdSource
from gateway.model.requests import Recipient, SendRequest
from gateway.model.states import Priority, Strategy
from gateway.model.turns import NEVER
from gateway.router.accept import Accepting
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.drafting import delivery_row
from gateway.router.plan import Ask, expiry, join_of, plan
from gateway.router.resolve import Reached, Resolver
from gateway.router.rules import DEFAULT_CATEGORY, Rules
from gateway.storage.contract import (
    DeliveryRow,
    Expanding,
    Lease,
    NotificationRow,
    Slice,
    Store,
    StoreUnavailable,
    Subscribers,
    UserRow,
)

SLICE: Final = 500
"""Subscribers of one transaction: some tens of milliseconds on SQLite, where others wait for it."""
_SMALL_SLICE: Final = 100
"""While many callers wait for their answers."""
_LEAST: Final = 20
"""What becomes of a slice that is halved as often as it took longer than its lease."""
_LEASE_MOST_MS: Final = 15_000
"""A slice takes a second at the very most, and a topic should not wait longer for a process that is gone."""
_BREATH: Final = 50
"""After so many rows others get their turn, as in `accept`."""
_REMEMBERED: Final = 8
"""Requests that are kept in mind between slices; more under way at once are read again."""

_ENCODE: Final = msgspec.json.Encoder().encode


class _Topic(msgspec.Struct, frozen=True):
    """What of a stored recipient concerns the subscribers of a topic."""

    locale: str | None = None
    timezone: str | None = None
    data: dict[str, Any] | None = None


class _Request(msgspec.Struct, frozen=True):
    """What of a stored request planning asks for. Lenient: what was accepted once must stay readable."""

    to: _Topic | list[_Topic]
    channels: list[str] | None = None
    strategy: Strategy | None = None
    escalate_after_s: int | None = None


_READ: Final = msgspec.json.Decoder(_Request).decode


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What every slice of an expansion needs: the request, and where it sends beside its topics."""

    ask: Ask
    request: SendRequest
    to: tuple[Recipient, ...]
    given: frozenset[tuple[str, str]]


class Expander:
    """Plans subscribers. `run` until cancelled; `sent` is set where this process accepts a send to a topic."""

    def __init__(
        self,
        *,
        worker: str,
        store: Store,
        accepting: Accepting,
        resolver: Resolver,
        rules: Rules,
        dispatcher: Dispatcher,
        clock: Callable[[], int],
        id_source: IdSource,
        lease_ms: int,
        poll_s: float,
        callers: Callers,
        has_room: Callable[[], bool],
        sent: asyncio.Event,
        log: Any,
    ) -> None:
        self._worker = worker
        self._store = store
        self._accepting = accepting
        self._resolver = resolver
        self._rules = rules
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = id_source
        self._lease_ms = min(lease_ms, _LEASE_MOST_MS)
        self._poll_s = poll_s
        self._callers = callers
        self._has_room = has_room
        self._log = log
        self._sent = sent
        self._size = SLICE
        self._known: OrderedDict[object, _Known] = OrderedDict()

    async def run(self) -> None:
        """Plan one slice after the other until cancelled."""
        while True:
            self._sent.clear()
            more = False
            try:
                more = await self.step()
            except Exception as error:  # noqa: BLE001 - the next one must not wait for ever; this one's lease runs out
                known = isinstance(error, StoreUnavailable)
                self._log.warning("expansion_failed", error=str(error), exc_info=None if known else error)
            if more:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._sent.wait()

    async def step(self) -> bool:
        """Plan one slice; answers whether there was one. Nothing is planned while too many deliveries wait already."""
        now = self._clock()
        if not self._has_room() or not await self._store.expansion_due(now):
            return False
        held = await self._store.claim_expansion(Lease(worker=self._worker, until=now + self._lease_ms), now)
        if held is None:
            return False
        try:
            await self._slice(held, now)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreUnavailable):
                await self._store.release_expansion(held.notification.id, held.token, self._clock())
            raise
        return True

    async def _slice(self, held: Expanding, now: int) -> None:
        about = held.notification
        known = await self._read(held)
        most = min(self._size, _SMALL_SLICE) if self._callers.are_many else self._size
        found = await self._store.next_subscribers(held, most)
        rows: list[DeliveryRow] = []
        if known is not None:
            people = await self._store.users_of(found.users)
            users = [people[id_] for id_ in found.users if id_ in people]
            rows = await self._rows(held, known, users, now)
        part = _part(held, found, rows, now, given_up=known is None)
        if not await self._store.expand(part):
            # Cancelled, or slower than the lease: then two processes would take it from each other for ever.
            self._size = max(_LEAST, self._size // 2)
            self._log.info("expansion_lost", notification_id=ids.show(ids.NOTIFICATION, about.id))
            return
        self._size = min(SLICE, self._size * 2)
        if part.finished:
            self._known.pop(about.id, None)
        first: dict[str, int] = {}
        for row in rows:
            if not row.final and row.due_at < NEVER:
                first[row.lane] = min(row.due_at, first.get(row.lane, NEVER))
        for lane, due_at in first.items():
            self._dispatcher.waiting(lane, due_at)

    async def _rows(self, held: Expanding, known: _Known, users: Sequence[UserRow], now: int) -> list[DeliveryRow]:
        """Plan these subscribers as every send is planned."""
        about = held.notification
        topic = known.to[held.expansion.topics[held.place][0]]
        reached = self._resolver.subscribers(known.ask, known.request, topic, about.mode, users)
        told = await self._accepting.known(reached)
        shared = await self._store.addresses_planned(about.id, _keys(reached))
        told = msgspec.structs.replace(told, planned=known.given.union(shared))
        planned = plan(known.ask, reached.targets, told, self._rules, now)
        who = [_ENCODE(one) for one in reached.addressees]
        rows: list[DeliveryRow] = []
        for count, (id_, one) in enumerate(zip(self._ids.many(now, len(planned)), planned, strict=True), 1):
            place = one.target.position
            join = join_of(one, known.ask, about.project, about.mode)
            position = held.expansion.position + place
            rows.append(delivery_row(id_, one, known.ask, position=position, who=who[place], join=join))
            if count % _BREATH == 0:
                await asyncio.sleep(0)
        return rows

    async def _read(self, held: Expanding) -> _Known | None:
        """Read the stored request, or remember it; `None`: nothing is kept of it, so nobody can be written to."""
        about = held.notification
        found = self._known.get(about.id)
        if found is None:
            if not about.request:
                return None
            asked = _READ(about.request)
            to = asked.to if isinstance(asked.to, list) else [asked.to]
            given: Sequence[tuple[str, str]] = ()
            if len(to) > len(held.expansion.topics):
                given = await self._store.addresses_given(about.id, len(to))
            found = _known(asked, to, about, self._rules, given)
            self._known[about.id] = found
        self._known.move_to_end(about.id)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


def _known(
    asked: _Request, to: Sequence[_Topic], about: NotificationRow, rules: Rules, given: Collection[tuple[str, str]]
) -> _Known:
    """Put together again what was resolved when the request was accepted."""
    category = rules.categories.get(about.category) or rules.categories[DEFAULT_CATEGORY]
    strategy = asked.strategy or category.strategy
    after_s = asked.escalate_after_s or category.settings.escalate_after_s
    ask = Ask(
        category=category,
        priority=Priority(about.priority),
        send_at=about.send_at,
        expires_at=about.expires_at,
        strategy=strategy,
        escalate_after_ms=after_s * 1000 if strategy is Strategy.ESCALATE and after_s is not None else None,
    )
    return _Known(
        ask=msgspec.structs.replace(ask, expires_at=expiry(ask, about.created_at)),
        request=SendRequest(to=Recipient(), channels=asked.channels),
        to=tuple(Recipient(locale=one.locale, timezone=one.timezone, data=one.data) for one in to),
        given=frozenset((channel, list_key(channel, address)) for channel, address in given),
    )


def _keys(reached: Reached) -> Collection[tuple[str, str]]:
    return {(one.channel, one.key) for one in reached.targets if one.address is not None}


def _part(held: Expanding, found: Subscribers, rows: Sequence[DeliveryRow], now: int, *, given_up: bool) -> Slice:
    """Say how far a slice brings its expansion: on in its topic, to the next one, or to the end."""
    place = held.place if found.more else held.place + 1
    return Slice(
        notification=held.notification,
        token=held.token,
        deliveries=tuple(rows),
        place=place,
        last_user=found.last_user if found.more else "",
        position=max([held.expansion.position, *(row.position + 1 for row in rows)]),
        finished=given_up or place >= len(held.expansion.topics),
        now=now,
    )
