"""What may and should go where: a pure function from a request and what is known to planned deliveries.

Owns the decision, with its reasons. Refuses to know storage, HTTP, providers and the clock: `now` is an argument, and
what is known of people comes in as `Known`. `accept` and `explain` run this same code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.middleware import often
from gateway.middleware.consent import decide as decide_consent
from gateway.middleware.contract import Dropped, Held
from gateway.model.inbox import INBOX
from gateway.model.preferences import NO_CHOICES, Cell, Choices, resolve, words
from gateway.model.states import WAITING, Mode, OnUnknown, Priority, Status, Strategy, Why
from gateway.model.turns import NEVER
from gateway.router.rules import CategoryRule, Rules
from gateway.storage.contract import ForUser, Joining, OptOut, SuppressionRow, Turn


class Target(ForUser, frozen=True, kw_only=True):
    """One recipient on one channel. `address` is normalised; `key` is its form for matching (suppressions, twins).

    `twin` names what else must be equal for two targets to be the same message: the recipient's own data. `timezone` is
    where the recipient is, if that is known.
    """

    position: int
    channel: str
    address: str | None
    key: str
    user_id: str | None = None
    simulated: bool = False
    twin: bytes = b""
    timezone: str | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request with every default resolved. Times in Unix ms. `escalate_after_ms` is set where `strategy` needs it."""

    category: CategoryRule
    priority: Priority
    send_at: int | None
    expires_at: int | None
    strategy: Strategy = Strategy.ALL
    escalate_after_ms: int | None = None
    files: bool = False
    own_terms: Collection[str] = ()
    """The channels in whose terms it says something: such a message is never put into a digest."""
    digest_key: str | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the addressed: suppressions by (channel, key), opt-outs by (channel, key, category).

    Choices are by user, of those who made any. `planned` are the (channel, key) to which this request goes already: a
    topic is planned in slices.
    """

    suppressions: Mapping[tuple[str, str], SuppressionRow] = {}
    opt_outs: Collection[OptOut] = ()
    choices: Mapping[str, Choices] = {}
    planned: Collection[tuple[str, str]] = ()


class RuleNote(msgspec.Struct, frozen=True):
    """A rule that took part, for `explain`."""

    rule: str
    result: str
    detail: str | None = None


_GATHERING: Final = frozenset({Why.DIGEST, Why.QUIET_HOURS})
"""Why what goes together with others waits."""


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
    cell: Cell | None = None
    """What the preferences say; `None` where they were not asked."""
    quiet: Held | None = None
    """The quiet hours it falls into."""
    gathers: bool = False
    """Whether it goes together with others, if nothing else makes it wait for longer."""


class _Judged(NamedTuple):
    """What the rules make of a target, and what they went by."""

    verdict: Dropped | Held | None
    deadline_at: int
    cell: Cell | None = None
    quiet: Held | None = None


def plan(ask: Ask, targets: Sequence[Target], known: Known, rules: Rules, now: int) -> list[Planned]:
    """Plan every target. Pure; as many results as targets, in order."""
    seen: set[tuple[str, str, bytes]] = set()
    planned = [_planned(ask, target, rules, _judged(ask, target, known, seen, rules, now), now) for target in targets]
    return planned if ask.strategy is Strategy.ALL else _in_turn(ask, planned, rules, now)


def deadline(ask: Ask, target: Target, rules: Rules, now: int, *, held_until: int = 0) -> int:
    """Say after which moment (Unix ms) a delivery is not tried any more.

    The earliest of the request's `expires_at`, the category's `expires_after_s`, and the channel's retry budget, which
    begins when the delivery may first be tried: not before `held_until`, and not while a digest or a throttle can hold
    it back.
    """
    start = often.waits_until(ask.category.settings, target.timezone, max(_start(ask, now), held_until))
    return min(start + _budget(target.channel, rules), _limit(ask, now))


def alone_because(ask: Ask, channel: str, step: int) -> str | None:
    """Say why a message is not put into a digest; `None` where it may be."""
    return often.alone_because(
        strategy=ask.strategy,
        step=step,
        priority=ask.priority,
        own_terms=channel in ask.own_terms,
        files=ask.files,
    )


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
    begins: dict[int, int] = {}
    for one in planned:
        place = one.target.position
        if steps[place].get(one.target.channel) == 0 and one.status in WAITING:
            begins[place] = min(begins.get(place, NEVER), one.due_at)
    return [
        _turn(ask, one, tuple(steps[one.target.position]), rules, begins[one.target.position], now)
        if one.status in WAITING and len(steps[one.target.position]) > 1
        else one
        for one in planned
    ]


def _turn(ask: Ask, one: Planned, chain: Sequence[str], rules: Rules, begins: int, now: int) -> Planned:
    """Give one delivery its place in a chain of channels, whose first is due when it `begins`."""
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
        due = max(begins + step * ask.escalate_after_ms, one.due_at)
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


def _judged(
    ask: Ask,
    target: Target,
    known: Known,
    seen: set[tuple[str, str, bytes]],
    rules: Rules,
    now: int,
) -> _Judged:
    """Judge one target; `seen` are those before it, and gets this one."""
    if target.address is None:
        verdict = Dropped(status=Status.SKIPPED, reason=Why.NO_ADDRESS, detail=f"no address for {target.channel}")
        return _Judged(verdict, deadline(ask, target, rules, now))
    twin = (target.channel, target.key, target.twin)
    if twin in seen or (target.channel, target.key) in known.planned:
        verdict = Dropped(status=Status.SKIPPED, reason=Why.NOT_NEEDED, detail="the same address is in this request")
        return _Judged(verdict, deadline(ask, target, rules, now))
    seen.add(twin)
    return _consented(ask, target, known, rules, now)


def _consented(ask: Ask, target: Target, known: Known, rules: Rules, now: int) -> _Judged:
    """Ask for consent: of the lists, the person, the hour at which it would go."""
    choices = NO_CHOICES if target.user_id is None else known.choices.get(target.user_id, NO_CHOICES)
    category = ask.category
    opted_out = not target.simulated and (target.channel, target.key, category.name) in known.opt_outs
    cell = resolve(choices, category.terms, target.channel, opted_out=opted_out)
    heeds = category.settings.quiet_hours
    hours = rules.quiet.hours_for(choices, channel=target.channel, priority=ask.priority, heeds=heeds)
    quiet = rules.quiet.until(hours, target.timezone, _start(ask, now))
    until = deadline(ask, target, rules, now, held_until=0 if quiet is None else quiet.until)
    verdict = decide_consent(
        suppression=None if target.simulated else known.suppressions.get((target.channel, target.key)),
        cell=cell,
        quiet=quiet,
        deadline_at=until,
        now=_start(ask, now),
    )
    return _Judged(verdict, until, cell, quiet)


def _planned(ask: Ask, target: Target, rules: Rules, judged: _Judged, now: int) -> Planned:
    verdict, until, cell, quiet = judged
    on_unknown = rules.on_unknown(ask.category, target.channel)
    status, reason, detail, due_at = Status.QUEUED, None, None, now
    later = ask.send_at is not None and ask.send_at > now
    gathered = None if later else _gathered_until(ask, target, now)
    if isinstance(verdict, Held) and (gathered is None or gathered <= verdict.until):
        status, reason, detail, due_at = Status.HELD, verdict.reason, verdict.detail, verdict.until
    elif verdict is not None and not isinstance(verdict, Held):
        status, reason, detail = verdict.status, verdict.reason, verdict.detail
    elif ask.send_at is not None and later:
        status, reason, due_at = Status.HELD, Why.SCHEDULED, ask.send_at
    elif gathered is not None:
        status, reason, detail, due_at = Status.HELD, Why.DIGEST, "gathered into one message", gathered
    return Planned(
        target=target,
        status=status,
        reason=reason,
        detail=detail,
        due_at=due_at,
        deadline_at=until,
        on_unknown=on_unknown,
        cell=cell,
        quiet=quiet,
        gathers=gathered is not None,
    )


def _gathered_until(ask: Ask, target: Target, now: int) -> int | None:
    """Say when the digest in which a message waits would be sent if it were its first; `None` where it does not."""
    settings = ask.category.settings
    if settings.digest is None or not often.gathers_all(settings) or alone_because(ask, target.channel, 0) is not None:
        return None
    return often.digest_due(settings.digest, target.timezone, now)


def join_of(planned: Planned, ask: Ask, project: str, mode: Mode) -> Joining | None:
    """Say which digest a planned delivery waits in. What is gathered in quiet hours is sent when they end."""
    if not planned.gathers or planned.reason not in _GATHERING or planned.status is not Status.HELD:
        return None
    return Joining(name=digest_name(planned.target, ask, project, mode), due_at=planned.due_at)


def digest_name(target: Target, ask: Ask, project: str, mode: Mode) -> str:
    """Name the digest that a target's message belongs in."""
    return often.digest_name(
        project=project,
        mode=mode,
        category=ask.category.name,
        channel=target.channel,
        user=target.user_id,
        address=target.key,
        digest_key=ask.digest_key,
    )


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
    because = None if planned.cell is None else words(planned.cell)
    found.append(RuleNote("preference", "skip" if opted_out else "pass", because))
    return found if opted_out else [*found, *_time_notes(planned, now)]


def _time_notes(planned: Planned, now: int) -> Iterator[RuleNote]:
    """List the rules about when."""
    if planned.turn is not None:
        yield RuleNote("turn", "hold" if planned.turn.step else "pass", _turn_words(planned, planned.turn))
    expired = planned.reason is Why.EXPIRED
    if planned.deadline_at >= NEVER:
        yield RuleNote("deadline", "pass", "counts from its turn")
    else:
        left_s = max(0, planned.deadline_at - now) // 1000
        yield RuleNote("deadline", "expired" if expired else "pass", f"{left_s} s left")
    if planned.reason is Why.SCHEDULED:
        yield RuleNote("schedule", "hold", "send_at is in the future")
    if planned.quiet is None:
        yield RuleNote("quiet_hours", "pass")
    else:
        yield RuleNote("quiet_hours", "expired" if expired else "hold", planned.quiet.detail)


def _turn_words(planned: Planned, turn: Turn) -> str:
    return f"{turn.strategy.value}, step {turn.step + 1}: {planned.detail or 'the first'}"
