"""From a decoded request to a 202 that is on disk.

Owns the order: idempotency, resolving, planning, storing, answering. Refuses to know HTTP; errors are `Problem`s. The
answer follows the commit, and a delivery that was born leased goes straight on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import copy_context
from typing import Final, assert_never
from uuid import UUID

import msgspec

from gateway.errors import (
    IDEMPOTENCY_KEY_REUSED,
    UNAVAILABLE,
    Code,
    Fault,
    Problem,
)
from gateway.model.ids import IdSource
from gateway.model.requests import BatchItem, SendRequest
from gateway.model.states import FINAL, Mode, Status
from gateway.model.turns import NEVER
from gateway.router.caller import Caller
from gateway.router.catalogue import names_version
from gateway.router.desk import Desk
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.drafting import Asked, Call, Draft, Drafting, addressed, hash_of
from gateway.router.plan import Known
from gateway.router.resolve import Reached, Resolver, named_users, unknown_users
from gateway.router.rules import Rules
from gateway.storage.contract import (
    Acceptance,
    AcceptResult,
    Claimed,
    DeliveryRow,
    Gone,
    KeyReused,
    Lease,
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
        self._dispatcher = dispatcher
        self._clock = clock
        self._callers = callers
        self._pending_most = pending_most
        self._has_room = has_room
        self._on_accepted = on_accepted
        self._on_expansion = on_expansion
        self._drafting = Drafting(
            rules=rules, id_source=id_source, public_url=public_url, idempotency_ms=idempotency_ms
        )
        self._desk: Desk[Call, Answered] = Desk(self._answer_all)

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
        self._callers.come()
        try:
            return await self._send(caller, request, idempotency_key, body)
        finally:
            self._callers.go()

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
        self._callers.come()
        try:
            return await self._batch(caller, items)
        finally:
            self._callers.go()

    async def _batch(
        self,
        caller: Caller,
        items: Sequence[tuple[BatchItem, bytes] | Problem],
    ) -> list[Answered | Problem]:
        now = self._clock()
        results: list[Answered | Problem | None] = [None] * len(items)
        requests = [item[0] for item in items if not isinstance(item, Problem)]
        await self._resolver.prepare(caller.project, *requests)
        context = copy_context()
        calls: dict[int, Call] = {}
        for index, item in enumerate(items):
            if isinstance(item, Problem):
                results[index] = item
            else:
                request, body = item
                calls[index] = Call(caller, request, request.idempotency_key, body, now, context)
        for index, answered in zip(calls, await self._answer_all(list(calls.values())), strict=True):
            if isinstance(answered, Exception) and not isinstance(answered, Problem):
                raise answered
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
            before = await self._store.recall(caller.key_id, idempotency_key, hash_of(body), now)
            if isinstance(before, (Replayed, KeyReused)):
                return _replay(before)
        if names_version(request):
            await self._resolver.prepare(caller.project, request)
        return await self._desk.ask(Call(caller, request, idempotency_key, body, now, copy_context()))

    async def _answer_all(self, calls: Sequence[Call]) -> list[Answered | Exception]:
        """Look up whom they name, resolve, plan and store; each one's answer, or what is wrong with it, in order.

        What fails is the affair of whoever asked for it: it leaves the others alone. Raises only what befalls all.
        """
        results: list[Answered | Exception | None] = [None] * len(calls)
        people = await self.people_of([call.request for call in calls])
        asked: dict[int, Asked] = {}
        for place, call in enumerate(calls):
            try:
                resolved = self._resolver.resolve(call.request, call.caller.mode, call.caller.project, people)
            except Exception as fault:  # noqa: BLE001 - a `Problem`, or a bug that only this request meets
                results[place] = fault
            else:
                asked[place] = Asked(call=call, resolved=resolved)
            if place % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
        for place, answered in zip(asked, await self._keep(list(asked.values())), strict=True):
            results[place] = answered
        return [one for one in results if one is not None]

    async def _keep(self, asked: Sequence[Asked]) -> list[Answered | Exception]:
        """Plan and store; one result each, in order.

        Nobody is asked first who is suppressed: almost nobody is. The store looks it up as it stores, and what
        presumed too much is planned again with what it found.
        """
        results: dict[int, Answered | Exception] = {}
        known: dict[int, Known] = {}
        for place, opt_outs in enumerate(await self._opt_outs_of(asked)):
            if isinstance(opt_outs, Exception):
                results[place] = opt_outs
            else:
                known[place] = Known(opt_outs=opt_outs, choices=asked[place].resolved.choices)
        left = list(known)
        while left:
            drafts: dict[int, Draft] = {}
            for start in range(0, len(left), _BREATH):
                if start:
                    await asyncio.sleep(0)
                some = {place: asked[place] for place in left[start : start + _BREATH]}
                for place, draft in self._drafting.draft_all(some, known).items():
                    if isinstance(draft, Exception):
                        results[place] = draft
                    else:
                        drafts[place] = draft
            stored = await self._store_all([(asked[place].call, draft) for place, (draft, _) in drafts.items()])
            left = list[int]()
            for (place, (_, answer)), result in zip(drafts.items(), stored, strict=True):
                if isinstance(result, Suppressed):
                    known[place] = _knowing(known[place], result)
                    left.append(place)
                else:
                    results[place] = _answered(asked[place].call.request, answer, result)
        self._count(asked, results)
        return [results[place] for place in range(len(asked))]

    def _count(self, asked: Sequence[Asked], results: Mapping[int, Answered | Exception]) -> None:
        fresh = Counter(
            asked[place].call.caller.mode
            for place, result in results.items()
            if isinstance(result, Answered) and not result.replayed
        )
        for mode, count in fresh.items():
            self._on_accepted(mode, count)

    async def people_of(self, requests: Sequence[SendRequest]) -> Mapping[str, UserRow]:
        """Look up all stored users whom these requests name, in one call; none are named: no call."""
        wanted = named_users(requests)
        return await self._store.users_of(wanted) if wanted else {}

    async def known(self, resolved: Reached) -> Known:
        """Look up what is known of the addressed, for `explain` and topics; choices came with the users."""
        rows = await self._store.suppressions_of(addressed(resolved))
        return Known(
            suppressions={(row.channel, row.address): row for row in rows},
            opt_outs=await self._opt_outs(resolved),
            choices=resolved.choices,
        )

    async def _opt_outs_of(self, asked: Sequence[Asked]) -> Sequence[Collection[OptOut] | Exception]:
        """Look up who left a category, for each where it can be left."""
        wanted = {
            place: self._opt_outs(one.resolved)
            for place, one in enumerate(asked)
            if one.resolved.ask.category.settings.unsubscribe
        }
        found: list[Collection[OptOut] | Exception] = [()] * len(asked)
        if wanted:
            for place, answer in zip(
                wanted, await asyncio.gather(*wanted.values(), return_exceptions=True), strict=True
            ):
                if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                    raise answer
                found[place] = answer
        return found

    async def _opt_outs(self, resolved: Reached) -> Collection[OptOut]:
        category = resolved.ask.category
        if not category.settings.unsubscribe:
            return ()
        name = category.name
        wanted = {(channel, key, name) for channel, key in addressed(resolved)}
        return await self._store.opted_out(wanted) if wanted else ()

    async def _store_all(self, drafts: Sequence[tuple[Call, Acceptance]]) -> Sequence[AcceptResult | Exception]:
        acceptances = self._born([draft for _, draft in drafts])
        try:
            results = await self._store.accept_many(acceptances)
        except BaseException:
            for acceptance in acceptances:
                self._withdraw(acceptance)
            raise
        for (call, _), acceptance, result in zip(drafts, acceptances, results, strict=True):
            if isinstance(result, Stored):
                call.context.run(self._go_on, acceptance, call.now)
            else:
                self._withdraw(acceptance)
        return results

    def _born(self, drafts: Sequence[Acceptance]) -> list[Acceptance]:
        """Lease what can go straight on to this process. The last step before storing, so that no slot is forgotten."""
        queued = [
            (row, draft.notification.mode)
            for draft in drafts
            for row in draft.deliveries
            if row.status is Status.QUEUED
        ]
        offered = zip(queued, self._dispatcher.offer(queued), strict=True)
        leases = {row.id: lease for (row, _), lease in offered if lease is not None}
        return [_leased(draft, leases) for draft in drafts] if leases else list(drafts)

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


def _leased(draft: Acceptance, leases: Mapping[UUID, Lease]) -> Acceptance:
    rows = draft.deliveries
    if not [row for row in rows if row.id in leases]:
        return draft
    return msgspec.structs.replace(
        draft, deliveries=tuple([msgspec.structs.replace(row, lease=leases.get(row.id)) for row in rows])
    )


def _knowing(known: Known, suppressed: Suppressed) -> Known:
    """Add what the store found."""
    found = {(row.channel, row.address): row for row in suppressed.rows}
    return msgspec.structs.replace(known, suppressions={**known.suppressions, **found})


def _answered(
    request: SendRequest, answer: bytes, result: Stored | Gone | Replayed | KeyReused | Exception
) -> Answered | Exception:
    """Say what becomes of a request that was drafted with this answer."""
    match result:
        case Stored():
            return Answered(body=answer)
        case Gone():
            return unknown_users(request, result.users)
        case Replayed() | KeyReused():
            return _replay_or_problem(result)
        case Exception():
            return result
        case _:
            assert_never(result)


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
