"""Planning channels in turn: who goes first, who waits for whom, until when, and in which words."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import CategorySettings, ChannelSettings, RetrySettings, Settings
from gateway.model.states import FINAL, Priority, Status, Strategy, Why
from gateway.model.turns import NEVER
from gateway.router.plan import Ask, Known, Target, notes, plan
from gateway.router.rules import Rules
from gateway.storage.contract import SuppressionRow

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
BUDGETS = {"email": 3600, "sms": 7200, "slack": 600}
MADE = Rules.build(
    Settings(
        channels={name: ChannelSettings(retry=RetrySettings(budget_s=left)) for name, left in BUDGETS.items()},
        categories={"short": CategorySettings(expires_after_s=900)},
    ),
)
FIRST, ESCALATE = Strategy.FIRST_SUCCESS, Strategy.ESCALATE


def ask(strategy: Strategy = FIRST, *, category: str = "default", **more) -> Ask:
    values = {"send_at": None, "expires_at": None, "priority": Priority.NORMAL} | more
    after = 300_000 if strategy is ESCALATE else None
    return Ask(category=MADE.categories[category], strategy=strategy, escalate_after_ms=after, **values)


def target(channel: str, address: str | None = "x", *, position: int = 0) -> Target:
    given_ = address and f"{channel}-{address}-{position}"
    return Target(position=position, channel=channel, address=given_, key=given_ or "")


ALL = [target("email"), target("sms"), target("slack")]


def suppressed(*targets: Target) -> Known:
    rows = {
        (one.channel, one.key): SuppressionRow(
            channel=one.channel, address=one.key, reason=Why.COMPLAINED, source="hand", created_at=NOW
        )
        for one in targets
    }
    return Known(suppressions=rows)


def steps(planned) -> list[int | None]:
    return [None if one.turn is None else one.turn.step for one in planned]


def test_the_first_goes_and_the_others_wait_without_a_time():
    planned = plan(ask(), ALL, Known(), MADE, NOW)
    assert [(one.status, one.reason) for one in planned] == [
        (Status.QUEUED, None),
        (Status.HELD, Why.FALLBACK),
        (Status.HELD, Why.FALLBACK),
    ]
    assert steps(planned) == [0, 1, 2]
    assert [one.due_at for one in planned] == [NOW, NEVER, NEVER]
    assert [one.deadline_at for one in planned] == [NOW + HOUR_MS, NEVER, NEVER], "its time begins with its turn"
    assert [one.turn.budget_ms for one in planned] == [BUDGETS[one.target.channel] * 1000 for one in planned]
    assert [one.detail for one in planned] == [None, "only if email fails", "only if sms fails"]


def test_a_deadline_that_was_asked_for_holds_from_the_start():
    for asked, limit in [(ask(category="short"), NOW + 900_000), (ask(expires_at=NOW + 5000), NOW + 5000)]:
        assert [one.deadline_at for one in plan(asked, ALL, Known(), MADE, NOW)][1:] == [limit, limit]


def test_escalating_gives_each_step_its_time_counted_from_the_start():
    for send_at, start in [(None, NOW), (NOW + HOUR_MS, NOW + HOUR_MS), (NOW - HOUR_MS, NOW)]:
        planned = plan(ask(ESCALATE, send_at=send_at), ALL, Known(), MADE, NOW)
        assert [one.due_at for one in planned] == [start, start + 300_000, start + 600_000]
        assert planned[1].deadline_at == start + 300_000 + BUDGETS["sms"] * 1000


def test_the_chain_starts_at_the_first_that_may_go_and_what_may_not_says_why():
    targets = [target("email", None), target("sms"), target("slack")]
    planned = plan(ask(ESCALATE), targets, Known(), MADE, NOW)
    assert [one.reason for one in planned] == [Why.NO_ADDRESS, None, Why.FALLBACK]
    assert steps(planned) == [None, 0, 1]
    assert planned[2].due_at == NOW + 300_000, "time is counted in steps that are taken"
    planned = plan(ask(), ALL, suppressed(ALL[1]), MADE, NOW)
    assert [one.reason for one in planned] == [None, Why.SUPPRESSED, Why.FALLBACK]
    assert planned[2].detail == "only if email fails"


def test_a_recipient_with_one_channel_left_needs_no_turns():
    planned = plan(ask(), ALL, suppressed(ALL[0], ALL[2]), MADE, NOW)
    assert [one.status for one in planned] == [Status.SKIPPED, Status.QUEUED, Status.SKIPPED]
    assert steps(planned) == [None, None, None]


def test_several_addresses_of_one_channel_are_one_step():
    targets = [target("email"), target("sms", "a"), target("sms", "b"), target("slack")]
    planned = plan(ask(), targets, Known(), MADE, NOW)
    assert steps(planned) == [0, 1, 1, 2]
    planned = plan(ask(), targets[1:], Known(), MADE, NOW)
    assert [one.status for one in planned] == [Status.QUEUED, Status.QUEUED, Status.HELD]


def test_a_schedule_holds_the_first_step_and_all_strategies_leave_all_alone():
    planned = plan(ask(send_at=NOW + HOUR_MS), ALL, Known(), MADE, NOW)
    assert [one.reason for one in planned] == [Why.SCHEDULED, Why.FALLBACK, Why.FALLBACK]
    planned = plan(ask(Strategy.ALL), ALL, Known(), MADE, NOW)
    assert {(one.status, one.turn) for one in planned} == {(Status.QUEUED, None)}


def test_the_notes_say_which_step_it_is_and_what_it_waits_for():
    planned = plan(ask(ESCALATE), ALL, Known(), MADE, NOW)
    told = [[(one.result, one.detail) for one in notes(each, NOW) if one.rule == "turn"] for each in planned]
    assert told == [
        [("pass", "escalate, step 1: the first")],
        [("hold", "escalate, step 2: unless email arrives or is acknowledged; at once if email fails")],
        [("hold", "escalate, step 3: unless email or sms arrives or is acknowledged; at once if sms fails")],
    ]


CHANNELS = st.lists(st.sampled_from(["email", "sms", "slack"]), min_size=1, max_size=3, unique=True)
PEOPLE = st.lists(st.tuples(CHANNELS, st.sets(st.integers(0, 2)), st.sets(st.integers(0, 2))), max_size=4)
TIMES = st.none() | st.integers(NOW - HOUR_MS, NOW + 10 * HOUR_MS)


@given(PEOPLE, st.sampled_from(list(Strategy)), TIMES, TIMES)
def test_whoever_can_be_reached_has_exactly_one_first_step(people, strategy, send_at, expires_at):
    targets, bad = [], []
    for position, (channels, absent, refused) in enumerate(people):
        for place, channel in enumerate(channels):
            one = target(channel, None if place in absent else "x", position=position)
            targets.append(one)
            if place in refused and one.address is not None:
                bad.append(one)
    asked = ask(strategy, send_at=send_at, expires_at=expires_at)
    planned = plan(asked, targets, suppressed(*bad), MADE, NOW)
    apart = plan(msgspec.structs.replace(asked, strategy=Strategy.ALL), targets, suppressed(*bad), MADE, NOW)
    assert [one.target for one in planned] == targets
    for position in range(len(people)):
        mine = [one for one in planned if one.target.position == position]
        open_ = [one for one in mine if one.status not in FINAL]
        assert open_ == [] or strategy is Strategy.ALL or sum(one.reason is not Why.FALLBACK for one in open_) == 1
        assert [one.turn.step for one in open_ if one.turn] in ([], list(range(len(open_))))
        assert all(notes(one, NOW) for one in mine)
    for one, alone in zip(planned, apart, strict=True):
        assert (one.status in FINAL) == (alone.status in FINAL), "turns decide when, never whether"
        if one.reason is not Why.FALLBACK:
            assert msgspec.structs.replace(one, turn=None) == alone
        else:
            assert one.due_at >= alone.due_at
