"""What may have changed between accepting and sending."""

import pytest

from gateway.middleware.consent import decide
from gateway.middleware.contract import Dropped
from gateway.model.preferences import NO_CHOICES, Terms, resolve
from gateway.model.states import Status, Why
from gateway.storage.contract import SuppressionRow

NOW = 1_764_000_000_000


def suppressed(reason=Why.ADDRESS_DEAD, detail=None):
    return SuppressionRow(
        channel="email", address="jane@example.com", reason=reason, source="smtp-main", detail=detail, created_at=NOW
    )


def ask(*, suppression=None, required=False, deadline_at=NOW + 1):
    cell = resolve(NO_CHOICES, Terms(name="news", required=required), "email", opted_out=False)
    return decide(suppression=suppression, cell=cell, quiet=None, deadline_at=deadline_at, now=NOW)


def test_nothing_stands_against_an_address_that_is_on_no_list_before_the_deadline():
    assert ask() is None


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("reason", [Why.ADDRESS_DEAD, Why.COMPLAINED, Why.OPTED_OUT, Why.SUPPRESSED])
def test_a_suppressed_address_is_skipped_whatever_the_category_and_the_list_says_why(required, reason):
    assert ask(suppression=suppressed(reason), required=required) == Dropped(
        status=Status.SKIPPED, reason=Why.SUPPRESSED, detail=f"{reason.value} (smtp-main)"
    )


def test_the_providers_words_follow():
    assert ask(suppression=suppressed(detail="550 5.1.1 no such user")).detail == (
        "address_dead (smtp-main): 550 5.1.1 no such user"
    )


@pytest.mark.parametrize("late_ms", [0, 1, 86_400_000])
def test_at_its_deadline_a_delivery_expires(late_ms):
    assert ask(deadline_at=NOW - late_ms) == Dropped(status=Status.EXPIRED, reason=Why.EXPIRED)


def test_a_suppression_says_more_than_a_deadline():
    assert ask(suppression=suppressed(), deadline_at=NOW).reason is Why.SUPPRESSED
