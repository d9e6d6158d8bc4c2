"""Channels in turn: what one delivery's fate means for those that wait behind it.

Pure. A **chain** is what one recipient gets under `first_success` or `escalate`; its **steps** follow the order of the
channels, and several addresses of one channel are one step together. Owns when a step's turn comes and when it is not
needed any more. Refuses to know how chains are stored and who sends.

What counts as success is the question of each strategy. `first_success` asks whether it went out: `sent` once it is
final, `delivered`, `captured`, `unknown`, which may have gone out, and what another's digest carried. `escalate` asks
whether somebody noticed: `delivered` (but for an item in the inbox, which is there at once), any sign of a person
(seen, read, opened, clicked, acknowledged), and `captured`, since in staging nobody will ever confirm anything and a
test should show one message, not the whole chain. A `sent` without a receipt and an `unknown` say nothing of that kind,
so the next step goes when its time comes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from gateway.model.states import WAITING, Engagement, Status, Strategy, Why

NEVER: Final = 253_370_764_800_000
"""When what waits for another's fate alone is due, and the deadline of what has none yet: the year 9999 (Unix ms)."""

NOTICED: Final = frozenset(
    {
        Engagement.SEEN,
        Engagement.READ,
        Engagement.OPENED,
        Engagement.CLICKED,
        Engagement.ACKNOWLEDGED,
    },
)
"""What a person does with a message that has arrived. A complaint and an unsubscribing are no thanks for more."""

_WENT_OUT: Final = frozenset({Status.DELIVERED, Status.CAPTURED, Status.UNKNOWN})
_FAILED: Final = frozenset({Status.FAILED, Status.BOUNCED, Status.EXPIRED, Status.SKIPPED})
"""`cancelled` is not among them: who calls a notification back wants nothing more of it, so nothing follows it. What
may have been sent before it was called back ends `unknown`, with that reason."""


class Member(NamedTuple):
    """One delivery of a chain, as it stands."""

    id: UUID
    step: int
    status: Status
    final: bool
    reason: str | None
    engagement: frozenset[str]
    lies: bool = False
    """It lies in an inbox, where it is delivered at once and noticed only when somebody looks."""

    @property
    def waits(self) -> bool:
        """Whether it is not sent yet; its turn may have come."""
        return self.status in WAITING

    @property
    def awaits_turn(self) -> bool:
        """Whether its turn has not come yet."""
        return self.status is Status.HELD and self.reason == Why.FALLBACK

    @property
    def called_back(self) -> bool:
        """Whether somebody wanted no more of it."""
        return self.status is Status.CANCELLED or (self.status is Status.UNKNOWN and self.reason == Why.CANCELLED)


class Follows(NamedTuple):
    """What follows for a chain: these are due now, or these are not needed; `cause` is the delivery that made it so."""

    due: tuple[UUID, ...] = ()
    not_needed: tuple[UUID, ...] = ()
    cause: UUID | None = None


def succeeded(strategy: Strategy, one: Member) -> bool:
    """Say whether a delivery makes those behind it unnecessary."""
    if one.awaits_turn:
        return False
    if not NOTICED.isdisjoint(one.engagement):
        return True
    if strategy is Strategy.ESCALATE:
        return one.status is Status.CAPTURED or (one.status is Status.DELIVERED and not one.lies)
    return one.status in _WENT_OUT or (one.status is Status.SENT and one.final) or _gathered(one)


def failed(one: Member) -> bool:
    """Say whether a delivery has come to nothing."""
    return one.status in _FAILED and not _gathered(one)


def _gathered(one: Member) -> bool:
    """Say whether another delivery's digest carried it."""
    return one.status is Status.SKIPPED and one.reason == Why.DIGEST


def follows(strategy: Strategy, members: Iterable[Member]) -> Follows:
    """Decide what a chain's standing means for those that wait in it.

    Answers the same for the same standing, however often it is asked: what was decided before is no longer waiting.
    A step whose rows are gone holds up nobody.
    """
    chain = sorted(members, key=lambda one: (one.step, one.id))
    for one in chain:
        if succeeded(strategy, one) or one.called_back:
            behind = tuple(other.id for other in chain if other.awaits_turn or (other.waits and other.step > one.step))
            return Follows(not_needed=behind, cause=one.id)
    steps: defaultdict[int, list[Member]] = defaultdict(list)
    for one in chain:
        steps[one.step].append(one)
    before: list[list[Member]] = []
    for step in steps.values():
        next_ones = tuple(one.id for one in step if one.awaits_turn)
        if next_ones:
            made_way = _made_way(strategy, before)
            return Follows(due=next_ones, cause=_last(before)) if made_way else Follows()
        before.append(step)
    return Follows()


def _made_way(strategy: Strategy, before: Sequence[Sequence[Member]]) -> bool:
    """Say whether the steps before let the next one go at once.

    Under `escalate` only the one directly before is asked: those further up had their time already. Without any, there
    is nothing to wait for under `first_success`; under `escalate` the time will come by itself.
    """
    if strategy is Strategy.ESCALATE:
        return bool(before) and all(map(failed, before[-1]))
    return all(failed(one) for step in before for one in step)


def _last(before: Sequence[Sequence[Member]]) -> UUID | None:
    return before[-1][-1].id if before else None
