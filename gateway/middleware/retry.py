"""What follows an outcome, and when a delivery is tried again.

Owns the classification of outcomes by their blame and the schedule of attempts. Refuses to know queues, providers by
name and the breaker. Pure: the clock and the dice are arguments. Times are Unix milliseconds unless a name says `_s`.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from channels.contract import Accepted, Blame, Outcome, Reason, Rejected, Retry, Unknown, blame_of
from gateway.config.settings import RetrySettings
from gateway.model.states import OnUnknown

_LONGEST_MS: Final = 366 * 86_400_000.0  # a year: keeps sums of times finite whatever was configured
_SPREAD_OF_WISH: Final = 0.1  # those who were told the same time come back over a tenth more of it


class Step(StrEnum):
    """What follows an outcome."""

    SUCCEED = "succeed"
    TRY_AGAIN = "try_again"
    """Later, at the same provider (`next_attempt_at`); if that is never, as `next_provider`."""
    NEXT_PROVIDER = "next_provider"
    """At once at the next provider that admits it; if none is left, later from the first one, as `try_again`."""
    FAIL = "fail"
    """For good: neither time nor another provider would change it."""
    LOST = "lost"
    """It may have been sent: never to another provider; `after_unknown` says what else."""


_NOT_ABOUT_THE_MESSAGE: Final = frozenset({Blame.ACCOUNT, Blame.PROVIDER})


def classify(outcome: Outcome) -> Step:
    """Say what follows: by the outcome's type first, then by whose affair its reason is.

    A rate limit is waited for where it was met, since it ends; a provider that is down is not.
    """
    match outcome:
        case Accepted():
            return Step.SUCCEED
        case Unknown():
            return Step.LOST
        case Rejected(reason=reason):
            return Step.NEXT_PROVIDER if blame_of(reason) in _NOT_ABOUT_THE_MESSAGE else Step.FAIL
        case Retry(reason=Reason.RATE_LIMITED):
            return Step.TRY_AGAIN
        case Retry(reason=reason):
            return Step.NEXT_PROVIDER if blame_of(reason) in _NOT_ABOUT_THE_MESSAGE else Step.TRY_AGAIN
        case _:
            assert_never(outcome)


def after_unknown(on_unknown: OnUnknown, *, provider_idempotent: bool) -> OnUnknown:
    """Say whether a lost answer is followed by another attempt at the same provider.

    A provider that honours the idempotency key makes it safe, so then it is tried again even under `hold`.
    """
    return OnUnknown.RESEND if provider_idempotent else on_unknown


class RetryRules(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's schedule, in milliseconds."""

    attempts: int
    first_ms: float
    factor: float
    most_ms: float

    @classmethod
    def of(cls, settings: RetrySettings) -> RetryRules:
        """Read the configured schedule; what is endless there ends within a year."""
        return cls(
            attempts=settings.attempts,
            first_ms=min(settings.first_s * 1000, _LONGEST_MS),
            factor=settings.factor,
            most_ms=min(settings.most_s * 1000, _LONGEST_MS),
        )

    def interval_ms(self, attempts_made: int) -> float:
        """Give the whole interval after the attempt of that number (from 1), before jitter."""
        try:
            grown = self.first_ms * self.factor ** (attempts_made - 1)
        except OverflowError:
            return self.most_ms
        return min(grown, self.most_ms)


def next_attempt_at(
    rules: RetryRules,
    *,
    attempts_made: int,
    now: int,
    deadline: int,
    after_s: float | None,
    random: float,
) -> int | None:
    """Say when to try again, or `None`: never at this provider. The channel's budget is part of the `deadline`.

    Equal jitter: somewhere in the second half of the interval, so that what failed together in an outage comes back
    over half an interval. `after_s`, the provider's own wish, is never undercut: after the first attempt it alone
    counts (a provider that asks for half a second is asked again after half a second), after later ones the longer of
    the two (or one that keeps asking for a second would use up all attempts in as many seconds). A wish that is zero,
    negative or not a number is none. An interval that reaches beyond the deadline is shortened once, to no less than
    half; a wish is not. `random` is in [0, 1).
    """
    if attempts_made >= rules.attempts:
        return None
    left = deadline - now - 1
    interval = rules.interval_ms(attempts_made)
    wish = _wish_ms(after_s)
    if wish is None:
        # Where not even half an interval is left, this stays beyond what is left, whatever `random` says.
        wait = interval / 2 + random * (min(interval, left) - interval / 2)
    else:
        wait = wish + random * min(wish * _SPREAD_OF_WISH, max(left - wish, 0.0))
        if attempts_made > 1:
            wait = max(wait, min(interval * (0.5 + random / 2), left))
    if wait > left:
        return None
    # Rounded up, as a wish must not be undercut; never now, or two attempts could share a moment.
    return now + max(1, math.ceil(wait))


def _wish_ms(after_s: float | None) -> float | None:
    if after_s is None or not after_s > 0:  # not a number is not more than zero either
        return None
    return after_s * 1000
