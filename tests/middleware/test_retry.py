"""What follows an outcome, and when: never too early, never beyond the deadline, never all at once."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Accepted, Blame, Reason, Rejected, Retry, Unknown, blame_of
from gateway.config.settings import RetrySettings
from gateway.middleware.retry import (
    RetryRules,
    Step,
    after_unknown,
    classify,
    next_attempt_at,
)
from gateway.model.states import OnUnknown

NOW = 1_764_000_000_000
DAY = 86_400_000
RULES = RetryRules.of(RetrySettings())

SETTINGS = st.builds(
    RetrySettings,
    attempts=st.integers(1, 100),
    first_s=st.floats(0.001, 1e6) | st.just(math.inf),
    factor=st.floats(1, 1e12) | st.just(math.inf),
    most_s=st.floats(0.001, 1e6) | st.just(math.inf),
    budget_s=st.integers(1, 10**9),
)
WISHES = st.none() | st.floats() | st.floats(0, 100_000) | st.sampled_from([0.0, -1.0, 0.001, 0.5, 3.156e8])
MOMENTS = st.integers(0, 2 * NOW)


def when(rules=RULES, *, attempts_made=1, now=NOW, deadline=NOW + DAY, after_s=None, random=0.5):
    return next_attempt_at(
        rules,
        attempts_made=attempts_made,
        now=now,
        deadline=deadline,
        after_s=after_s,
        random=random,
    )


# --- classification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(Reason))
def test_whatever_may_have_been_sent_never_goes_to_another_provider(reason):
    assert classify(Unknown(reason)) is Step.LOST


@pytest.mark.parametrize("reason", list(Reason))
def test_what_was_not_sent_never_ends_as_lost_or_sent(reason):
    assert classify(Rejected(reason)) in {Step.FAIL, Step.NEXT_PROVIDER}
    assert classify(Retry(reason)) in {Step.TRY_AGAIN, Step.NEXT_PROVIDER}


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if blame_of(reason) in {Blame.RECIPIENT, Blame.MESSAGE}]
)
def test_another_provider_does_not_change_what_the_recipient_or_the_message_causes(reason):
    assert classify(Rejected(reason)) is Step.FAIL
    assert classify(Retry(reason)) is Step.TRY_AGAIN


@pytest.mark.parametrize("reason", [Reason.ACCOUNT_PROBLEM, Reason.PROVIDER_DOWN, Reason.TIMED_OUT])
def test_an_account_problem_or_a_dead_provider_is_the_next_ones_chance(reason):
    assert classify(Rejected(reason)) is Step.NEXT_PROVIDER
    assert classify(Retry(reason)) is Step.NEXT_PROVIDER


def test_a_rate_limit_is_waited_for_where_it_was_met():
    assert classify(Retry(Reason.RATE_LIMITED, 3.0)) is Step.TRY_AGAIN


def test_accepted_succeeds():
    assert classify(Accepted("id")) is Step.SUCCEED


def test_a_lost_answer_is_repeated_only_by_rule_or_under_an_honoured_key():
    assert after_unknown(OnUnknown.HOLD, provider_idempotent=False) is OnUnknown.HOLD
    assert after_unknown(OnUnknown.HOLD, provider_idempotent=True) is OnUnknown.RESEND
    assert after_unknown(OnUnknown.RESEND, provider_idempotent=False) is OnUnknown.RESEND


# --- the schedule ---------------------------------------------------------------------------------------------------


def test_intervals_grow_to_the_configured_most():
    assert [RULES.interval_ms(made) for made in range(1, 9)] == [5e3, 15e3, 45e3, 135e3, 405e3, 1215e3, 3600e3, 3600e3]


def test_jitter_spreads_over_the_second_half_of_the_interval():
    assert when(random=0.0) == NOW + 2500
    assert when(random=0.5) == NOW + 3750
    assert when(random=0.999999) == NOW + 5000


@given(SETTINGS, st.integers(1, 120), MOMENTS, MOMENTS, WISHES, st.floats(0, 1, exclude_max=True))
def test_an_attempt_is_later_than_now_and_before_every_limit(settings, made, now, deadline, after_s, random):
    rules = RetryRules.of(settings)
    at = when(
        rules,
        attempts_made=made,
        now=now,
        deadline=deadline,
        after_s=after_s,
        random=random,
    )
    if at is None:
        return
    assert isinstance(at, int)
    assert made < settings.attempts
    assert now < at < deadline
    if after_s is not None and after_s > 0:
        assert at >= now + after_s * 1000


@given(SETTINGS, st.integers(1, 99), st.floats(0, 1, exclude_max=True))
def test_without_a_wish_the_wait_is_at_least_half_the_interval_and_at_most_the_whole(settings, made, random):
    rules = RetryRules.of(settings)
    at = when(rules, attempts_made=made, deadline=NOW + 10**15, random=random)
    if made >= settings.attempts or at is None:
        return
    interval = rules.interval_ms(made)
    assert interval / 2 <= at - NOW <= interval + 1


@given(st.floats(0.001, 3600), st.floats(0, 1, exclude_max=True))
def test_the_first_wish_is_obeyed_closely(after_s, random):
    at = when(after_s=after_s, random=random)
    assert after_s * 1000 <= at - NOW <= after_s * 1100 + 2


@given(st.integers(2, 7), st.floats(0.001, 3600), st.floats(0, 1, exclude_max=True))
def test_a_provider_that_keeps_asking_for_little_is_not_asked_all_attempts_in_seconds(made, after_s, random):
    at = when(attempts_made=made, after_s=after_s, random=random)
    assert at - NOW >= max(after_s * 1000, RULES.interval_ms(made) / 2)


@pytest.mark.parametrize("wish", [None, 0.0, -0.0, -5.0, -math.inf, math.nan])
def test_a_wish_that_is_none_leaves_our_own_schedule(wish):
    assert when(after_s=wish) == when(after_s=None)


@pytest.mark.parametrize("wish", [86_400.0, 315_576_000.0, 1e300, 1.7e308, math.inf])
def test_a_wish_beyond_the_deadline_is_never(wish):
    assert when(after_s=wish) is None


def test_a_wish_just_before_the_deadline_is_still_obeyed():
    assert when(after_s=10.0, deadline=NOW + 10_001, random=0.999) == NOW + 10_000
    assert when(after_s=10.0, deadline=NOW + 10_000) is None


def test_attempts_and_time_are_both_a_budget():
    assert when(attempts_made=7) is not None
    assert when(attempts_made=8) is None
    assert when(now=NOW + DAY - 1) is None
    assert when(now=NOW + DAY + 60_000) is None


def test_a_last_interval_is_shortened_to_fit_but_not_below_half():
    assert when(deadline=NOW + 3000, random=0.999999) == NOW + 2999
    assert when(deadline=NOW + 2600, random=0.0) == NOW + 2500
    assert when(deadline=NOW + 2500, random=0.0) is None


def test_a_clock_set_back_still_plans_the_next_attempt():
    assert when(now=NOW - 10 * DAY) == NOW - 10 * DAY + 3750
