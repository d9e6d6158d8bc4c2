"""How a provider stands: what one process knows, and what several know together.

Owns the words for it (`ok`, `recovering`, `failing`, `stopped`, `paused`: the same in the API, the metrics and the
command line) and how reports of several processes become one. Pure but for `Standing`, which is changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from channels.contract import Accepted, Outcome, Rejected, Retry
from gateway.middleware.breaker import State
from gateway.storage.contract import ProviderReport


class ProviderStatus(StrEnum):
    """Whether a provider is in use."""

    OK = "ok"
    RECOVERING = "recovering"  # taken up again after a failure, a few deliveries at a time
    FAILING = "failing"  # left alone for a while: it failed several times in a row
    STOPPED = "stopped"  # it refuses our account: somebody has to mend that
    PAUSED = "paused"  # by an operator, until it is resumed


_STATUS: Final = {
    State.CLOSED: ProviderStatus.OK,
    State.HALF_OPEN: ProviderStatus.RECOVERING,
    State.RECOVERING: ProviderStatus.RECOVERING,
    State.OPEN: ProviderStatus.FAILING,
    State.STOPPED: ProviderStatus.STOPPED,
}
_GRAVITY: Final = {
    state: place
    for place, state in enumerate((State.CLOSED, State.RECOVERING, State.HALF_OPEN, State.OPEN, State.STOPPED))
}


def status_of(breaker: State, *, paused: bool) -> ProviderStatus:
    """Say in one word how a provider stands: an operator's word comes before what the breaker found."""
    return ProviderStatus.PAUSED if paused else _STATUS[breaker]


def word_of(outcome: Outcome) -> str:
    """Name an outcome as attempts, metrics and reports do."""
    match outcome:
        case Accepted():
            return "accepted"
        case Retry():
            return "retry"
        case Rejected():
            return "rejected"
        case _:
            return "unknown"


@dataclass(slots=True)
class Standing:
    """What changes about a provider while it runs, beside its breaker. One process's view."""

    paused_at: int | None = None
    paused_by: str | None = None
    resumed_at: int | None = None
    last_outcome: str | None = None
    last_reason: str | None = None
    last_at: int | None = None

    @property
    def paused(self) -> bool:
        """Whether an operator paused it."""
        return self.paused_at is not None

    def note(self, outcome: Outcome, now: int) -> None:
        """Remember what it last answered."""
        self.last_outcome = word_of(outcome)
        self.last_reason = None if isinstance(outcome, Accepted) else outcome.reason.value
        self.last_at = now


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """What several processes found out about one provider."""

    breaker: State
    until: int | None
    detail: str | None
    in_use: int
    places: int
    workers: int
    last_outcome: str | None
    last_reason: str | None
    last_at: int | None


def together(reports: Sequence[ProviderReport]) -> Together:
    """Make one of at least one report: the worst breaker, the sums of places, and the latest answer."""
    worst = max(reports, key=lambda one: (_GRAVITY[State(one.breaker)], one.until or 0))
    latest = max(reports, key=lambda one: one.last_at or 0)
    return Together(
        breaker=State(worst.breaker),
        until=worst.until,
        detail=worst.detail,
        in_use=sum(one.in_use for one in reports),
        places=sum(one.places for one in reports),
        workers=len(reports),
        last_outcome=latest.last_outcome,
        last_reason=latest.last_reason,
        last_at=latest.last_at,
    )
