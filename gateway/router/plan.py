"""What may and should go where: a pure function from a request and what is known to planned deliveries.

Owns the decision, with its reasons. Refuses to know storage, HTTP, providers and the clock: `now` is an argument, and
what is known of people comes in as `Known`. `accept` and `explain` run this same code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from gateway.middleware.consent import decide as decide_consent
from gateway.middleware.contract import Dropped, Held
from gateway.model.inbox import INBOX
from gateway.model.states import WAITING, OnUnknown, Priority, Status, Strategy, Why
from gateway.model.turns import NEVER
from gateway.router.rules import CategoryRule, Rules
from gateway.storage.contract import ForUser, OptOut, SuppressionRow, Turn


class Target(ForUser, frozen=True, kw_only=True):
    """One recipient on one channel. `address` is normalised; `key` is its form for matching (suppressions, twins).

    `twin` names what else must be equal for two targets to be the same message: the recipient's own data.
    """

    position: int
    channel: str
    address: str | None
    key: str
    user_id: str | None = None
    simulated: bool = False
    twin: bytes = b""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request with every default resolved. Times in Unix ms. `escalate_after_ms` is set where `strategy` needs it."""

    category: CategoryRule
    priority: Priority
    send_at: int | None
    expires_at: int | None
    strategy: Strategy = Strategy.ALL
    escalate_after_ms: int | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the addressed: suppressions by (channel, key), opt-outs by (channel, key, category).

    `planned` are the (channel, key) to which this request goes already: a topic is planned in slices.
    """

    suppressions: Mapping[tuple[str, str], SuppressionRow] = {}
    opt_outs: Collection[OptOut] = ()
    planned: Collection[tuple[str, str]] = ()


class RuleNote(msgspec.Struct, frozen=True):
    """A rule that took part, for `explain`."""

    rule: str
    result: str
    detail: str | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one target: `queued`, `held`, or final from the start."""

    target: Target
    status: Status
    reason: Why | None = None
    detail: str | None = None
    due_at: int
    deadline_at: int
    on_unknown: OnUnknown
    turn: Turn | None = None


def plan(ask: Ask, targets: Sequence[Target], known: Known, rules: Rules, now: int) -> list[Planned]:
    """Plan every target. Pure; as many results as targets, in order."""
    planned = [
        _planned(ask, target, rules, verdict, now)
        for target, verdict in zip(targets, _verdicts(ask, targets, known, rules, now), strict=True)
    ]
    return planned if ask.strategy is Strategy.ALL else _in_turn(ask, planned, rules, now)


def deadline(ask: Ask, channel: str, rules: Rules, now: int) -> int:
    """Say after which moment (Unix ms) a delivery is not tried any more.

    The earliest of the request's `expires_at`, the category's `expires_after_s`, and the channel's retry budget.
    """
    return min(_start(ask, now) + _budget(channel, rules), _limit(ask, now))


def expiry(ask: Ask, accepted_at: int) -> int | None:
    """Say after which moment a request that was accepted then is not tried at all, however late it is planned."""
    latest = _limit(ask, accepted_at)
    return latest if latest < NEVER else None


def _start(ask: Ask, now: int) -> int:
    return max(now, ask.send_at or 0)


def _budget(channel: str, rules: Rules) -> int:
    return rules.channels[channel].retry.budget_s * 1000


def _limit(ask: Ask, now: int) -> int:
    """Say after which moment nothing of the request is tried, whatever the channel; `NEVER` where nobody said."""
    latest = NEVER
    if ask.category.expires_after_ms is not None:
        latest = _start(ask, now) + ask.category.expires_after_ms
    return latest if ask.expires_at is None else min(latest, ask.expires_at)


def _in_turn(ask: Ask, planned: Sequence[Planned], rules: Rules, now: int) -> list[Planned]:
    """Let only the first channel that may go be tried at once; those behind it wait for their turn.

    Several addresses of one channel are one step. A recipient whom only one channel may reach needs no turns.
    """
    steps: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for one in planned:
        if one.status in WAITING:
            steps[one.target.position].setdefault(one.target.channel, len(steps[one.target.position]))
    return [
        _turn(ask, one, tuple(steps[one.target.position]), rules, now)
        if one.status in WAITING and len(steps[one.target.position]) > 1
        else one
        for one in planned
    ]


def _turn(ask: Ask, one: Planned, chain: Sequence[str], rules: Rules, now: int) -> Planned:
    """Give one delivery its place in a chain of channels."""
    channel = one.target.channel
    step = chain.index(channel)
    budget = _budget(channel, rules)
    turn = Turn(step=step, strategy=ask.strategy, budget_ms=budget)
    if step == 0:
        return msgspec.structs.replace(one, turn=turn)
    limit = _limit(ask, now)
    # The time for retries begins when the turn comes; what the request or its category said holds from the start.
    due, deadline_at, detail = NEVER, limit, f"only if {chain[step - 1]} fails"
    if ask.escalate_after_ms is not None:
        due = max(_start(ask, now) + step * ask.escalate_after_ms, one.due_at)
        deadline_at = min(limit, due + budget)
        noticed = "is seen" if INBOX in chain[:step] else "arrives or is acknowledged"
        detail = f"unless {' or '.join(chain[:step])} {noticed}; at once if {chain[step - 1]} fails"
    return msgspec.structs.replace(
        one,
        status=Status.HELD,
        reason=Why.FALLBACK,
        detail=detail,
        due_at=due,
        deadline_at=deadline_at,
        turn=turn,
    )


def _verdicts(
    ask: Ask,
    targets: Sequence[Target],
    known: Known,
    rules: Rules,
    now: int,
) -> Iterator[Dropped | Held | None]:
    seen: set[tuple[str, str, bytes]] = set()
    for target in targets:
        if target.address is None:
            yield Dropped(status=Status.SKIPPED, reason=Why.NO_ADDRESS, detail=f"no address for {target.channel}")
            continue
        twin = (target.channel, target.key, target.twin)
        if twin in seen or (target.channel, target.key) in known.planned:
            yield Dropped(status=Status.SKIPPED, reason=Why.NOT_NEEDED, detail="the same address is in this request")
            continue
        seen.add(twin)
        yield decide_consent(
            suppression=None if target.simulated else known.suppressions.get((target.channel, target.key)),
            category=ask.category.settings,
            opted_out=not target.simulated and (target.channel, target.key, ask.category.name) in known.opt_outs,
            deadline_at=deadline(ask, target.channel, rules, now),
            now=max(now, ask.send_at or 0),
        )


def _planned(ask: Ask, target: Target, rules: Rules, verdict: Dropped | Held | None, now: int) -> Planned:
    until = deadline(ask, target.channel, rules, now)
    on_unknown = rules.on_unknown(ask.category, target.channel)
    if isinstance(verdict, Held):
        return Planned(
            target=target,
            status=Status.HELD,
            reason=verdict.reason,
            detail=verdict.detail,
            due_at=verdict.until,
            deadline_at=until,
            on_unknown=on_unknown,
        )
    if verdict is not None:
        return Planned(
            target=target,
            status=verdict.status,
            reason=verdict.reason,
            detail=verdict.detail,
            due_at=now,
            deadline_at=until,
            on_unknown=on_unknown,
        )
    if ask.send_at is not None and ask.send_at > now:
        return Planned(
            target=target,
            status=Status.HELD,
            reason=Why.SCHEDULED,
            due_at=ask.send_at,
            deadline_at=until,
            on_unknown=on_unknown,
        )
    return Planned(target=target, status=Status.QUEUED, due_at=now, deadline_at=until, on_unknown=on_unknown)


def notes(planned: Planned, now: int) -> list[RuleNote]:
    """List the rules that took part in a plan, for people to read."""
    channel = planned.target.channel
    found = [RuleNote("address", "no" if planned.reason is Why.NO_ADDRESS else "yes", f"an address for {channel}")]
    if planned.reason is Why.NO_ADDRESS:
        return found
    if planned.target.simulated:
        found.append(RuleNote("simulator", "yes", "a simulator address: nothing leaves, whatever the environment"))
    if planned.reason is Why.NOT_NEEDED:
        return [*found, RuleNote("twin", "skip", planned.detail)]
    suppressed = planned.reason is Why.SUPPRESSED
    found.append(RuleNote("suppression", "skip" if suppressed else "pass", planned.detail if suppressed else None))
    if suppressed:
        return found
    opted_out = planned.reason is Why.OPTED_OUT
    found.append(RuleNote("opt_out", "skip" if opted_out else "pass", planned.detail if opted_out else None))
    if opted_out:
        return found
    if planned.turn is not None:
        found.append(RuleNote("turn", "hold" if planned.turn.step else "pass", _turn_words(planned, planned.turn)))
    if planned.deadline_at >= NEVER:
        found.append(RuleNote("deadline", "pass", "counts from its turn"))
        return found
    expired = planned.reason is Why.EXPIRED
    left_s = max(0, planned.deadline_at - now) // 1000
    found.append(RuleNote("deadline", "expired" if expired else "pass", f"{left_s} s left"))
    if planned.reason is Why.SCHEDULED:
        found.append(RuleNote("schedule", "hold", "send_at is in the future"))
    return found


def _turn_words(planned: Planned, turn: Turn) -> str:
    return f"{turn.strategy.value}, step {turn.step + 1}: {planned.detail or 'the first'}"
