"""Signing secrets: sealed, opened by the right key only, and how long each of them signs."""

from __future__ import annotations

from gateway.router.vault import MOST, OVERLAP_MS, SigningSecret, Vault, rotated, signing_now

NOW = 1_800_000_000_000


def test_what_is_sealed_is_opened_by_the_same_key_only():
    secrets = (SigningSecret(text="whsec_one"), SigningSecret(text="whsec_two", until=NOW))
    sealed = Vault([b"a key"]).seal(secrets)
    assert b"whsec" not in sealed
    assert Vault([b"a key"]).open(sealed) == secrets
    assert Vault([b"another"]).open(sealed) is None
    assert Vault([b"another", b"a key"]).open(sealed) == secrets, "any of several keys opens"
    assert Vault([b"a key"]).open(sealed[:-1]) is None
    assert sealed != Vault([b"a key"]).seal(secrets)


def test_an_exchanged_secret_signs_on_for_the_overlap_however_often_it_is_exchanged():
    first = (SigningSecret(text="a"),)
    second = rotated(first, "b", NOW)
    assert signing_now(second, NOW) == ("b", "a")
    third = rotated(second, "c", NOW + 1000)
    assert signing_now(third, NOW + 1000) == ("c", "b", "a")
    assert signing_now(third, NOW + OVERLAP_MS - 1) == ("c", "b", "a")
    assert signing_now(third, NOW + OVERLAP_MS) == ("c", "b"), "each has its own end"
    assert signing_now(third, NOW + OVERLAP_MS + 1000) == ("c",)


def test_an_exchange_for_the_same_secret_changes_nothing_and_their_number_is_bounded():
    assert signing_now(rotated((SigningSecret(text="a"),), "a", NOW), NOW) == ("a",)
    secrets = (SigningSecret(text="0"),)
    for number in range(1, 20):
        secrets = rotated(secrets, str(number), NOW)
    assert signing_now(secrets, NOW) == tuple(map(str, range(19, 19 - MOST, -1)))


def test_a_secret_is_not_in_its_own_picture():
    assert "whsec" not in repr(SigningSecret(text="whsec_one"))
