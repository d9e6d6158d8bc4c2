"""What is stored and answered of requests that are resolved: their plan, written down.

Pure but for the ids it takes: it asks and stores nothing. Owns the rows of a new notification and its 202.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextvars import Context
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.requests import SendRequest
from gateway.model.states import FINAL, NotificationStatus, Priority, Scope, lane_of
from gateway.router import answers
from gateway.router.caller import Caller
from gateway.router.compose import Addressee
from gateway.router.plan import Ask, Known, Planned, join_of, plan
from gateway.router.resolve import Reached, Resolved
from gateway.router.rules import Rules
from gateway.storage.contract import (
    Acceptance,
    AttachmentRow,
    DeliveryRow,
    Expansion,
    Idempotency,
    Joining,
    NotificationRow,
)

_ENCODE: Final = msgspec.json.Encoder().encode
_OPEN: Final = ("user", "locale", "timezone")
_WHOLE: Final = (*_OPEN, "name", "data")
"""What an answer shows of a recipient to those who may not read, and to those who may."""

Draft = tuple[Acceptance, bytes]
"""What is to be stored, and the answer once it is."""


class Call(NamedTuple):
    """One request on its way through the desk."""

    caller: Caller
    request: SendRequest
    key: str | None
    body: bytes
    """What the caller sent, byte for byte."""
    now: int
    context: Context
    """The caller's own: what goes on from here is logged under its request."""


class Asked(NamedTuple):
    """A resolved request on its way to the store."""

    call: Call
    resolved: Resolved


class Drafting:
    """Writes drafts by the rules of one gateway."""

    def __init__(self, *, rules: Rules, id_source: IdSource, public_url: str, idempotency_ms: int) -> None:
        self._rules = rules
        self._ids = id_source
        self._url = public_url.rstrip("/")
        self._idempotency_ms = idempotency_ms

    def draft_all(self, asked: Mapping[int, Asked], known: Mapping[int, Known]) -> Mapping[int, Draft | Exception]:
        """Plan each and write down what is to be stored and answered; or what went wrong, which only it meets."""
        planned: dict[int, list[Planned]] = {}
        drafts: dict[int, Draft | Exception] = {}
        for place, (call, resolved) in asked.items():
            try:
                planned[place] = plan(resolved.ask, resolved.targets, known[place], self._rules, call.now)
            except Exception as fault:  # noqa: BLE001 - a bug
                drafts[place] = fault
        now = max(one.call.now for one in asked.values())
        new_ids = self._ids.many(now, len(planned) + sum(map(len, planned.values())))
        given = 0
        for place, several in planned.items():
            own_ids = new_ids[given : given + 1 + len(several)]
            given += len(own_ids)
            try:
                drafts[place] = self._draft_with_key(asked[place], several, known[place], own_ids)
            except Exception as fault:  # noqa: BLE001 - a bug
                drafts[place] = fault
        return drafts

    def _draft_with_key(self, asked: Asked, planned: Sequence[Planned], known: Known, new_ids: Sequence[UUID]) -> Draft:
        call = asked.call
        acceptance, answer = self._draft(asked, planned, known, new_ids)
        if call.key is None:
            return acceptance, answer
        remembered = Idempotency(
            key_id=call.caller.key_id,
            key=call.key,
            body_hash=hash_of(call.body),
            answer=answer,
            expires_at=call.now + self._idempotency_ms,
        )
        return msgspec.structs.replace(acceptance, idempotency=remembered), answer

    def _draft(self, asked: Asked, planned: Sequence[Planned], known: Known, new_ids: Sequence[UUID]) -> Draft:
        (caller, request, _, body, now, _), resolved = asked.call, asked.resolved
        ask = resolved.ask
        notification_id, *delivery_ids = new_ids
        who = [_ENCODE(one) for one in resolved.addressees]
        rows = [
            delivery_row(
                id_,
                one,
                ask,
                position=one.target.position,
                who=who[one.target.position],
                join=join_of(one, ask, caller.project, caller.mode),
            )
            for id_, one in zip(delivery_ids, planned, strict=True)
        ]
        notification = NotificationRow(
            id=notification_id,
            project=caller.project,
            mode=caller.mode,
            category=ask.category.name,
            priority=ask.priority,
            template_key=resolved.template.key,
            template_version=resolved.template.version,
            reference=request.reference,
            request=_stored(request, body),
            tags=tuple(dict.fromkeys(request.tags)) if request.tags else (),
            collapse_key=request.collapse_key,
            created_at=now,
            send_at=ask.send_at,
            expires_at=ask.expires_at,
        )
        acceptance = Acceptance(
            notification=notification,
            deliveries=tuple(rows),
            attachments=_files(request) if request.attachments else (),
            presumed_clear=tuple([pair for pair in addressed(resolved) if pair not in known.suppressions]),
            expansion=_expansion(resolved, now) if resolved.topics else None,
        )
        return acceptance, self._answer(caller, resolved, notification, rows)

    def _answer(
        self,
        caller: Caller,
        resolved: Resolved,
        notification: NotificationRow,
        rows: Sequence[DeliveryRow],
    ) -> bytes:
        open_ = bool(resolved.topics) or bool([row for row in rows if not row.final])
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
                        id_,
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


def _files(request: SendRequest) -> tuple[AttachmentRow, ...]:
    return tuple(
        AttachmentRow(
            filename=one.filename,
            content_type=one.content_type,
            content_id=one.content_id,
            content=one.content,
        )
        for one in request.attachments
    )


def _expansion(resolved: Resolved, now: int) -> Expansion:
    """Note the topics: their subscribers are those of the moment when it may be sent."""
    return Expansion(
        topics=resolved.topics,
        position=len(resolved.addressees),
        rank=list(Priority).index(resolved.ask.priority),
        due_at=max(now, resolved.ask.send_at or 0),
    )


def hash_of(body: bytes) -> bytes:
    """Give what an idempotency key's body is known by: SHA-256, 32 bytes."""
    return hashlib.sha256(body).digest()


def addressed(resolved: Reached) -> Collection[tuple[str, str]]:
    """List the (channel, key) pairs that a suppression could concern, each once."""
    pairs = [(one.channel, one.key) for one in resolved.targets if one.address is not None and not one.simulated]
    return dict.fromkeys(pairs)


def _stored(request: SendRequest, body: bytes) -> bytes:
    """Choose what is kept: the caller's own bytes, unless they carry files, which have a table of their own."""
    if not request.attachments:
        return body
    return _ENCODE(msgspec.structs.replace(request, attachments=[]))


def _recipient(one: Addressee, *, hide: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key in _OPEN if hide else _WHOLE:
        if (value := getattr(one, key)) is not None:
            shown[key] = value
    return shown
