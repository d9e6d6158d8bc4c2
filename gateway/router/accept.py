"""From a decoded request to a 202 that is on disk.

Owns the order: idempotency, resolving, planning, storing, answering. Refuses to know HTTP; errors are `Problem`s. The
answer follows the commit, and a delivery that was born leased goes straight on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from gateway.errors import (
    IDEMPOTENCY_KEY_REUSED,
    UNAVAILABLE,
    Code,
    Fault,
    Problem,
)
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.requests import BatchItem, SendRequest
from gateway.model.states import FINAL, Mode, NotificationStatus, Priority, Scope, Status, lane_of
from gateway.model.turns import NEVER
from gateway.router import answers
from gateway.router.caller import Caller
from gateway.router.compose import Addressee
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.plan import Ask, Known, Planned, join_of, plan
from gateway.router.resolve import Reached, Resolved, Resolver, named_users, unknown_users
from gateway.router.rules import Rules
from gateway.storage.contract import (
    Acceptance,
    AcceptResult,
    AttachmentRow,
    Claimed,
    DeliveryRow,
    Expansion,
    Gone,
    Idempotency,
    Joining,
    KeyReused,
    NotificationRow,
    OptOut,
    Replayed,
    Store,
    Stored,
    Suppressed,
    UserRow,
)

_BUSY_RETRY_S: Final = 2
_FULL_RETRY_S: Final = 30
_BREATH: Final = 50
"""After so many items of a batch others get their turn: fifty take a few milliseconds."""

_ENCODE: Final = msgspec.json.Encoder().encode


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 202, and whether it is an earlier answer given again."""

    body: bytes
    replayed: bool = False


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved request on its way to the store, with the bytes it was read from."""

    request: SendRequest
    key: str | None
    body: bytes
    resolved: Resolved


class Accepting:
    """Accepts notifications. Safe for any number of concurrent calls."""

    def __init__(
        self,
        *,
        store: Store,
        resolver: Resolver,
        rules: Rules,
        dispatcher: Dispatcher,
        clock: Callable[[], int],
        id_source: IdSource,
        public_url: str,
        idempotency_ms: int,
        callers: Callers,
        pending_most: int,
        has_room: Callable[[], bool],
        on_accepted: Callable[[Mode, int], None],
        on_expansion: Callable[[], None],
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._rules = rules
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = id_source
        self._url = public_url.rstrip("/")
        self._idempotency_ms = idempotency_ms
        self._callers = callers
        self._pending_most = pending_most
        self._has_room = has_room
        self._on_accepted = on_accepted
        self._on_expansion = on_expansion

    async def send(
        self,
        caller: Caller,
        request: SendRequest,
        *,
        idempotency_key: str | None,
        body: bytes,
    ) -> Answered:
        """Accept one request; answers after the commit. `body` is what the caller sent, byte for byte.

        Raises `Problem`: 422 with every fault, 422 for a reused key, 503 when there is no room. `StoreUnavailable`
        passes through; nothing is stored then.
        """
        self._admit()
        self._callers.waiting += 1
        try:
            return await self._send(caller, request, idempotency_key, body)
        finally:
            self._callers.waiting -= 1

    def _admit(self) -> None:
        if self._callers.waiting >= self._pending_most:
            raise Problem(UNAVAILABLE, "Too many requests wait for the store.", retry_after_s=_BUSY_RETRY_S)
        if not self._has_room():
            raise Problem(UNAVAILABLE, "Too many deliveries wait already.", retry_after_s=_FULL_RETRY_S)

    async def batch(
        self,
        caller: Caller,
        items: Sequence[tuple[BatchItem, bytes] | Problem],
    ) -> list[Answered | Problem]:
        """Accept many at once, each with its own idempotency key and fate; answers in order.

        Each item comes with the bytes it was read from. One set of look-ups and one commit for all of them.
        """
        self._admit()
        self._callers.waiting += 1
        try:
            return await self._batch(caller, items)
        finally:
            self._callers.waiting -= 1

    async def _batch(
        self,
        caller: Caller,
        items: Sequence[tuple[BatchItem, bytes] | Problem],
    ) -> list[Answered | Problem]:
        now = self._clock()
        results: list[Answered | Problem | None] = [None] * len(items)
        asked: dict[int, _Asked] = {}
        requests = [item[0] for item in items if not isinstance(item, Problem)]
        people = await self.people_of(requests)
        await self._resolver.prepare(caller.project, *requests)
        for index, item in enumerate(items):
            if isinstance(item, Problem):
                results[index] = item
                continue
            request, body = item
            try:
                resolved = self._resolver.resolve(request, caller.mode, caller.project, people)
            except Problem as problem:
                results[index] = problem
            else:
                asked[index] = _Asked(request=request, key=request.idempotency_key, body=body, resolved=resolved)
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        for index, answered in zip(asked, await self._keep(caller, list(asked.values()), now), strict=True):
            results[index] = answered
        return [one for one in results if one is not None]

    async def _send(
        self,
        caller: Caller,
        request: SendRequest,
        idempotency_key: str | None,
        body: bytes,
    ) -> Answered:
        now = self._clock()
        if idempotency_key is not None:
            before = await self._store.recall(caller.key_id, idempotency_key, _hash(body), now)
            if isinstance(before, (Replayed, KeyReused)):
                return _replay(before)
        await self._resolver.prepare(caller.project, request)
        people = await self.people_of([request])
        resolved = self._resolver.resolve(request, caller.mode, caller.project, people)
        asked = _Asked(request=request, key=idempotency_key, body=body, resolved=resolved)
        [answered] = await self._keep(caller, [asked], now)
        if isinstance(answered, Problem):
            raise answered
        return answered

    async def _keep(self, caller: Caller, asked: Sequence[_Asked], now: int) -> list[Answered | Problem]:
        """Plan and store; one result each, in order.

        Nobody is asked first who is suppressed: almost nobody is. The store looks it up as it stores, and what
        presumed too much is planned again with what it found.
        """
        opt_outs = await self._opt_outs([one.resolved for one in asked])
        results: list[Answered | Problem | None] = [None] * len(asked)
        known = [Known(opt_outs=opt_outs, choices=one.resolved.choices) for one in asked]
        left = list(range(len(asked)))
        while left:
            drafts: list[tuple[Acceptance, bytes]] = []
            for count, place in enumerate(left, 1):
                drafts.append(self._draft_with_key(caller, asked[place], known[place], now))
                if count % _BREATH == 0:
                    await asyncio.sleep(0)
            stored = await self._store_all([draft for draft, _ in drafts], checked_at=now)
            again: list[int] = []
            for place, (_, answer), result in zip(left, drafts, stored, strict=True):
                match result:
                    case Stored():
                        results[place] = Answered(body=answer)
                    case Suppressed():
                        found = {(row.channel, row.address): row for row in result.rows}
                        both = {**known[place].suppressions, **found}
                        known[place] = msgspec.structs.replace(known[place], suppressions=both)
                        again.append(place)
                    case Gone():
                        results[place] = unknown_users(asked[place].request, result.users)
                    case Replayed() | KeyReused():
                        results[place] = _replay_or_problem(result)
                    case _:
                        assert_never(result)
            left = again
        fresh = sum(isinstance(one, Answered) and not one.replayed for one in results)
        self._on_accepted(caller.mode, fresh)
        return [one for one in results if one is not None]

    def _draft_with_key(self, caller: Caller, asked: _Asked, known: Known, now: int) -> tuple[Acceptance, bytes]:
        resolved = asked.resolved
        planned = plan(resolved.ask, resolved.targets, known, self._rules, now)
        acceptance, answer = self._draft(caller, asked, planned, known, now)
        if asked.key is None:
            return acceptance, answer
        remembered = Idempotency(
            key_id=caller.key_id,
            key=asked.key,
            body_hash=_hash(asked.body),
            answer=answer,
            expires_at=now + self._idempotency_ms,
        )
        return msgspec.structs.replace(acceptance, idempotency=remembered), answer

    async def people_of(self, requests: Sequence[SendRequest]) -> Mapping[str, UserRow]:
        """Look up all stored users whom these requests name, in one call; none are named: no call."""
        wanted = named_users(requests)
        return await self._store.users_of(wanted) if wanted else {}

    async def known(self, resolved: Reached) -> Known:
        """Look up what is known of the addressed, for `explain` and topics; choices came with the users."""
        rows = await self._store.suppressions_of(_addressed(resolved))
        return Known(
            suppressions={(row.channel, row.address): row for row in rows},
            opt_outs=await self._opt_outs([resolved]),
            choices=resolved.choices,
        )

    async def _opt_outs(self, several: Sequence[Reached]) -> Collection[OptOut]:
        """Look up who left a category, where it can be left."""
        wanted = {
            (channel, key, one.ask.category.name)
            for one in several
            if one.ask.category.settings.unsubscribe
            for channel, key in _addressed(one)
        }
        return await self._store.opted_out(wanted) if wanted else ()

    async def _store_all(self, drafts: Sequence[Acceptance], *, checked_at: int) -> Sequence[AcceptResult]:
        acceptances = [self._born(draft) for draft in drafts]
        try:
            results = await self._store.accept_many(acceptances)
        except BaseException:
            for acceptance in acceptances:
                self._withdraw(acceptance)
            raise
        for acceptance, result in zip(acceptances, results, strict=True):
            if isinstance(result, Stored):
                self._go_on(acceptance, checked_at)
            else:
                self._withdraw(acceptance)
        return results

    def _born(self, draft: Acceptance) -> Acceptance:
        """Lease what can go straight on to this process. The last step before storing, so that no slot is forgotten."""
        if not any(row.status is Status.QUEUED for row in draft.deliveries):
            return draft
        return msgspec.structs.replace(
            draft,
            deliveries=tuple(
                msgspec.structs.replace(row, lease=lease)
                if row.status is Status.QUEUED
                and (lease := self._dispatcher.offer(row, draft.notification.mode)) is not None
                else row
                for row in draft.deliveries
            ),
        )

    def _go_on(self, acceptance: Acceptance, checked_at: int) -> None:
        if acceptance.expansion is not None:
            self._on_expansion()
        for row in acceptance.deliveries:
            if row.lease is not None:
                self._dispatcher.start(_claim(acceptance, row), row.lease, checked_at=checked_at)
            elif row.status not in FINAL and row.due_at < NEVER:
                self._dispatcher.waiting(row.lane, row.due_at)

    def _withdraw(self, acceptance: Acceptance) -> None:
        for row in acceptance.deliveries:
            if row.lease is not None:
                self._dispatcher.withdraw(row.lane)

    def _draft(
        self,
        caller: Caller,
        asked: _Asked,
        planned: Sequence[Planned],
        known: Known,
        now: int,
    ) -> tuple[Acceptance, bytes]:
        request, resolved = asked.request, asked.resolved
        ask = resolved.ask
        notification_id, *delivery_ids = self._ids.many(now, 1 + len(planned))
        who = [_ENCODE(one) for one in resolved.addressees]
        rows = tuple(
            delivery_row(
                id_,
                one,
                ask,
                position=one.target.position,
                who=who[one.target.position],
                join=join_of(one, ask, caller.project, caller.mode),
            )
            for id_, one in zip(delivery_ids, planned, strict=True)
        )
        notification = NotificationRow(
            id=notification_id,
            project=caller.project,
            mode=caller.mode,
            category=ask.category.name,
            priority=ask.priority.value,
            template_key=resolved.template.key,
            template_version=resolved.template.version,
            reference=request.reference,
            request=_stored(request, asked.body),
            tags=tuple(dict.fromkeys(request.tags)),
            collapse_key=request.collapse_key,
            created_at=now,
            send_at=ask.send_at,
            expires_at=ask.expires_at,
        )
        acceptance = Acceptance(
            notification=notification,
            deliveries=rows,
            attachments=tuple(
                AttachmentRow(
                    filename=one.filename,
                    content_type=one.content_type,
                    content_id=one.content_id,
                    content=one.content,
                )
                for one in request.attachments
            ),
            presumed_clear=tuple(pair for pair in _addressed(resolved) if pair not in known.suppressions),
            expansion=_expansion(resolved, now),
        )
        return acceptance, self._answer(caller, resolved, notification, rows)

    def _answer(
        self,
        caller: Caller,
        resolved: Resolved,
        notification: NotificationRow,
        rows: tuple[DeliveryRow, ...],
    ) -> bytes:
        open_ = bool(resolved.topics) or any(not row.final for row in rows)
        scheduled = notification.send_at is not None and notification.send_at > notification.created_at
        if not open_:
            status = NotificationStatus.COMPLETED
        else:
            status = NotificationStatus.SCHEDULED if scheduled else NotificationStatus.PROCESSING
        created_at = answers.utc(notification.created_at)
        read = caller.may(Scope.READ)
        id_ = ids.show(ids.NOTIFICATION, notification.id)
        return _ENCODE(
            answers.NotificationAnswer(
                id=id_,
                status=status,
                mode=notification.mode,
                created_at=created_at,
                reference=notification.reference,
                status_url=f"{self._url}/v1/notifications/{id_}",
                deliveries=[
                    answers.planned(
                        row,
                        notification.id,
                        created_at,
                        _recipient(resolved.addressees[row.position], hide=not read),
                        address=row.address if read else answers.masked(row.address),
                    )
                    for row in rows
                ],
                expanding=True if resolved.topics else msgspec.UNSET,
            ),
        )


def delivery_row(
    id_: UUID, planned: Planned, ask: Ask, *, position: int, who: bytes, join: Joining | None
) -> DeliveryRow:
    """Make what is stored of a planned target; `who` is its addressee as JSON, `join` the digest it waits in."""
    target = planned.target
    return DeliveryRow(
        id=id_,
        channel=target.channel,
        lane=lane_of(target.channel, ask.priority),
        position=position,
        address=target.address,
        user_id=target.user_id,
        address_id=target.address_id,
        recipient=who,
        status=planned.status,
        reason=planned.reason,
        detail=planned.detail,
        final=planned.status in FINAL,
        due_at=planned.due_at,
        deadline_at=planned.deadline_at,
        on_unknown=planned.on_unknown,
        turn=planned.turn,
        join=join,
    )


def _expansion(resolved: Resolved, now: int) -> Expansion | None:
    """Note the topics: their subscribers are those of the moment when it may be sent."""
    if not resolved.topics:
        return None
    return Expansion(
        topics=resolved.topics,
        position=len(resolved.addressees),
        rank=list(Priority).index(resolved.ask.priority),
        due_at=max(now, resolved.ask.send_at or 0),
    )


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _addressed(resolved: Reached) -> Collection[tuple[str, str]]:
    """List the (channel, key) pairs that a suppression could concern, each once."""
    pairs = ((one.channel, one.key) for one in resolved.targets if one.address is not None and not one.simulated)
    return dict.fromkeys(pairs)


def _replay_or_problem(result: Replayed | KeyReused) -> Answered | Problem:
    try:
        return _replay(result)
    except Problem as problem:
        return problem


def _replay(result: Replayed | KeyReused) -> Answered:
    match result:
        case Replayed():
            return Answered(body=result.answer, replayed=True)
        case KeyReused():
            fault = Fault("Idempotency-Key", Code.IDEMPOTENCY_KEY_REUSED, "it was used with another body")
            raise Problem(
                IDEMPOTENCY_KEY_REUSED,
                "This Idempotency-Key was used with another body; use a new key for a new request.",
                faults=(fault,),
            )


def _stored(request: SendRequest, body: bytes) -> bytes:
    """Choose what is kept: the caller's own bytes, unless they carry files, which have a table of their own."""
    if not request.attachments:
        return body
    return _ENCODE(msgspec.structs.replace(request, attachments=[]))


def _claim(acceptance: Acceptance, row: DeliveryRow) -> Claimed:
    """Make of what was just stored what a claim would have read back."""
    notification = acceptance.notification
    return Claimed(
        id=row.id,
        notification_id=notification.id,
        project=notification.project,
        mode=notification.mode,
        channel=row.channel,
        lane=row.lane,
        category=notification.category,
        template_key=notification.template_key,
        template_version=notification.template_version,
        reference=notification.reference,
        request=notification.request,
        has_attachments=bool(acceptance.attachments),
        address=row.address or "",
        user_id=row.user_id,
        address_id=row.address_id,
        recipient=row.recipient,
        status=row.status,
        attempts=0,
        token=1,
        lost=0,
        granted=False,
        created_at=notification.created_at,
        due_at=row.due_at,
        deadline_at=row.deadline_at,
        on_unknown=row.on_unknown,
        notification_created_at=notification.created_at,
        collapse_key=notification.collapse_key,
        step=None if row.turn is None else row.turn.step,
        strategy=None if row.turn is None else row.turn.strategy,
    )


def _recipient(one: Addressee, *, hide: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"user": one.user, "locale": one.locale, "timezone": one.timezone}
    if not hide:
        shown |= {"name": one.name, "data": one.data}
    return {key: value for key, value in shown.items() if value is not None}
