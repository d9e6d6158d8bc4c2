"""What providers of e-mail report, normalised once.

Owns the words: those of Anymail (https://anymail.dev/en/stable/sending/tracking/, "Normalized tracking event"), which
most providers' events have been sorted into, and what each means here. An adapter sorts its provider's words into these
and nothing else; what a provider's own fields say beyond them stays in the adapter.

Two things differ from Anymail. It has one reason for everything that is neither: what is policy, content, size or only
for now has a word of its own here, since the gateway acts on it. And a reason of `bounced` is said of a dead address
only, because the gateway suppresses it for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from channels.contract import EventType, Reason

__all__ = ["AMAZON_SOFT", "EVENTS", "REASONS", "Meaning", "meaning"]

Meaning = tuple[EventType, Reason | None]
"""What an event is, and why."""

EVENTS: Final[Mapping[str, EventType]] = {
    "queued": EventType.SENT,  # the provider has it: that is our `sent`
    "sent": EventType.SENT,
    "rejected": EventType.FAILED,  # the provider refused to send it
    "failed": EventType.FAILED,
    "bounced": EventType.BOUNCED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "complained": EventType.COMPLAINED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.RESUBSCRIBED,
}
"""Anymail's other words (`autoresponded`, `inbound`, `inbound_failed`, `unknown`) say nothing about a delivery: for
what they would be said of, adapters write `None`."""

REASONS: Final[Mapping[str, Reason | None]] = {
    "invalid": Reason.INVALID_ADDRESS,
    "bounced": Reason.ADDRESS_DEAD,
    "timed_out": Reason.TIMED_OUT,
    "blocked": Reason.POLICY,
    "spam": Reason.CONTENT_REFUSED,  # a filter's judgement; a person's is `complained`
    "unsubscribed": Reason.OPTED_OUT,
    "other": None,
    # and ours:
    "complained": Reason.COMPLAINED,
    "content": Reason.CONTENT_REFUSED,
    "too_large": Reason.TOO_LARGE,
    "message": Reason.MESSAGE_INVALID,
    "soft": Reason.RETRY,  # for now: a mailbox that is full or busy
}

AMAZON_SOFT: Final[Mapping[str, Reason | None]] = {
    "MailboxFull": REASONS["soft"],
    "MessageTooLarge": REASONS["too_large"],
    "ContentRejected": REASONS["content"],
    "AttachmentRejected": REASONS["content"],
}
"""SES's words for bounces that are not permanent, which others who send through it pass on; any other is `soft`."""


def meaning(event: str, reason: str = "other") -> Meaning:
    """Say in our words what an event of these words is. Raises `KeyError` for a word that is in no table."""
    return EVENTS[event], REASONS[reason]
