"""What a message costs and which day pays: pure arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import SpendSettings
from gateway.middleware import spend

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("+4915112345678", 80_000), ("+15550100001", 7_900), ("+1415", 1_000), ("+33612345678", 50_000), ("", 50_000)],
)
def test_the_longest_beginning_that_fits_gives_the_price(address: str, expected: int):
    prices = {"+49": 0.08, "1": 0.0079, "+1415": 0.001}
    assert spend.cost(SpendSettings(per_day=20, price=0.05, prices=prices), address, 1) == expected


def test_each_segment_is_paid():
    assert spend.cost(SpendSettings(per_day=20, price=0.08), "+49151", 3) == 240_000


@given(st.integers(1, 10_000))
def test_small_prices_add_up_to_what_they_should(count: int):
    settings = SpendSettings(per_day=20, price=0.0079)
    assert sum(spend.cost(settings, "+1", 1) for _ in range(count)) == 7900 * count


def test_a_day_ends_at_the_operators_midnight():
    day = spend.day_of(ms("2026-11-26T15:00"), "UTC")
    assert (day.begins, day.ends) == (ms("2026-11-26T00:00"), ms("2026-11-27T00:00"))
    there = spend.day_of(ms("2026-11-26T23:30"), "Europe/Berlin")
    assert there.begins == ms("2026-11-26T23:00")


def test_a_day_is_as_long_as_the_clocks_make_it():
    longer = spend.day_of(ms("2026-10-25T12:00"), "Europe/Berlin")
    shorter = spend.day_of(ms("2026-03-29T12:00"), "Europe/Berlin")
    assert (longer.ends - longer.begins, shorter.ends - shorter.begins) == (25 * HOUR_MS, 23 * HOUR_MS)


@given(st.integers(0, 4_000_000_000_000), st.sampled_from(["UTC", "America/St_Johns", "Pacific/Apia", "Asia/Kolkata"]))
def test_every_moment_is_in_its_day(now: int, timezone: str):
    day = spend.day_of(now, timezone)
    assert day.begins <= now < day.ends


@pytest.mark.parametrize(("amount", "words"), [(3_200_000, "3.2"), (7_900, "0.0079"), (0, "0"), (20_000_000, "20")])
def test_amounts_are_written_as_operators_write_them(amount: int, words: str):
    assert spend.shown(amount) == words
