"""The states of deliveries and notifications, and the only order in which they may follow each other."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where a delivery stands. `API.md` promises each name and what is final."""

    QUEUED = "queued"
    HELD = "held"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    CAPTURED = "captured"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class NotificationStatus(StrEnum):
    """Where a notification stands: `completed` means that every delivery is final."""

    SCHEDULED = "scheduled"
    PROCESSING = "processing"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Why(StrEnum):
    """Normalised reasons on deliveries. A superset of the adapters' `Reason`; the values are promised."""

    SCHEDULED = "scheduled"
    RETRY = "retry"
    FALLBACK = "fallback"
    NOT_NEEDED = "not_needed"
    PAUSED = "paused"
    NO_ADDRESS = "no_address"
    INVALID_ADDRESS = "invalid_address"
    ADDRESS_DEAD = "address_dead"
    OPTED_OUT = "opted_out"
    SUPPRESSED = "suppressed"
    COMPLAINED = "complained"
    NOT_ALLOWED = "not_allowed"
    QUIET_HOURS = "quiet_hours"
    RATE_LIMITED = "rate_limited"
    DIGEST = "digest"
    COLLAPSED = "collapsed"
    MESSAGE_INVALID = "message_invalid"
    TOO_LARGE = "too_large"
    CONTENT_REFUSED = "content_refused"
    ACCOUNT_PROBLEM = "account_problem"
    PROVIDER_DOWN = "provider_down"
    TIMED_OUT = "timed_out"
    GAVE_UP = "gave_up"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    TEMPLATE_ERROR = "template_error"
    POLICY = "policy"


class Engagement(StrEnum):
    """What a person did with a message: a set beside the status, never a step of it."""

    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SEEN = "seen"
    READ = "read"
    ACKNOWLEDGED = "acknowledged"


class Priority(StrEnum):
    """Which lane of its channel a delivery waits in: bulk never delays critical."""

    CRITICAL = "critical"
    NORMAL = "normal"
    BULK = "bulk"


class Mode(StrEnum):
    """What a key's requests may reach."""

    LIVE = "live"
    TEAM = "team"
    TEST = "test"


class Scope(StrEnum):
    """What a key may ask for."""

    SEND = "send"
    READ = "read"
    MANAGE = "manage"
    ADMIN = "admin"


class Strategy(StrEnum):
    """How several channels of one recipient relate."""

    ALL = "all"
    FIRST_SUCCESS = "first_success"
    ESCALATE = "escalate"


class OnUnknown(StrEnum):
    """What follows a lost answer."""

    HOLD = "hold"
    RESEND = "resend"


WAITING: Final = frozenset({Status.QUEUED, Status.HELD})
FINAL: Final = frozenset(
    {
        Status.DELIVERED,
        Status.BOUNCED,
        Status.FAILED,
        Status.UNKNOWN,
        Status.SKIPPED,
        Status.CAPTURED,
        Status.EXPIRED,
        Status.CANCELLED,
    },
)
"""Final by name. `sent` is final or not by its provider: the delivery's own `final` flag says it."""

RETRYABLE: Final = frozenset({Status.FAILED, Status.BOUNCED, Status.EXPIRED, Status.UNKNOWN})
"""What `POST …/retry` sends again; `unknown` only when forced."""

_RANK: Final = {
    Status.QUEUED: 0,
    Status.HELD: 0,
    Status.SENDING: 1,
    Status.UNKNOWN: 2,
    Status.SENT: 3,
    Status.FAILED: 4,
    Status.BOUNCED: 5,
    Status.DELIVERED: 6,
}
"""How much we know once a provider has spoken: a later event may only move a delivery upwards. A bounce may follow a
`sent`, a confirmed arrival outranks everything a provider said before it, and what a rule ended (skipped, captured,
expired, cancelled) is not in the table because no provider ever saw it."""


def may_follow(before: Status, after: Status) -> bool:
    """Say whether a provider's event may move a delivery from `before` to `after`."""
    if before not in _RANK or after not in _RANK:
        return False
    return _RANK[after] > _RANK[before]


def lane_of(channel: str, priority: Priority) -> str:
    """Name the lane: `email:normal`."""
    return f"{channel}:{priority}"
