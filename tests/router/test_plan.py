"""`plan` is pure: the same question has the same answer, every target gets exactly one, and each says why."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import CategorySettings, ChannelSettings, RetrySettings, Settings
from gateway.model.states import FINAL, OnUnknown, Priority, Status, Why
from gateway.router.plan import Ask, Known, Target, deadline, notes, plan
from gateway.router.rules import Rules
from gateway.storage.contract import SuppressionRow

NOW = 1_800_000_000_000
DAY_MS = 86_400_000


def rules(**categories: CategorySettings) -> Rules:
    return Rules.build(
        Settings(
            channels={"email": ChannelSettings(retry=RetrySettings(budget_s=3600)), "sms": ChannelSettings()},
            categories=categories,
        ),
    )


def ask(made: Rules, *, category: str = "default", send_at: int | None = None, expires_at: int | None = None) -> Ask:
    return Ask(
        category=made.categories[category],
        priority=Priority.NORMAL,
        send_at=send_at,
        expires_at=expires_at,
    )


def target(address: str | None = "ada@example.com", *, channel: str = "email", twin: bytes = b"", **more) -> Target:
    return Target(position=0, channel=channel, address=address, key=address or "", twin=twin, **more)


def suppressed(address: str) -> Known:
    row = SuppressionRow(channel="email", address=address, reason=Why.COMPLAINED, source="hand", created_at=NOW)
    return Known(suppressions={("email", address): row})


def test_an_ordinary_target_is_queued_and_due_at_once():
    made = rules()
    [planned] = plan(ask(made), [target()], Known(), made, NOW)
    assert (planned.status, planned.reason, planned.due_at) == (Status.QUEUED, None, NOW)
    assert planned.deadline_at == NOW + 3_600_000


def test_a_target_without_an_address_is_skipped_and_says_so():
    made = rules()
    [planned] = plan(ask(made), [target(None)], Known(), made, NOW)
    assert (planned.status, planned.reason) == (Status.SKIPPED, Why.NO_ADDRESS)


def test_a_suppressed_address_is_skipped_but_a_simulated_one_never():
    made = rules()
    known = suppressed("ada@example.com")
    plain, simulated = (plan(ask(made), [one], known, made, NOW)[0] for one in (target(), target(simulated=True)))
    assert (plain.status, plain.reason) == (Status.SKIPPED, Why.SUPPRESSED)
    assert simulated.status is Status.QUEUED


def test_a_required_category_does_not_pass_suppressions():
    made = rules(**{"sign-in": CategorySettings(required=True)})
    [planned] = plan(ask(made, category="sign-in"), [target()], suppressed("ada@example.com"), made, NOW)
    assert planned.reason is Why.SUPPRESSED


def test_the_same_address_with_the_same_data_is_written_to_once():
    made = rules()
    first, again, other = plan(ask(made), [target(), target(), target(twin=b'{"a":1}')], Known(), made, NOW)
    assert first.status is Status.QUEUED
    assert (again.status, again.reason) == (Status.SKIPPED, Why.NOT_NEEDED)
    assert other.status is Status.QUEUED


def test_a_send_in_the_future_is_held_until_then_and_its_deadline_counts_from_then():
    made = rules()
    [planned] = plan(ask(made, send_at=NOW + DAY_MS), [target()], Known(), made, NOW)
    assert (planned.status, planned.reason, planned.due_at) == (Status.HELD, Why.SCHEDULED, NOW + DAY_MS)
    assert planned.deadline_at == NOW + DAY_MS + 3_600_000


def test_a_send_in_the_past_is_due_now():
    made = rules()
    [planned] = plan(ask(made, send_at=NOW - DAY_MS), [target()], Known(), made, NOW)
    assert (planned.status, planned.due_at) == (Status.QUEUED, NOW)


def test_what_has_expired_already_ends_expired():
    made = rules()
    [planned] = plan(ask(made, expires_at=NOW), [target()], Known(), made, NOW)
    assert (planned.status, planned.reason) == (Status.EXPIRED, Why.EXPIRED)


def test_the_earliest_of_the_three_limits_is_the_deadline():
    made = rules(short=CategorySettings(expires_after_s=60))
    assert deadline(ask(made, category="short"), target(), made, NOW) == NOW + 60_000
    assert deadline(ask(made, category="short", expires_at=NOW + 5), target(), made, NOW) == NOW + 5
    assert deadline(ask(made), target(), made, NOW) == NOW + 3_600_000


def test_a_lost_answer_is_held_where_a_second_copy_costs_money():
    made = rules(
        careful=CategorySettings(on_unknown=OnUnknown.HOLD), hasty=CategorySettings(on_unknown=OnUnknown.RESEND)
    )
    asked = [
        plan(ask(made, category=category), [target(channel=channel)], Known(), made, NOW)[0].on_unknown
        for category, channel in [("default", "email"), ("default", "sms"), ("careful", "email"), ("hasty", "sms")]
    ]
    assert asked == [OnUnknown.RESEND, OnUnknown.HOLD, OnUnknown.HOLD, OnUnknown.RESEND]


addresses = st.sampled_from(["a@example.com", "b@example.com", "c@example.com", None])
times = st.one_of(st.none(), st.integers(NOW - DAY_MS, NOW + DAY_MS))


@given(
    who=st.lists(addresses, max_size=12),
    bad=st.sets(st.sampled_from(["a@example.com", "b@example.com"])),
    send_at=times,
    expires_at=times,
)
def test_every_target_gets_one_plan_that_holds_together(who, bad, send_at, expires_at):
    made = rules()
    asked = ask(made, send_at=send_at, expires_at=expires_at)
    known = Known(suppressions={key: row for one in bad for key, row in suppressed(one).suppressions.items()})
    targets = [target(one) for one in who]
    plans = plan(asked, targets, known, made, NOW)
    assert [one.target for one in plans] == targets
    assert plans == plan(asked, targets, known, made, NOW)
    for one in plans:
        assert (one.reason is None) == (one.status is Status.QUEUED)
        assert one.due_at >= NOW
        assert notes(one, NOW)
        if one.status not in FINAL:
            assert one.target.address not in bad
            assert one.due_at < one.deadline_at
    sent = [one.target.address for one in plans if one.status not in FINAL]
    assert len(sent) == len(set(sent))
