"""Pacing: never faster than the rate over its own window, hardly slower, and nothing stored in clear."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import Rate
from gateway.middleware.rate_limit import KeyLimiter, provider_key, provider_pace, recipient_key, recipient_pace

NOW = 1_764_000_000_000
KEY = UUID(int=1)
RATES = st.builds(Rate, st.integers(1, 9_999_999), st.sampled_from([1, 60, 3600, 86_400]))
SMALL_RATES = st.builds(Rate, st.integers(1, 500), st.sampled_from([1, 60]))


@pytest.mark.parametrize(
    ("rate", "pace"),
    [
        ("50/s", (5, 100)),
        ("1/s", (1, 1000)),
        ("1/m", (1, 60_000)),
        ("14/s", (2, 143)),
        ("1000/s", (100, 100)),
        ("3/d", (1, 28_800_000)),
    ],
)
def test_a_providers_rate_is_spread(rate, pace):
    found = provider_pace(Rate.parse(rate))
    assert (found.count, found.window_ms) == pace


@given(RATES)
def test_a_pace_is_never_faster_than_its_rate_and_at_most_a_tenth_slower(rate):
    pace = provider_pace(rate)
    whole_ms = rate.per_s * 1000
    windows = -(-whole_ms // pace.window_ms)  # so many cover any stretch as long as the rate's own window
    assert pace.count * windows <= rate.count
    assert pace.count / pace.window_ms >= 0.9 * rate.count / whole_ms
    assert pace.count >= 1


@given(SMALL_RATES, st.lists(st.integers(0, 2000), min_size=1, max_size=400))
def test_a_greedy_sender_under_the_pace_stays_within_the_rate(rate, gaps):
    pace = provider_pace(rate)
    sent, now = [], 0
    for gap in gaps:
        now += gap % 50
        if len(sent) >= pace.count:
            now = max(now, sent[-pace.count] + pace.window_ms)
        sent.append(now)
    whole_ms = rate.per_s * 1000
    for at, moment in enumerate(sent):
        assert sum(1 for other in sent[at:] if other < moment + whole_ms) <= rate.count


def test_a_recipients_rate_is_kept_as_written():
    pace = recipient_pace(Rate.parse("20/h"))
    assert (pace.count, pace.window_ms) == (20, 3_600_000)


def test_a_recipients_key_tells_recipients_apart_and_no_address():
    secret = b"s" * 32
    key = recipient_key("email", "jane@example.com", secret=secret)
    assert key.startswith("recipient:email:")
    assert "jane" not in key
    assert key == recipient_key("email", "jane@example.com", secret=secret)
    others = {
        recipient_key("email", "john@example.com", secret=secret),
        recipient_key("sms", "jane@example.com", secret=secret),
        recipient_key("email", "jane@example.com", secret=b"t" * 32),
        recipient_key("email", "jane@example.com", secret=b"t" * 200),
        recipient_key("email", "jane@example.com", secret=b"t" * 199),
    }
    assert len(others) == 5
    assert key not in others
    assert provider_key("smtp-main") == "provider:smtp-main"


# --- API keys -------------------------------------------------------------------------------------------------------


def test_a_key_may_use_its_whole_rate_at_once_and_is_then_told_to_wait():
    limiter, rate = KeyLimiter(), Rate(3, 1)
    assert [limiter.allow(KEY, rate, NOW).remaining for _ in range(3)] == [2, 1, 0]
    refused = limiter.allow(KEY, rate, NOW)
    assert (refused.ok, refused.remaining, refused.reset_s, refused.retry_after_s) == (False, 0, 1, 1)
    assert limiter.allow(KEY, rate, NOW + 334).ok
    assert not limiter.allow(KEY, rate, NOW + 335).ok


def test_the_headers_say_what_the_rate_is_and_when_to_come_back():
    limiter, rate = KeyLimiter(), Rate(1, 60)
    assert limiter.allow(KEY, rate, NOW).headers() == {
        "RateLimit-Policy": '"key";q=1;w=60',
        "RateLimit": '"key";r=0;t=60',
    }
    assert limiter.allow(KEY, rate, NOW + 15_000).headers() == {
        "RateLimit-Policy": '"key";q=1;w=60',
        "RateLimit": '"key";r=0;t=45',
        "Retry-After": "45",
    }


def test_one_key_that_floods_costs_another_nothing():
    limiter, rate = KeyLimiter(), Rate(2, 1)
    for _ in range(100):
        limiter.allow(KEY, rate, NOW)
    assert limiter.allow(UUID(int=2), rate, NOW).ok


def test_a_batch_larger_than_the_rate_passes_when_the_bucket_is_full_and_is_waited_off():
    limiter, rate = KeyLimiter(), Rate(10, 1)
    assert limiter.allow(KEY, rate, NOW, cost=30).ok
    refused = limiter.allow(KEY, rate, NOW)
    assert (refused.ok, refused.retry_after_s) == (False, 3)
    assert not limiter.allow(KEY, rate, NOW + 2000).ok
    assert limiter.allow(KEY, rate, NOW + 2200).ok


def test_a_clock_set_back_neither_locks_a_key_out_nor_gives_it_more():
    limiter, rate = KeyLimiter(), Rate(2, 1)
    limiter.allow(KEY, rate, NOW)
    limiter.allow(KEY, rate, NOW)
    assert not limiter.allow(KEY, rate, NOW - 3_600_000).ok
    assert limiter.allow(KEY, rate, NOW - 3_600_000 + 500).ok


def test_a_rate_that_is_lowered_holds_at_once():
    limiter = KeyLimiter()
    assert limiter.allow(KEY, Rate(1000, 1), NOW).remaining == 999
    assert limiter.allow(KEY, Rate(5, 1), NOW).remaining == 4


def test_no_more_keys_are_remembered_than_allowed_and_the_busy_one_stays():
    limiter, rate = KeyLimiter(most=10), Rate(2, 60)
    limiter.allow(KEY, rate, NOW)
    limiter.allow(KEY, rate, NOW)
    for number in range(2, 1000):
        limiter.allow(UUID(int=number), rate, NOW)
        assert not limiter.allow(KEY, rate, NOW).ok
        assert len(limiter._buckets) <= 10


@given(SMALL_RATES, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 5)), min_size=1, max_size=200))
def test_over_any_stretch_a_key_gets_at_most_one_bucket_and_what_came_back(rate, calls):
    limiter, now = KeyLimiter(), NOW
    granted = []
    for gap, cost in calls:
        now += gap
        allowance = limiter.allow(KEY, rate, now, cost=min(cost, rate.count))
        assert 0 <= allowance.remaining <= rate.count
        assert 0 <= allowance.reset_s <= rate.per_s
        assert (allowance.retry_after_s == 0) == allowance.ok
        if allowance.ok:
            granted.append((now, min(cost, rate.count)))
    for first, (since, _) in enumerate(granted):
        taken = 0
        for until, cost in granted[first:]:
            taken += cost
            assert taken <= rate.count + (until - since) * rate.count / (rate.per_s * 1000) + 1e-6


@given(SMALL_RATES, st.integers(1, 50))
def test_after_the_told_wait_a_refused_call_is_let_through(rate, cost):
    limiter = KeyLimiter()
    while (allowance := limiter.allow(KEY, rate, NOW, cost=cost)).ok:
        pass
    assert limiter.allow(KEY, rate, NOW + allowance.retry_after_s * 1000, cost=cost).ok
