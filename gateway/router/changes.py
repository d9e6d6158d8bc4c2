"""What a caller may change afterwards: call back what waits, send again what failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from gateway.errors import CONFLICT, Code, Fault, Problem, not_found
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.states import RETRYABLE, Status
from gateway.router.dispatch import Dispatcher
from gateway.router.rules import Rules
from gateway.storage.contract import Cancelled, DeliveryFilter, DeliveryRow, DeliveryView, Page, Store

_AT_ONCE: Final = 200


class Changes:
    """Cancels and retries."""

    def __init__(
        self,
        *,
        store: Store,
        rules: Rules,
        dispatcher: Dispatcher,
        clock: Callable[[], int],
        id_source: IdSource,
    ) -> None:
        self._store = store
        self._rules = rules
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = id_source

    async def cancel(self, project: str | None, notification_id: UUID) -> list[Cancelled] | None:
        """Cancel what waits; `None`: there is no such notification in this project. Repeatable."""
        if await self._store.notification(project, notification_id) is None:
            return None
        return await self._store.cancel(notification_id, self._clock())

    async def retry(self, project: str | None, delivery_id: UUID, *, force: bool) -> DeliveryView:
        """Send one again; answers the new delivery. Raises `Problem`: 404, or 409 for what has not failed."""
        shown = ids.show(ids.DELIVERY, delivery_id)
        old = await self._store.delivery(project, delivery_id)
        if old is None:
            raise not_found("delivery", shown)
        if old.status is Status.UNKNOWN and not force:
            sentence = f"{shown} may have been sent; retry it with force if a second copy does no harm."
            raise Problem(CONFLICT, sentence, faults=(Fault("force", Code.NOT_RETRYABLE, sentence),))
        if old.status not in RETRYABLE or old.address is None:
            sentence = f"{shown} is {old.status.value}; only what failed can be sent again."
            raise Problem(CONFLICT, sentence, faults=(Fault("", Code.NOT_RETRYABLE, sentence),))
        if self._rules.of_lane(old.lane) is None:
            sentence = f"{shown} went over {old.channel}, a channel that is configured no more."
            raise Problem(CONFLICT, sentence, faults=(Fault("", Code.NOT_RETRYABLE, sentence),))
        [new_id] = await self._again([old])
        new = await self._store.delivery(project, new_id)
        if new is None:
            raise not_found("delivery", ids.show(ids.DELIVERY, new_id))
        return new

    async def retry_many(
        self,
        project: str | None,
        where: DeliveryFilter,
        *,
        force: bool,
        limit: int,
    ) -> list[DeliveryView]:
        """Send again what failed and matches; answers the new deliveries. `unknown` ones only with `force`."""
        allowed = RETRYABLE if force else RETRYABLE - {Status.UNKNOWN}
        statuses = tuple(sorted(allowed if where.statuses is None else allowed & set(where.statuses)))
        if not statuses:
            return []
        done: list[DeliveryView] = []
        before: UUID | None = None
        while len(done) < limit:
            page = Page(limit=min(_AT_ONCE, limit - len(done)), before=before)
            found = await self._store.find_deliveries(_narrowed(where, project, statuses), page)
            if not found:
                break
            before = found[-1].id
            fresh = [
                one
                for one in found
                if one.address is not None and not one.retried and self._rules.of_lane(one.lane) is not None
            ]
            if fresh:
                made = DeliveryFilter(ids=tuple(await self._again(fresh)))
                done += await self._store.find_deliveries(made, Page(limit=len(fresh)))
        return done

    async def _again(self, old: Sequence[DeliveryView]) -> list[UUID]:
        now = self._clock()
        new_ids = self._ids.many(now, len(old))
        rows: dict[UUID, list[DeliveryRow]] = defaultdict(list)
        for id_, one in zip(new_ids, old, strict=True):
            rule = self._rules.of_lane(one.lane)
            budget_ms = 0 if rule is None else rule.retry.budget_s * 1000
            rows[one.notification_id].append(
                DeliveryRow(
                    id=id_,
                    channel=one.channel,
                    lane=one.lane,
                    position=one.position,
                    address=one.address,
                    user_id=one.user_id,
                    address_id=one.address_id,
                    recipient=one.recipient,
                    status=Status.QUEUED,
                    due_at=now,
                    deadline_at=now + budget_ms,
                    on_unknown=one.on_unknown,
                    retry_of=one.id,
                ),
            )
        await self._store.resend(rows, now)
        for group in rows.values():
            for row in group:
                self._dispatcher.waiting(row.lane, row.due_at)
        return new_ids


def _narrowed(where: DeliveryFilter, project: str | None, statuses: tuple[Status, ...]) -> DeliveryFilter:
    return DeliveryFilter(
        project=project,
        ids=where.ids,
        notification_id=where.notification_id,
        statuses=statuses,
        channel=where.channel,
        provider=where.provider,
        reason=where.reason,
        category=where.category,
        since=where.since,
        until=where.until,
    )
