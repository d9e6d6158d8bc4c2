"""Secrets that must be read again: endpoints' signing secrets, sealed before they are stored.

Owns the sealing (Fernet, with a key derived from the gateway's `secret_key`) and which secrets of an endpoint sign at a
given moment. Refuses to know where they are kept. Nothing here prints or logs one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

OVERLAP_MS: Final = 86_400_000
"""How long an exchanged secret goes on signing: a day, in which receivers can be given the new one. Ours; the Standard
Webhooks specification asks for an overlap and leaves its length open."""

MOST: Final = 5
"""Secrets that sign at once. Each adds a signature to every request."""

_PURPOSE: Final = b"gateway: signing secrets of webhooks"
_KEY_BYTES: Final = 32


class SigningSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One secret (`whsec_…`), and until when it signs (Unix ms); `None`: for as long as it is the current one."""

    text: str
    until: int | None = None

    def __repr__(self) -> str:
        return "SigningSecret(****)"


_SEALED: Final = msgspec.json.Decoder(tuple[SigningSecret, ...])


class Vault:
    """Seals and opens. `keys` are the gateway's secret keys: the first seals, any opens."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._fernet = MultiFernet([Fernet(_derived(key)) for key in keys])

    def seal(self, secrets: Sequence[SigningSecret]) -> bytes:
        """Make what may be stored."""
        return self._fernet.encrypt(msgspec.json.encode(secrets))

    def open(self, sealed: bytes) -> tuple[SigningSecret, ...] | None:
        """Read it again; `None` where another key sealed it."""
        try:
            return _SEALED.decode(self._fernet.decrypt(sealed))
        except InvalidToken:
            return None


def signing_now(secrets: Sequence[SigningSecret], now: int) -> tuple[str, ...]:
    """List those that sign, the current one first."""
    return tuple(one.text for one in secrets if one.until is None or one.until > now)


def rotated(secrets: Sequence[SigningSecret], new: str, now: int) -> tuple[SigningSecret, ...]:
    """Put a new secret first; the ones before sign on until their time is over."""
    before = [
        one if one.until is not None else SigningSecret(text=one.text, until=now + OVERLAP_MS)
        for one in secrets
        if one.text != new and (one.until is None or one.until > now)
    ]
    return (SigningSecret(text=new), *before)[:MOST]


def _derived(key: bytes) -> bytes:
    """Derive a key of its own, so that what signs links never seals secrets."""
    made = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_PURPOSE).derive(key)
    return base64.urlsafe_b64encode(made)
