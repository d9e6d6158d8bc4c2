"""A failing provider is left alone, tried by one and taken up by degrees; one destination never causes that."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Accepted, Blame, Reason, Rejected, Retry, Unknown, blame_of
from gateway.config.settings import BreakerSettings
from gateway.middleware.breaker import Admitted, Breaker, Refused, State
from gateway.model.states import Why

NOW = 1_764_000_000_000
OK = Accepted("id")
DOWN = Retry(Reason.PROVIDER_DOWN, detail="connection refused")
BAD_LOGIN = Rejected(Reason.ACCOUNT_PROBLEM, detail="535 wrong password")
SETTINGS = BreakerSettings(failures=3, first_s=5, most_s=60)


def breaker(concurrency=4, settings=SETTINGS):
    return Breaker(settings, concurrency=concurrency)


def try_once(subject, outcome, now=NOW):
    admitted = subject.admit(now, 0.0)
    assert isinstance(admitted, Admitted)
    return subject.record(outcome, now, admitted)


def opened(concurrency=4, settings=SETTINGS):
    subject = breaker(concurrency, settings)
    for _ in range(settings.failures):
        try_once(subject, DOWN)
    assert subject.state is State.OPEN
    return subject


# --- opening --------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it_and_all_are_refused_until_the_pause_is_over():
    subject = breaker()
    assert [try_once(subject, DOWN) for _ in range(3)] == [None, None, State.OPEN]
    assert (subject.allowed_now, subject.until, subject.why) == (0, NOW + 5000, Why.PROVIDER_DOWN)
    assert subject.detail == "connection refused"
    assert subject.admit(NOW + 4999, 0.0) == Refused(NOW + 5000, Why.PROVIDER_DOWN)


def test_a_success_in_between_begins_the_count_anew():
    subject = breaker()
    for outcome in (DOWN, DOWN, OK, DOWN, DOWN):
        try_once(subject, outcome)
    assert subject.state is State.CLOSED


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if blame_of(reason) in {Blame.RECIPIENT, Blame.MESSAGE}]
)
@pytest.mark.parametrize("kind", [Retry, Rejected, Unknown])
def test_what_one_destination_or_message_causes_never_opens_it_and_is_a_sign_of_life(kind, reason):
    subject = breaker()
    for _ in range(100):
        try_once(subject, kind(reason))
    assert subject.state is State.CLOSED
    for outcome in (DOWN, DOWN, kind(reason), DOWN, DOWN):
        try_once(subject, outcome)
    assert subject.state is State.CLOSED


@pytest.mark.parametrize(
    "outcome", [Retry(Reason.TIMED_OUT), Retry(Reason.RATE_LIMITED), Unknown(), Rejected(Reason.PROVIDER_DOWN)]
)
def test_every_failure_that_is_the_providers_counts(outcome):
    subject = breaker()
    for _ in range(3):
        try_once(subject, outcome)
    assert subject.state is State.OPEN


@pytest.mark.parametrize("outcome", [BAD_LOGIN, Retry(Reason.ACCOUNT_PROBLEM, detail="535 wrong password")])
def test_an_account_problem_stops_it_at_once_and_says_so(outcome):
    subject = breaker()
    assert try_once(subject, outcome) is State.STOPPED
    assert (subject.why, subject.detail) == (Why.ACCOUNT_PROBLEM, "535 wrong password")
    assert subject.admit(NOW + 59_999, 0.0) == Refused(NOW + 60_000, Why.ACCOUNT_PROBLEM)


def test_those_refused_together_do_not_come_back_together():
    subject = opened()
    moments = [subject.admit(NOW, random / 10).until for random in range(10)]
    assert moments == [NOW + 5000 + 250 * random for random in range(10)]


def test_the_providers_own_wish_lengthens_the_pause_up_to_the_most():
    for after, pause_ms in (
        (20.0, 20_000),
        (1.0, 5000),
        (1e9, 60_000),
        (math.inf, 60_000),
        (math.nan, 5000),
        (-1.0, 5000),
    ):
        subject = breaker()
        for _ in range(3):
            try_once(subject, Retry(Reason.RATE_LIMITED, after))
        assert subject.until == NOW + pause_ms


# --- the probe ------------------------------------------------------------------------------------------------------


def test_after_the_pause_one_tries_and_the_others_wait_for_it():
    subject = opened()
    probe = subject.admit(NOW + 5000, 0.0)
    assert isinstance(probe, Admitted)
    assert probe.probe
    assert (subject.state, subject.allowed_now) == (State.HALF_OPEN, 1)
    assert subject.admit(NOW + 5000, 0.0) == Refused(NOW + 7500, Why.PROVIDER_DOWN)
    assert subject.admit(NOW + 5000, 0.5) == Refused(NOW + 8750, Why.PROVIDER_DOWN)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_most():
    subject, now, pauses = opened(), NOW, []
    for _ in range(6):
        pauses.append(subject.until - now)
        now = subject.until
        assert try_once(subject, DOWN, now) is State.OPEN
    assert pauses == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]


def test_a_stopped_provider_is_probed_and_stops_again_or_recovers():
    subject = breaker()
    try_once(subject, BAD_LOGIN)
    assert try_once(subject, BAD_LOGIN, NOW + 60_000) is State.STOPPED
    assert try_once(subject, OK, NOW + 120_000) is State.RECOVERING


def test_an_abandoned_probe_lets_the_next_one_try():
    subject = opened()
    probe = subject.admit(NOW + 5000, 0.0)
    subject.abandon(probe, NOW + 5001)
    following = subject.admit(NOW + 5002, 0.0)
    assert isinstance(following, Admitted)
    assert following.probe


def test_a_probe_whose_task_died_does_not_keep_the_provider_shut():
    subject = opened()
    lost = subject.admit(NOW + 5000, 0.0)
    assert isinstance(subject.admit(NOW + 100_000, 0.0), Refused)
    following = subject.admit(NOW + 125_001, 0.0)
    assert isinstance(following, Admitted)
    assert following.probe
    assert subject.record(DOWN, NOW + 125_002, lost) is None
    assert subject.record(OK, NOW + 125_003, following) is State.RECOVERING


def test_an_answer_that_was_on_its_way_before_it_opened_changes_nothing():
    subject = breaker()
    early = [subject.admit(NOW, 0.0) for _ in range(5)]
    for admitted in early[:3]:
        subject.record(DOWN, NOW, admitted)
    assert subject.record(OK, NOW + 1, early[3]) is None
    assert subject.until == NOW + 5000
    probe = subject.admit(NOW + 5000, 0.0)
    assert subject.record(DOWN, NOW + 5001, early[4]) is None
    assert subject.state is State.HALF_OPEN
    assert subject.record(OK, NOW + 5002, probe) is State.RECOVERING


# --- the ramp -------------------------------------------------------------------------------------------------------


def test_recovery_begins_with_one_and_each_success_admits_one_more():
    subject = opened(concurrency=4)
    assert try_once(subject, OK, NOW + 5000) is State.RECOVERING
    widths = []
    while subject.state is State.RECOVERING:
        out = []
        while isinstance(admitted := subject.admit(NOW + 6000, 0.0), Admitted):
            out.append(admitted)
            if subject.state is State.CLOSED:
                break
        widths.append(len(out))
        for admitted in out:
            subject.record(OK, NOW + 6000, admitted)
    assert widths == [1, 2]
    assert (subject.state, subject.allowed_now, subject.why, subject.detail) == (State.CLOSED, 4, None, None)


def test_a_failure_while_recovering_opens_it_for_longer():
    subject = opened()
    try_once(subject, OK, NOW + 5000)
    assert try_once(subject, DOWN, NOW + 5001) is State.OPEN
    assert subject.until == NOW + 5001 + 10_000


def test_once_closed_the_pauses_are_short_again():
    subject = opened(concurrency=2)
    try_once(subject, OK, NOW + 5000)
    assert try_once(subject, OK, NOW + 5001) is State.CLOSED
    for _ in range(3):
        try_once(subject, DOWN, NOW + 6000)
    assert subject.until == NOW + 11_000


def test_a_provider_of_one_connection_is_closed_by_its_probe():
    subject = opened(concurrency=1)
    assert try_once(subject, OK, NOW + 5000) is State.CLOSED


def test_admissions_lost_while_recovering_do_not_keep_it_narrow_for_ever():
    subject = opened()
    try_once(subject, OK, NOW + 5000)
    assert isinstance(subject.admit(NOW + 5001, 0.0), Admitted)
    assert isinstance(subject.admit(NOW + 5002, 0.0), Refused)
    assert isinstance(subject.admit(NOW + 125_002, 0.0), Admitted)


def test_an_operator_takes_it_up_again():
    subject = breaker(concurrency=2)
    try_once(subject, BAD_LOGIN)
    subject.resume()
    assert (subject.state, subject.allowed_now) == (State.RECOVERING, 1)
    assert try_once(subject, OK) is State.CLOSED


# --- clocks and limits ----------------------------------------------------------------------------------------------


def test_a_clock_set_back_does_not_lengthen_the_pause():
    subject = opened()
    assert subject.admit(NOW - 3_600_000, 0.0) == Refused(NOW - 3_600_000 + 5000, Why.PROVIDER_DOWN)
    assert isinstance(subject.admit(NOW - 3_600_000 + 5000, 0.0), Admitted)


def test_endless_pauses_in_the_configuration_are_a_day():
    subject = opened(settings=BreakerSettings(failures=1, first_s=math.inf, most_s=math.inf))
    assert subject.until == NOW + 86_400_000


OUTCOMES = st.sampled_from([OK, DOWN, BAD_LOGIN, Unknown(), Retry(Reason.RETRY), Retry(Reason.RATE_LIMITED, 30.0)])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "record", "abandon", "resume"]),
        OUTCOMES,
        st.integers(0, 40_000),
        st.floats(0, 1, exclude_max=True),
    ),
    max_size=200,
)


@given(STEPS, st.integers(1, 6))
def test_whatever_happens_no_more_are_out_than_allowed_and_it_always_comes_back(steps, concurrency):
    subject, now, out = breaker(concurrency), NOW, []
    for step, outcome, gap, random in steps:
        now += gap
        if step == "admit":
            before = subject.state
            answer = subject.admit(now, random)
            if isinstance(answer, Refused):
                assert before is not State.CLOSED
                assert now <= answer.until <= now + 90_000
                continue
            out.append(answer)
            if subject.state in {State.HALF_OPEN, State.RECOVERING}:
                assert sum(1 for admitted in out if admitted.turn == answer.turn) <= subject.allowed_now
            assert answer.probe == (subject.state is State.HALF_OPEN)
        elif step == "resume":
            subject.resume()
        elif out and step == "record":
            subject.record(outcome, now, out.pop(0))
        elif out:
            subject.abandon(out.pop(), now)
        assert 0 <= subject.allowed_now <= concurrency
    for _ in range(500):
        now += 130_000
        answer = subject.admit(now, 0.5)
        if isinstance(answer, Admitted):
            subject.record(OK, now, answer)
    assert subject.state is State.CLOSED


@given(st.lists(OUTCOMES, max_size=100))
def test_an_open_provider_is_tried_at_most_once_per_pause(outcomes):
    subject, now = opened(), NOW
    for outcome in outcomes:
        if subject.until is None:
            return
        assert isinstance(subject.admit(subject.until - 1, 0.0), Refused)
        pause = subject.until - now
        now = subject.until
        assert 5000 <= pause <= 60_000
        admitted = subject.admit(now, 0.0)
        assert isinstance(admitted, Admitted)
        assert isinstance(subject.admit(now, 0.0), Refused)
        subject.record(outcome, now, admitted)
