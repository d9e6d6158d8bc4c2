"""What is shown of an address, and what is found in longer text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.masking import mask_address, mask_text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("john@example.com", "j***@example.com"),
        ("j@example.com", "j***@example.com"),
        ("+15550100001", "+1555***0001"),
        ("+1 (555) 010-0001", "+1555***0001"),
        ("+4366412", "+43***"),
        ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/***"),
        ("https://user:pw@push.example.net/abc?d=1", "https://push.example.net/***"),
        ("#incidents", "#inc***"),
        ("ops", "***"),
        ("", "***"),
    ],
)
def test_an_address_shows_just_enough_to_tell_it_apart(address: str, shown: str) -> None:
    assert mask_address(address) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("550 5.1.1 <john@example.com>: unknown", "550 5.1.1 <j***@example.com>: unknown"),
        ("to=john@example.com,eve@example.org", "to=j***@example.com,e***@example.org"),
        ("jörg@exämple.com", "j***@exämple.com"),
        ('"john smith"@example.com', '"***@example.com'),
        ("call +1 555 010 0001 now", "call +1555***0001 now"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("key ntfg_live_0123456789abcdef rejected", "key ntfg_live_*** rejected"),
        ("postgresql://gateway:hunter2@db/x", "postgresql://gateway:***@db/x"),
        ("POST https://hooks.slack.com/services/T/B/x failed", "POST https://hooks.slack.com/*** failed"),
        ("https://discord.com/api/webhooks/1/abc", "https://discord.com/api/webhooks/***"),
    ],
)
def test_addresses_and_secrets_are_found_in_text(text: str, shown: str) -> None:
    assert mask_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "delivery dlv_0195d7a9000070008000000000000000 sent",
        "2026-11-23T09:00:00+0000 took 15550100001 ms",
        "https://example.com/path?x=1",
        "1 + 1 = 2, a@ b",
        "sqlite:///var/gateway.db",
    ],
)
def test_what_is_no_address_is_left_alone(text: str) -> None:
    assert mask_text(text) == text


@given(
    st.text(max_size=20),
    st.from_regex(r"[a-z]{3,10}\.[a-z0-9]{3,10}", fullmatch=True),
    st.text(max_size=20),
)
def test_no_surrounding_text_uncovers_a_mailbox(before: str, local: str, after: str) -> None:
    assert f"{local}@example.com" not in mask_text(f"{before} {local}@example.com {after}")


@given(st.text(max_size=200))
def test_masking_never_fails_and_is_settled_after_one_pass(text: str) -> None:
    mask_address(text)
    once = mask_text(text)
    assert mask_text(once) == once
