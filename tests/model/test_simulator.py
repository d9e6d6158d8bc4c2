"""The simulator's addresses, and only they, have an outcome of their own."""

import pytest

from gateway.model.simulator import Simulated, outcome_of

NAMES = ["delivered", "bounced", "complained", "failed", "unknown", "late"]


@pytest.mark.parametrize(("number", "name"), list(enumerate(NAMES, start=1)))
def test_six_addresses_and_six_phones_in_the_promised_order(number, name):
    assert outcome_of("email", f"{name}@simulator.invalid") is Simulated(name)
    assert outcome_of("sms", f"+1500555000{number}") is Simulated(name)


def test_case_and_separators_do_not_matter():
    assert outcome_of("email", "Bounced@Simulator.INVALID") is Simulated.BOUNCED
    assert outcome_of("sms", "+1 (500) 555-0002") is Simulated.BOUNCED


def test_a_label_keeps_test_runs_apart():
    assert outcome_of("email", "late+run7@simulator.invalid") is Simulated.LATE


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("email", "jane@simulator.invalid"),
        ("email", "delivered@example.com"),
        ("email", "delivered@simulator.invalid.example.com"),
        ("email", "delivered@mail.simulator.invalid"),
        ("email", "x@delivered@simulator.test"),
        ("email", ""),
        ("email", "+15005550001"),
        ("sms", "+15005550000"),
        ("sms", "+15005550007"),
        ("sms", "+150055500011"),
        ("sms", "delivered@simulator.invalid"),
        ("slack", "delivered@simulator.invalid"),
    ],
)
def test_everything_else_is_none_of_the_simulators(channel, address):
    assert outcome_of(channel, address) is None
