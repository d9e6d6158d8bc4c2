"""What may and should go where: a pure function from a request and what is known to planned deliveries.

Owns the decision, with its reasons. Refuses to know storage, HTTP, providers and the clock: `now` is an argument, and
what is known of people comes in as `Known`. `accept` and `explain` run this same code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from gateway.middleware.consent import decide as decide_consent
from gateway.middleware.contract import Dropped, Held
from gateway.model.states import OnUnknown, Priority, Status, Why
from gateway.router.rules import CategoryRule, Rules
from gateway.storage.contract import ForUser, OptOut, SuppressionRow


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
    """A request with every default resolved. Times in Unix ms."""

    category: CategoryRule
    priority: Priority
    send_at: int | None
    expires_at: int | None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the addressed: suppressions by (channel, key), opt-outs by (channel, key, category)."""

    suppressions: Mapping[tuple[str, str], SuppressionRow] = {}
    opt_outs: Collection[OptOut] = ()


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


def plan(ask: Ask, targets: Sequence[Target], known: Known, rules: Rules, now: int) -> list[Planned]:
    """Plan every target. Pure; as many results as targets, in order."""
    return [
        _planned(ask, target, rules, verdict, now)
        for target, verdict in zip(targets, _verdicts(ask, targets, known, rules, now), strict=True)
    ]


def deadline(ask: Ask, channel: str, rules: Rules, now: int) -> int:
    """Say after which moment (Unix ms) a delivery is not tried any more.

    The earliest of the request's `expires_at`, the category's `expires_after_s`, and the channel's retry budget.
    """
    start = max(now, ask.send_at or 0)
    latest = start + rules.channels[channel].retry.budget_s * 1000
    if ask.category.expires_after_ms is not None:
        latest = min(latest, start + ask.category.expires_after_ms)
    return latest if ask.expires_at is None else min(latest, ask.expires_at)


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
        if twin in seen:
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
    expired = planned.reason is Why.EXPIRED
    left_s = max(0, planned.deadline_at - now) // 1000
    found.append(RuleNote("deadline", "expired" if expired else "pass", f"{left_s} s left"))
    if planned.reason is Why.SCHEDULED:
        found.append(RuleNote("schedule", "hold", "send_at is in the future"))
    return found
