"""When a provider that fails is left alone, and how it is taken up again.

Owns one provider's state in one process. Refuses to know deliveries, queues and the provider itself. No clock and no
dice of its own: times are Unix milliseconds and arguments, `random` is in [0, 1).

- *closed*: all go through. `failures` in a row that prove nothing about the message open it.
- *open*: none goes through until the pause is over; each pause is twice the one before, up to `most_s`.
- *stopped*: as open, because the provider refuses our account. Opens at the first such answer and pauses for `most_s`.
- *half open*: one delivery tries. If it works, *recovering*; if not, open or stopped again.
- *recovering*: one delivery at a time, then two, … each that works admits one more, so that ten thousand waiting do not
  fall upon a provider that has just got up. A failure opens again; at full concurrency it is closed.

Whatever one destination or one message causes counts as a sign of life: the provider answered.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, assert_never

import msgspec

from channels.contract import Accepted, Blame, Outcome, Retry, blame_of
from gateway.config.settings import BreakerSettings
from gateway.model.states import Why

_LOST_MS: Final = 120_000
"""An admission that was neither recorded nor abandoned for twice a lease is lost: its task died. Without this line, a
lost probe would keep the provider shut for ever."""
_PAUSE_MOST_MS: Final = 86_400_000.0  # a day: `inf` in the configuration is not for ever


class State(StrEnum):
    """Where a provider stands."""

    CLOSED = "closed"
    OPEN = "open"
    STOPPED = "stopped"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


class Admitted(msgspec.Struct, frozen=True):
    """It may be tried. Give it back: to `record` with the outcome, or to `abandon` if nothing was tried after all."""

    turn: int
    probe: bool = False


class Refused(msgspec.Struct, frozen=True):
    """Not now, and not before `until` (spread, so that those refused together do not return together)."""

    until: int
    reason: Why


class _Life(StrEnum):
    """What an outcome says about the provider."""

    WORKS = "works"
    FAILED = "failed"
    REFUSES_US = "refuses_us"


class Breaker:
    """One provider's breaker. Not safe to share between threads."""

    def __init__(self, settings: BreakerSettings, *, concurrency: int) -> None:
        self._failures_most = settings.failures
        self._first_ms = min(settings.first_s * 1000, _PAUSE_MOST_MS)
        self._most_ms = min(max(settings.most_s, settings.first_s) * 1000, _PAUSE_MOST_MS)
        self._concurrency = concurrency
        self._state = State.CLOSED
        self._why: Why | None = None
        self._detail: str | None = None
        self._failures = 0
        self._openings = 0  # since it was last closed
        self._pause_ms = 0
        self._until = 0
        self._allowed = concurrency
        self._in_flight = 0  # counted while half open and recovering
        self._moved_at = 0  # when an admission last went out or came back, while they are counted
        self._turn = 0  # admissions of an earlier turn say nothing about this one

    @property
    def state(self) -> State:
        """Where the provider stands."""
        return self._state

    @property
    def why(self) -> Why | None:
        """Why it is not closed: `provider_down` or `account_problem`."""
        return self._why

    @property
    def detail(self) -> str | None:
        """The provider's own words when it last opened, for the operator."""
        return self._detail

    @property
    def until(self) -> int | None:
        """When it will be tried again, while it is open or stopped."""
        return self._until if self._state in {State.OPEN, State.STOPPED} else None

    def heed(self, now: int) -> None:
        """Take in what time it is: a clock that was set back must not shut the provider for as long as it jumped."""
        self._until = min(self._until, now + self._pause_ms)

    @property
    def allowed_now(self) -> int:
        """How many deliveries may be in its hands at once."""
        return self._allowed

    def admit(self, now: int, random: float) -> Admitted | Refused:
        """Ask for one delivery. What is admitted is recorded or abandoned, exactly once."""
        match self._state:
            case State.CLOSED:
                return Admitted(self._turn)
            case State.OPEN | State.STOPPED:
                self.heed(now)
                if now < self._until:
                    return self._refuse(self._until, self._pause_ms / 2 * random)
                self._enter(State.HALF_OPEN, allowed=1)
            case State.HALF_OPEN | State.RECOVERING:
                if self._in_flight >= self._allowed:
                    if abs(now - self._moved_at) <= _LOST_MS:
                        return self._refuse(now, self._first_ms * (0.5 + random / 2))
                    self._enter(self._state, allowed=1)
            case _:
                assert_never(self._state)
        self._in_flight += 1
        self._moved_at = now
        return Admitted(self._turn, self._state is State.HALF_OPEN)

    def _refuse(self, at: int, later_ms: float) -> Refused:
        return Refused(at + int(later_ms), self._why or Why.PROVIDER_DOWN)

    def abandon(self, admitted: Admitted, now: int) -> None:
        """Give an admission back unused: held by a rate, or cancelled before anything was tried."""
        if admitted.turn == self._turn and self._in_flight:
            self._in_flight -= 1
            self._moved_at = now

    def record(self, outcome: Outcome, now: int, admitted: Admitted | None = None) -> State | None:
        """Learn from an outcome; answers the new state if it changed (`stopped` and `open` are worth an alarm).

        With `admitted`, an answer that was on its way since before the last change is told apart and ignored.
        """
        if self._state in {State.OPEN, State.STOPPED} or (admitted is not None and admitted.turn != self._turn):
            return None
        before = self._state
        self._in_flight = max(0, self._in_flight - 1)
        self._moved_at = now
        match _life(outcome):
            case _Life.WORKS:
                self._works()
            case _Life.FAILED:
                self._failures += 1
                if before is not State.CLOSED or self._failures >= self._failures_most:
                    self._open(State.OPEN, outcome, now)
            case _Life.REFUSES_US:
                self._open(State.STOPPED, outcome, now)
        return self._state if self._state is not before else None

    def resume(self) -> None:
        """Take it up again by an operator's word: recovering, as after a probe that worked."""
        self._openings = 0
        self._recover()

    def _works(self) -> None:
        self._failures = 0
        if self._state is State.HALF_OPEN:
            self._recover()
        elif self._state is State.RECOVERING:
            self._allowed += 1
            self._close_if_whole()

    def _recover(self) -> None:
        self._enter(State.RECOVERING, allowed=1)
        self._close_if_whole()

    def _close_if_whole(self) -> None:
        if self._allowed >= self._concurrency:
            # The same turn: what is in flight from the recovery still counts.
            self._state = State.CLOSED
            self._allowed = self._concurrency
            self._why = self._detail = None
            self._openings = self._failures = 0

    def _open(self, state: State, outcome: Outcome, now: int) -> None:
        self._openings += 1
        doublings = min(self._openings - 1, 30)
        pause_ms = self._most_ms if state is State.STOPPED else self._first_ms * 2**doublings
        if isinstance(outcome, Retry) and outcome.after is not None and outcome.after * 1000 > pause_ms:
            pause_ms = outcome.after * 1000
        self._pause_ms = max(1, int(min(pause_ms, self._most_ms)))
        self._until = now + self._pause_ms
        self._why = Why.ACCOUNT_PROBLEM if state is State.STOPPED else Why.PROVIDER_DOWN
        self._detail = outcome.detail
        self._enter(state, allowed=0)

    def _enter(self, state: State, *, allowed: int) -> None:
        self._state = state
        self._allowed = allowed
        self._in_flight = 0
        self._failures = 0
        self._turn += 1


def _life(outcome: Outcome) -> _Life:
    if isinstance(outcome, Accepted):
        return _Life.WORKS
    match blame_of(outcome.reason):
        case Blame.ACCOUNT:
            return _Life.REFUSES_US
        case Blame.PROVIDER:
            return _Life.FAILED
        case Blame.RECIPIENT | Blame.MESSAGE:
            return _Life.WORKS
