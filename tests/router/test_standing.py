"""How a provider stands: one word of it, and several processes' reports made one."""

from __future__ import annotations

import msgspec
import pytest

from channels.contract import Accepted, Reason, Rejected, Retry, Unknown
from gateway.middleware.breaker import State
from gateway.router.standing import ProviderStatus, Standing, status_of, together
from gateway.storage.contract import ProviderReport


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.CLOSED, ProviderStatus.OK),
        (State.HALF_OPEN, ProviderStatus.RECOVERING),
        (State.RECOVERING, ProviderStatus.RECOVERING),
        (State.OPEN, ProviderStatus.FAILING),
        (State.STOPPED, ProviderStatus.STOPPED),
    ],
)
def test_an_operators_word_comes_before_what_the_breaker_found(state, status):
    assert status_of(state, paused=False) is status
    assert status_of(state, paused=True) is ProviderStatus.PAUSED


@pytest.mark.parametrize(
    ("outcome", "word", "reason"),
    [
        (Accepted(), "accepted", None),
        (Retry(Reason.RATE_LIMITED), "retry", "rate_limited"),
        (Rejected(Reason.ACCOUNT_PROBLEM), "rejected", "account_problem"),
        (Unknown(), "unknown", "timed_out"),
    ],
)
def test_the_last_answer_is_remembered(outcome, word, reason):
    standing = Standing()
    standing.note(outcome, 7)
    assert (standing.last_outcome, standing.last_reason, standing.last_at) == (word, reason, 7)


def report(worker: str, **more: object) -> ProviderReport:
    made = ProviderReport(worker=worker, provider="p1", breaker="closed", in_use=2, places=8, seen_at=100)
    return msgspec.structs.replace(made, **more)


def test_several_processes_are_shown_by_the_worst_breaker_the_sum_of_places_and_the_latest_answer():
    found = together(
        [
            report("a", last_outcome="retry", last_reason="provider_down", last_at=50, breaker="open", until=70),
            report("b", breaker="stopped", until=60, detail="no"),
            report("c", last_outcome="accepted", last_at=90, breaker="recovering"),
        ]
    )
    assert (found.breaker, found.until, found.detail) == (State.STOPPED, 60, "no")
    assert (found.in_use, found.places, found.workers) == (6, 24, 3)
    assert (found.last_outcome, found.last_reason, found.last_at) == ("accepted", None, 90)
