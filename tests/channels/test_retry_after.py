"""What providers write into `Retry-After`, read."""

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.retry_after import parse_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("0.25", 0.25),
        (".5", 0.5),
        ("1.", 1.0),
        ("315576000", 315_576_000.0),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("Monday, 12-Jan-70 13:47:40 GMT", 60.0),
        ("Mon Jan 12 13:47:40 1970", 60.0),
        ("-5", None),
        ("-0.5", None),
        ("", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("1,5", None),
        ("0x10", None),
        ("\u0661\u0662", None),
        ("12 seconds", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", None),
        ("x" * 10_000, None),
        ("9" * 10_000, math.inf),
    ],
)
def test_a_retry_after_is_read_in_every_form_that_providers_send(text, seconds):
    assert parse_retry_after(text, 1_000_000.0) == seconds


@given(st.text(max_size=80))
def test_any_retry_after_is_seconds_or_nothing(text):
    found = parse_retry_after(text, 1_000_000.0)
    assert found is None or found >= 0


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_a_date_is_the_time_left_until_it(at, now):
    assert parse_retry_after(formatdate(at, usegmt=True), float(now)) == max(0, at - now)
