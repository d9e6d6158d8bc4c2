"""Channels in turn, as a pure rule: what one delivery's fate means for those behind it."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.states import FINAL, Engagement, Status, Strategy, Why
from gateway.model.turns import NOTICED, Follows, Member, failed, follows, succeeded

FIRST, ESCALATE = Strategy.FIRST_SUCCESS, Strategy.ESCALATE
NOTHING = Follows()


def member(
    step: int, status: Status = Status.HELD, *, engagement: set[str] | None = None, final: bool | None = None, number=0
) -> Member:
    waits_for_turn = status is Status.HELD
    return Member(
        id=UUID(int=1 + 10 * step + number),
        step=step,
        status=status,
        final=status in FINAL if final is None else final,
        reason=Why.FALLBACK if waits_for_turn else None,
        engagement=frozenset(engagement or ()),
    )


def retrying(step: int) -> Member:
    return member(step)._replace(reason=Why.RETRY)


FAILURES = [Status.FAILED, Status.BOUNCED, Status.EXPIRED, Status.SKIPPED]


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
@pytest.mark.parametrize("status", FAILURES)
def test_the_next_step_is_due_when_the_one_before_failed(strategy, status):
    first, second, third = member(0, status), member(1), member(2)
    assert follows(strategy, [third, second, first]) == Follows(due=(second.id,), cause=first.id)


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.CAPTURED, Status.UNKNOWN, Status.SENT])
def test_what_went_out_makes_all_others_unnecessary_where_one_success_is_enough(status):
    first, second, third = member(0, status, final=True), member(1), member(2)
    assert follows(FIRST, [first, second, third]) == Follows(not_needed=(second.id, third.id), cause=first.id)


def test_sent_with_a_receipt_to_come_keeps_the_others_waiting():
    assert follows(FIRST, [member(0, Status.SENT, final=False), member(1)]) == NOTHING


@pytest.mark.parametrize("status", [Status.SENT, Status.UNKNOWN])
def test_escalating_goes_on_unless_somebody_noticed(status):
    assert follows(ESCALATE, [member(0, status, final=True), member(1)]) == NOTHING


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.CAPTURED])
def test_escalating_stops_at_what_arrived_or_was_captured(status):
    assert follows(ESCALATE, [member(0, status), member(1)]).not_needed == (member(1).id,)


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
@pytest.mark.parametrize("sign", list(Engagement))
def test_a_sign_of_a_person_is_success_and_a_complaint_is_not(strategy, sign):
    found = follows(strategy, [member(0, Status.SENT, final=False, engagement={sign}), member(1)])
    assert found.not_needed == ((member(1).id,) if sign in NOTICED else ())


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
def test_several_addresses_are_one_step_that_fails_only_as_a_whole(strategy):
    gone, open_ = member(0, Status.FAILED), member(0, Status.SENT, final=False, number=1)
    assert follows(strategy, [gone, open_, member(1)]) == NOTHING
    both = [gone, member(0, Status.FAILED, number=1), member(1), member(1, number=1), member(2)]
    assert follows(strategy, both).due == (member(1).id, member(1, number=1).id)


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
def test_nothing_follows_what_was_called_back(strategy):
    found = follows(strategy, [member(0, Status.CANCELLED), member(1)])
    assert (found.due, found.not_needed) == ((), (member(1).id,))


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
def test_what_has_had_its_turn_and_is_not_sent_yet_is_called_off_too(strategy):
    late = [member(0, Status.DELIVERED), retrying(1), member(2)]
    assert follows(strategy, late).not_needed == (retrying(1).id, member(2).id)


def test_steps_whose_rows_are_gone_hold_up_nobody():
    assert follows(FIRST, [member(2), member(3)]) == Follows(due=(member(2).id,), cause=None)
    assert follows(ESCALATE, [member(2)]) == NOTHING, "its time comes by itself"


def test_escalating_asks_only_the_step_directly_before():
    chain = [member(0, Status.SENT, final=True), member(1, Status.FAILED), member(2)]
    assert follows(ESCALATE, chain) == Follows(due=(member(2).id,), cause=member(1, Status.FAILED).id)


def test_an_item_in_an_inbox_is_noticed_when_somebody_looks():
    lies = member(0, Status.DELIVERED)._replace(lies=True)
    assert follows(ESCALATE, [lies, member(1)]) == NOTHING, "its time comes by itself"
    assert follows(FIRST, [lies, member(1)]).not_needed == (member(1).id,)
    for sign in ("seen", "read", "acknowledged"):
        assert follows(ESCALATE, [lies._replace(engagement=frozenset({sign})), member(1)]).not_needed


SIGNS = st.sets(st.sampled_from([one.value for one in Engagement]), max_size=2)
MEMBERS = st.builds(
    lambda step, number, status, final, reason, engagement: Member(
        id=UUID(int=1 + 10 * step + number),
        step=step,
        status=status,
        final=status in FINAL or (status is Status.SENT and final),
        reason=reason if status is Status.HELD else None,
        # Nobody can have done anything with what waits for its turn.
        engagement=frozenset(() if status is Status.HELD and reason is Why.FALLBACK else engagement),
    ),
    st.integers(0, 4),
    st.integers(0, 2),
    st.sampled_from(list(Status)),
    st.booleans(),
    st.sampled_from([Why.FALLBACK, Why.RETRY]),
    SIGNS,
)
CHAINS = st.lists(MEMBERS, max_size=8, unique_by=lambda one: one.id)
STRATEGIES = st.sampled_from([FIRST, ESCALATE])


@given(STRATEGIES, CHAINS, st.randoms(use_true_random=False))
def test_a_decision_holds_together_whatever_the_chain(strategy, chain, random):
    found = follows(strategy, chain)
    by_id = {one.id: one for one in chain}
    assert not (found.due and found.not_needed)
    assert all(by_id[id_].awaits_turn for id_ in found.due)
    assert all(by_id[id_].waits for id_ in found.not_needed)
    assert len({by_id[id_].step for id_ in found.due}) <= 1, "one step at a time"
    if found.due:
        step = by_id[found.due[0]].step
        before = [one for one in chain if one.step < step]
        assert not any(succeeded(strategy, one) for one in chain)
        assert not any(one.awaits_turn for one in before)
        if strategy is FIRST:
            assert all(failed(one) for one in before)
    if found.not_needed:
        assert found.cause is not None
        cause = by_id[found.cause]
        assert succeeded(strategy, cause) or cause.status is Status.CANCELLED
        assert all(by_id[id_].awaits_turn or by_id[id_].step > cause.step for id_ in found.not_needed)
    random.shuffle(chain)
    assert follows(strategy, chain) == found, "the order of reading does not matter"


@given(STRATEGIES, CHAINS)
def test_what_was_decided_once_is_not_decided_again(strategy, chain):
    found = follows(strategy, chain)
    after = [
        one._replace(status=Status.QUEUED, reason=None)
        if one.id in found.due
        else one._replace(status=Status.SKIPPED, final=True, reason=Why.NOT_NEEDED)
        if one.id in found.not_needed
        else one
        for one in chain
    ]
    again = follows(strategy, after)
    assert not again.due
    assert not again.not_needed


@given(CHAINS)
def test_no_chain_of_first_success_waits_for_nothing(chain):
    """As long as something awaits its turn, something decides it: now, or a delivery before it that is still open."""
    waiting = [one for one in chain if one.awaits_turn]
    if not waiting:
        return
    found = follows(FIRST, chain)
    first = min(one.step for one in waiting)
    before = [one for one in chain if one.step < first]
    assert found.due or found.not_needed or any(not one.final for one in before)
