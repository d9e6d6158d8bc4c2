"""API keys as text."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.keys import hash_key, hint, is_well_formed, make_key
from gateway.model.states import Mode


@pytest.mark.parametrize("mode", list(Mode))
def test_a_key_says_its_mode_and_is_recognised(mode: Mode) -> None:
    key = make_key(mode, secrets.token_bytes)
    assert re.fullmatch(rf"ntfg_{mode.value}_[0-9A-Za-z]{{38}}", key)
    assert is_well_formed(key)
    assert hint(key) == key[-4:]
    assert hash_key(key) == hashlib.sha256(key.encode()).digest()


@given(st.integers(0, 47), st.sampled_from("0Az"))
def test_a_mistyped_key_is_told_from_a_real_one(position: int, other: str) -> None:
    key = make_key(Mode.LIVE, lambda count: bytes(range(count)))
    changed = key[:position] + other + key[position + 1 :]
    assert is_well_formed(changed) == (changed == key)


@given(st.text())
def test_any_text_can_be_hashed_and_is_hardly_a_key(text: str) -> None:
    assert len(hash_key(text)) == 32
    assert not is_well_formed(text)


def test_every_digit_is_as_likely_as_another() -> None:
    # Every byte value once: what is not thrown away must hit each of the 62 digits four times.
    source = iter([bytes(range(256))] * 2)
    key = make_key(Mode.TEST, lambda _count: next(source))
    digits = key.removeprefix("ntfg_test_")[:32]
    assert len(set(digits)) == 32
    counts = Counter(byte % 62 for byte in range(248))
    assert set(counts.values()) == {4}


def test_bytes_that_would_favour_a_digit_are_drawn_again() -> None:
    draws = iter([b"\xf8" * 32, b"\xff" * 32, b"\x00" * 32])
    assert make_key(Mode.LIVE, lambda _count: next(draws)).startswith("ntfg_live_" + "0" * 32)
    assert next(draws, None) is None
