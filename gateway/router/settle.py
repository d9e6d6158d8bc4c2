"""From a verdict to what is stored: pure.

Owns which status follows which verdict. Refuses to know how either came about: (delivery, verdict, now) → settlement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, assert_never
from uuid import UUID

import msgspec

from channels.contract import Accepted, Blame, Message, Reason, Rejected, Retry, Unknown, blame_of
from gateway.middleware.contract import Dropped, Held, Kept, Placed, Verdict
from gateway.model import ids
from gateway.model.addresses import list_key
from gateway.model.collapsing import place_of
from gateway.model.states import FINAL, Status, Why
from gateway.router.events import endpoint_of
from gateway.storage.contract import (
    AttemptRow,
    CapturedRow,
    Claimed,
    EndpointReport,
    InboxRow,
    Joining,
    Settlement,
    ShownRow,
    SuppressionRow,
)

_DEAD: Final = frozenset({Reason.ADDRESS_DEAD, Reason.COMPLAINED, Reason.OPTED_OUT})
"""Reasons that speak of the address for ever; every other refusal leaves the address alone."""

_DETAIL_CHARS: Final = 1000
_ENCODE: Final = msgspec.json.Encoder().encode


class SenderStop(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's word that the recipient stopped one of our senders. `at` is when it was asked, in Unix ms."""

    provider: str
    sender: str
    detail: str | None
    at: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What delivering came to: the verdict, the tries it took, and what is worth recording beside it.

    `provider` is the last one tried; `receipts` says whether it reports arrival later, `shows` whether it could replace
    this message by a newer one; `stops` are the senders that the recipient turned out to have stopped; `redirected`,
    that it went to another address than the recipient's own, of which whatever was said says nothing; `counted`,
    that its category's throttle has counted it.
    """

    verdict: Verdict
    attempts: tuple[AttemptRow, ...] = ()
    provider: str | None = None
    receipts: bool = False
    shows: bool = False
    notes: tuple[str, ...] = ()
    stops: tuple[SenderStop, ...] = ()
    redirected: bool = False
    counted: bool = False


def settle(  # noqa: PLR0911 - one for each kind of verdict
    claim: Claimed, done: Done, now: int, *, raw: Callable[[Message], bytes], new_id: UUID
) -> Settlement:
    """Decide what is stored. Pure but for `raw`, which shows a captured message's wire form; `new_id` names an item."""
    verdict = done.verdict
    match verdict:
        case Accepted():
            final = not done.receipts
            detail = _joined(verdict.detail, done.notes)
            shown = _shown(claim, done, verdict)
            id_ = verdict.provider_id
            return _settlement(claim, done, now, Status.SENT, None, detail, final, provider_id=id_, shown=shown)
        case Retry() | Rejected():
            return _settlement(
                claim,
                done,
                now,
                Status.FAILED,
                Why(verdict.reason.value),
                _joined(verdict.detail, done.notes),
                final=True,
                suppress=_suppression(claim, done, verdict, now),
            )
        case Unknown():
            return _settlement(
                claim,
                done,
                now,
                Status.UNKNOWN,
                Why.TIMED_OUT,
                _joined(verdict.detail, done.notes),
                final=True,
            )
        case Held():
            return _settlement(
                claim,
                done,
                now,
                Status.HELD,
                verdict.reason,
                _joined(verdict.detail, done.notes),
                final=False,
                due_at=verdict.until,
                granted=verdict.granted,
                join=verdict.join,
            )
        case Dropped():
            return _settlement(
                claim,
                done,
                now,
                verdict.status,
                verdict.reason,
                _joined(verdict.detail, done.notes),
                final=verdict.status in FINAL,
            )
        case Kept():
            return _settlement(
                claim,
                done,
                now,
                Status.CAPTURED,
                verdict.reason,
                _joined(verdict.detail, done.notes),
                final=True,
                captured=_captured(claim, verdict.message, now, raw=raw, new_id=new_id),
            )
        case Placed():
            return _settlement(
                claim,
                done,
                now,
                Status.DELIVERED,
                None,
                _joined(None, done.notes),
                final=True,
                provider_id=ids.show(ids.INBOX, new_id),
                inbox=_item(claim, verdict, now, new_id=new_id),
            )
        case _:
            assert_never(verdict)


def _settlement(
    claim: Claimed,
    done: Done,
    now: int,
    status: Status,
    reason: Why | None,
    detail: str | None,
    final: bool,  # noqa: FBT001 - positional in one private place, named at each call that reads better so
    *,
    due_at: int | None = None,
    granted: bool = False,
    provider_id: str | None = None,
    captured: CapturedRow | None = None,
    suppress: SuppressionRow | None = None,
    shown: ShownRow | None = None,
    inbox: InboxRow | None = None,
    join: Joining | None = None,
) -> Settlement:
    return Settlement(
        id=claim.id,
        token=claim.token,
        status=status,
        final=final,
        reason=reason,
        detail=None if detail is None else detail[:_DETAIL_CHARS],
        provider=done.provider,
        provider_id=provider_id,
        due_at=now if due_at is None else due_at,
        granted=granted or claim.granted,
        counted=done.counted or claim.counted,
        digest_id=claim.digest_id,
        join=join,
        unsure=claim.unsure or any(one.outcome == "unknown" for one in done.attempts),
        attempts=done.attempts,
        captured=captured,
        suppress=suppress,
        shown=shown,
        inbox=inbox,
        stops=() if done.redirected else tuple(_stop(claim, one) for one in done.stops),
        endpoint=_endpoint(claim, done),
        now=now,
    )


def _stop(claim: Claimed, stop: SenderStop) -> SuppressionRow:
    return SuppressionRow(
        channel=claim.channel,
        address=list_key(claim.channel, claim.address),
        sender=stop.sender,
        reason=Why.OPTED_OUT,
        source=stop.provider,
        detail=None if stop.detail is None else stop.detail[:_DETAIL_CHARS],
        created_at=stop.at,
    )


def _endpoint(claim: Claimed, done: Done) -> EndpointReport | None:
    """Report how an endpoint of our events took the last attempt.

    A worker that was lost, and a message that nobody would have been sent, say nothing about the endpoint.
    """
    id_ = endpoint_of(claim)
    verdict = done.verdict
    unsent = isinstance(verdict, Rejected) and blame_of(verdict.reason) is Blame.MESSAGE
    if id_ is None or done.provider is None or not done.attempts or unsent:
        return None
    gone = isinstance(verdict, Rejected) and verdict.reason is Reason.ADDRESS_DEAD
    return EndpointReport(webhook_id=id_, ok=done.attempts[-1].outcome == "accepted", gone=gone)


def _suppression(claim: Claimed, done: Done, verdict: Retry | Rejected, now: int) -> SuppressionRow | None:
    if not isinstance(verdict, Rejected) or verdict.reason not in _DEAD or done.redirected:
        return None
    if verdict.reason is Reason.OPTED_OUT and done.stops:  # of those senders, and of no other
        return None
    if endpoint_of(claim) is not None:
        return None  # it is switched off instead, and can be switched on again
    return SuppressionRow(
        channel=claim.channel,
        address=list_key(claim.channel, claim.address),
        reason=Why(verdict.reason.value),
        source=done.provider or "gateway",
        detail=None if verdict.detail is None else verdict.detail[:_DETAIL_CHARS],
        created_at=now,
    )


def _shown(claim: Claimed, done: Done, verdict: Accepted) -> ShownRow | None:
    if not done.shows or claim.collapse_key is None or done.provider is None or verdict.provider_id is None:
        return None
    return ShownRow(
        place=place_of(claim.project, claim.collapse_key, claim.channel, claim.address),
        delivery_id=claim.id,
        provider=done.provider,
        provider_id=verdict.provider_id,
    )


def _item(claim: Claimed, placed: Placed, now: int, *, new_id: UUID) -> InboxRow:
    content = placed.message.content
    return InboxRow(
        id=new_id,
        user_id=claim.address,
        delivery_id=claim.id,
        notification_id=claim.notification_id,
        project=claim.project,
        category=claim.category,
        collapse_key=claim.collapse_key,
        title=content.subject,
        text=content.text,
        html=content.html,
        data=_ENCODE(content.data),
        created_at=now,
        expires_at=placed.until,
    )


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    content_type: str
    content: bytes
    content_id: str | None


def _captured(
    claim: Claimed,
    message: Message,
    now: int,
    *,
    raw: Callable[[Message], bytes],
    new_id: UUID,
) -> CapturedRow:
    content = message.content
    return CapturedRow(
        id=new_id,
        delivery_id=claim.id,
        notification_id=claim.notification_id,
        project=claim.project,
        channel=claim.channel,
        to=claim.address,  # a destination by its name: behind it stands a secret
        original_to=claim.address,
        subject=content.subject,
        text=content.text,
        html=content.html,
        data=_ENCODE(content.data),
        headers=_ENCODE(_headers(message)),
        attachments=_ENCODE(
            [
                _Shown(
                    filename=one.filename,
                    content_type=one.content_type,
                    content=one.content,
                    content_id=one.content_id,
                )
                for one in content.attachments
            ],
        ),
        raw=raw(message),
        reference=claim.reference,
        created_at=now,
    )


def _headers(message: Message) -> dict[str, object]:
    shown: dict[str, object] = {"from": message.sender, "message_id": message.id}
    shown.update({name: value for name, value in message.options.items() if value})
    return shown


def _joined(detail: str | None, notes: tuple[str, ...]) -> str | None:
    parts = [part for part in (detail, *notes) if part]
    return "; ".join(parts) if parts else None
