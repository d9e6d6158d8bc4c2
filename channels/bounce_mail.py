"""Mail that comes back: delivery reports, complaints and old-fashioned bounces, read into events.

Owns the reading of one raw message (RFC 3464 and 3461 for delivery reports, RFC 5965 for complaints, flufl.bounce for
what no RFC describes). Refuses to know how the message got here and who vouches for it.

A mailbox for bounces takes mail from anybody, so a report is no more than a claim. It is read only with the Message-ID
that it returns and the address that it names: the gateway believes it of a delivery of its own, to that very address.
What is neither (out-of-office notes, advertising) gives no event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from email.utils import getaddresses
from typing import Any, Final, cast

from channels.contract import CallbackRefused, EventType, Reason, StatusEvent
from channels.email_parts import masked
from channels.mail_codes import MAILBOX, POLICY, Code, first_code, permanent

__all__ = ["read_bounce_mail"]

_READ_OCTETS: Final = 262_144  # a report stands before the message that it returns; the rest of that is of no use
_GUESSED_OCTETS: Final = 65_536  # what a hundred expressions are held against, line by line
_RECIPIENTS: Final = 100
_IDS: Final = 10
_DEPTH: Final = 20  # parts within parts

# What `channels.mime` writes: an id of the gateway's before the @.
_MESSAGE_ID: Final = re.compile(r"<([A-Za-z0-9_-]{1,48})@[^<>\s]{1,255}>")
_RETURNED_ID: Final = re.compile(
    r"^[> \t]{0,40}Message-ID:[ \t]{0,40}<([A-Za-z0-9_-]{1,48})@[^<>\s]{1,255}>", re.IGNORECASE | re.MULTILINE
)

# RFC 3464, 2.3.3. `relayed` went on to a system that reports nothing more; `expanded` to a list, one by one.
_ACTIONS: Final[Mapping[str, EventType]] = {
    "failed": EventType.BOUNCED,
    "delayed": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "relayed": EventType.DELIVERED,
    "expanded": EventType.SENT,
}
_ACTION_OF_CLASS: Final = {2: "delivered", 4: "delayed", 5: "failed"}
# RFC 5965, 7.3 and the "opt-out" that some operators say for it. `not-spam` takes back what another report said, and
# `virus`, `other`, `auth-failure` (RFC 6591) are no person's word.
_FEEDBACK: Final[Mapping[str, EventType]] = {
    "abuse": EventType.COMPLAINED,
    "fraud": EventType.COMPLAINED,
    "opt-out": EventType.UNSUBSCRIBED,
    "opt-out-list": EventType.UNSUBSCRIBED,
}
_FULL: Final = 2  # RFC 3463, 3.3: X.2.2 mailbox full
_TOO_OLD: Final = (4, 7)  # X.4.7 delivery time expired


def read_bounce_mail(raw: bytes, now: float) -> list[StatusEvent]:
    """Read one raw message (RFC 5322), whole or cut off; `now` is Unix time in seconds, the events' time.

    Pure. Raises `CallbackRefused(unreadable=True)` for what is no mail, and nothing else, whatever the bytes.
    """
    try:
        message = message_from_bytes(raw[:_READ_OCTETS])
        events = list(_events(message, raw, now)) if message.keys() else None
    except Exception as error:
        raise CallbackRefused(f"this mail cannot be read: {type(error).__name__}", unreadable=True) from error
    if events is None:
        raise CallbackRefused("this is no mail: it has no header", unreadable=True)
    return events


def _events(message: Message, raw: bytes, now: float) -> Iterator[StatusEvent]:
    parts = list(_parts(message))
    ids = _returned_ids(message, parts)
    for part in parts:
        kind = part.get_content_type()
        if kind == "message/delivery-status":
            for fields in _blocks(part)[: _RECIPIENTS + 1]:
                yield from _of_recipient(fields, parts, ids, now)
            return
        if kind == "message/feedback-report":
            for fields in _blocks(part)[:1]:
                yield from _of_complaint(fields, parts, ids, now)
            return
    if ids and not _is_automatic_reply(message):
        yield from _guessed(message, raw, ids, now)


def _parts(message: Message, depth: int = 0) -> Iterator[Message]:
    """Walk the parts, but not into a message that is returned: what it holds says nothing about its own fate."""
    yield message
    if message.get_content_maintype() == "multipart" and message.is_multipart() and depth < _DEPTH:
        for part in cast("list[Any]", message.get_payload()):
            yield from _parts(part, depth + 1)


def _blocks(part: Message) -> Sequence[Message]:
    """List the blocks of fields in a report: the standard parser makes a message without a body of each."""
    payload: Any = part.get_payload()
    return cast("list[Message]", payload) if isinstance(payload, list) else ()


def _field(fields: Message, name: str) -> str:
    """Read a field as text on one line; empty where there is none."""
    return " ".join(str(fields.get(name) or "").split())


# Which message it is about.


def _returned(parts: Sequence[Message]) -> Message | None:
    """Find the returned message, or its header."""
    for part in parts:
        kind = part.get_content_type()
        payload: Any = part.get_payload()
        if kind == "message/rfc822" and isinstance(payload, list) and payload:
            return cast("Message", payload[0])
        if kind in {"text/rfc822-headers", "message/rfc822-headers"}:
            if isinstance(payload, list) and payload:
                return cast("Message", payload[0])
            decoded = part.get_payload(decode=True)
            return message_from_bytes(decoded.lstrip()) if isinstance(decoded, bytes) else None
    return None


def _returned_ids(message: Message, parts: Sequence[Message]) -> list[str]:
    """List the ids that may be ours: of the returned message, or else what the report answers to or quotes."""
    returned = _returned(parts)
    if returned is not None and (found := _MESSAGE_ID.search(_field(returned, "Message-ID"))):
        return [found[1]]
    text = f"{_field(message, 'In-Reply-To')} {_field(message, 'References')}"
    quoted = [_text(part) for part in parts if part.get_content_type() in {"text/plain", "message/rfc822"}]
    every = [*_MESSAGE_ID.findall(text), *_RETURNED_ID.findall("\n".join(quoted))]
    return list(dict.fromkeys(every))[:_IDS]


def _text(part: Message) -> str:
    decoded = part.get_payload(decode=True)
    return decoded.decode("latin-1") if isinstance(decoded, bytes) else ""


def _address(text: str) -> str | None:
    """Read `rfc822; ada@example.com` (RFC 3464, 2.1.2), with or without the type and brackets."""
    kind, semicolon, rest = text.partition(";")
    bare = (rest if semicolon and "@" not in kind else text).strip().strip("<>")
    return bare if "@" in bare and " " not in bare else None


def _single_recipient(parts: Sequence[Message]) -> str | None:
    """Say whom the returned message went to, if that was one person."""
    returned = _returned(parts)
    if returned is None:
        return None
    every = getaddresses([str(value) for name in ("To", "Cc") for value in returned.get_all(name, [])])
    return every[0][1] if len(every) == 1 and "@" in every[0][1] else None


# Delivery reports.


def _of_recipient(fields: Message, parts: Sequence[Message], ids: Sequence[str], now: float) -> Iterator[StatusEvent]:
    """Read one recipient's block; the first block of a report, about the message as a whole, names none."""
    named = [_address(_field(fields, name)) for name in ("Original-Recipient", "Final-Recipient")]
    addresses = [address for address in named if address is not None]
    status, said = _field(fields, "Status"), _field(fields, "Diagnostic-Code")
    stated = first_code(status)
    action = _field(fields, "Action").lower() or _ACTION_OF_CLASS.get(stated.kind if stated else 0, "")
    type_ = _ACTIONS.get(action.partition(" ")[0])
    if not addresses or type_ is None:
        return
    # Mail may have been forwarded: the recipient as we wrote it is the one that counts.
    to = _single_recipient(parts)
    address = next((one for one in addresses if to is not None and one.lower() == to.lower()), addresses[0])
    for id_ in ids:
        yield StatusEvent(
            type=type_,
            at=now,
            message_id=id_,
            address=address,
            reason=_reason(stated, first_code(said)) if type_ is EventType.BOUNCED else None,
            detail=masked(action, status, said),
        )


def _reason(stated: Code | None, said: Code | None) -> Reason | None:
    """Say what a failure means, by `Status` and by what the other server said (`Diagnostic-Code`).

    The server's own word is the nearer one. A policy in either never makes a dead address, and a mailbox that is full
    is not dead either; what was tried until it was too old says nothing about the address.
    """
    codes = [code for code in (said, stated) if code is not None]
    if any((code.kind, code.subject) == (5, POLICY) for code in codes):
        return Reason.POLICY
    for code in codes:
        if code.kind == 4 or (code.subject, code.detail) == _TOO_OLD:  # noqa: PLR2004 - RFC 3463, 2: for now
            return Reason.TIMED_OUT
        if (code.subject, code.detail) == (MAILBOX, _FULL):
            return Reason.RETRY
        if (found := permanent(code.subject, code.detail)) is not None:
            return found
    return None


# Complaints.


def _of_complaint(fields: Message, parts: Sequence[Message], ids: Sequence[str], now: float) -> Iterator[StatusEvent]:
    """Read a feedback report. Whose complaint it is stands in it, or else in the message's only recipient."""
    type_ = _FEEDBACK.get(_field(fields, "Feedback-Type").lower())
    if type_ is None:
        return
    listed = [_address(" ".join(str(value).split())) for value in fields.get_all("Original-Rcpt-To", [])]
    for address in [one for one in listed or [_single_recipient(parts)] if one is not None][:_RECIPIENTS]:
        for id_ in ids:
            yield StatusEvent(
                type=type_,
                at=now,
                message_id=id_,
                address=address,
                reason=Reason.COMPLAINED if type_ is EventType.COMPLAINED else Reason.OPTED_OUT,
                detail=masked(_field(fields, "Feedback-Type"), _field(fields, "User-Agent")),
            )


# Bounces that follow no RFC.


def _is_automatic_reply(message: Message) -> bool:
    """Say whether a person's mailbox answers by itself (RFC 3834, 5): it got the message, and quotes what it likes."""
    return _field(message, "Auto-Submitted").lower().startswith("auto-replied")


def _guessed(message: Message, raw: bytes, ids: Sequence[str], now: float) -> Iterator[StatusEvent]:
    """Ask flufl.bounce, which knows the wording of old mail systems.

    Without an enhanced code in the text nobody is dead: "550" alone may be a policy (RFC 5321, 4.2.3). Nor is anyone of
    several, since nothing tells whose code it is.
    """
    # Its table of expressions takes 30 ms to make: only for those who get such mail.
    from flufl import bounce  # noqa: PLC0415 - see above

    small = message if len(raw) <= _GUESSED_OCTETS else message_from_bytes(raw[:_GUESSED_OCTETS])
    scan: Any = bounce.all_failures  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - half typed
    for_now, for_good = cast("tuple[frozenset[bytes], frozenset[bytes]]", scan(small))
    texts = [_text(part) for part in _parts(small) if part.get_content_type() == "text/plain"]
    code = first_code(_before_returned("\n".join(texts)))
    reason = (_reason(None, code) if len(for_good) == 1 else None) or Reason.INVALID_ADDRESS
    for addresses, type_ in ((for_good, EventType.BOUNCED), (for_now - for_good, EventType.DEFERRED)):
        # Of a damaged report it also gives back what is left of an address, or of the words beside it.
        found = sorted(one.decode("utf-8", "replace") for one in addresses)
        for address in [one for one in found if _IN_FULL(one)][:_RECIPIENTS]:
            for id_ in ids:
                yield StatusEvent(
                    type=type_,
                    at=now,
                    message_id=id_,
                    address=address,
                    reason=reason if type_ is EventType.BOUNCED else None,
                    detail=None if code is None else ".".join(map(str, code)),
                )


_IN_FULL: Final = re.compile(r"[^@\s]+@[^@\s]+").fullmatch
_COPY: Final = re.compile(r"^[- >]*(?:this is a copy|original message|below this line)\b", re.IGNORECASE | re.MULTILINE)


def _before_returned(text: str) -> str:
    """Leave out a returned message: a code in our own text is nobody's answer."""
    found = _COPY.search(text) or _RETURNED_ID.search(text)
    return text if found is None else text[: found.start()]
