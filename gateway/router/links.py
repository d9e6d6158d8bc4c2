"""The links at the foot of a message: to leave its category, and to choose what one gets.

Owns the tokens. Whoever has a link may use it, without signing in, so a token says whose settings it opens, what may be
done with it and until when, and a token of one purpose is none of the other. Refuses to know pages and storage.

A token is sealed (AES-SIV, RFC 5297): nobody else can make one, and nobody else can read one, since links end up in
logs and in forwarded mail and an address has no place there. Sealing takes no random number and no hour, so that a
message that is made again is the same to the byte: a provider would refuse its idempotency key otherwise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from enum import Enum
from typing import Final, Generic, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.model.addresses import list_key
from gateway.router.compose import MessageLinks, Subject

_DAY_S: Final = 86_400
_NEARBY_S: Final = _DAY_S
"""How long the link from one page to the other works: a sitting, with a night's sleep in it."""
_USER_MOST: Final = 200
"""Bytes of a user's id that an unsubscribe link carries: it stands in a header, on a line of at most 998 (RFC 5322)."""
_TOKEN_MOST: Final = 8192
"""Characters of the longest token that is looked at; a browser's subscription makes the longest real ones."""
_PURPOSE: Final = b"gateway: links in messages"
_KEY_BYTES: Final = 64
"""Two keys of 32 bytes: AES-256 in SIV mode (RFC 5297, 2.2)."""


class Unusable(Enum):
    """Why a link opens nothing."""

    FOREIGN = "foreign"
    """Forged, cut off, for another purpose, or sealed with a key that is not ours."""
    EXPIRED = "expired"


class Reader(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Whom a message went to: the address as lists have it, and the stored user, if it was one."""

    channel: str
    address: str
    user: str | None = None
    locale: str | None = None


class LeaveLink(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What an unsubscribe link says: this address wants no more of this category on its channel."""

    reader: Reader
    category: str


class ChooseLink(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a preference link says: this reader's settings. `whole`: on every channel, else only on that of the address.

    Only the link in a message is whole. The one on the unsubscribe page is not: an unsubscribe link is handed to
    mailbox providers in a header and lives longer, so it opens no more than the channel it was for.
    """

    reader: Reader
    whole: bool


Said = TypeVar("Said", LeaveLink, ChooseLink)


class _Token(msgspec.Struct, Generic[Said], frozen=True, array_like=True):
    until_s: int
    said: Said


class Links:
    """Makes links and reads them. `keys`: the one that seals, then those that sealed before and are still believed."""

    def __init__(self, keys: Sequence[bytes], public_url: str, *, unsubscribe_days: int, preferences_days: int) -> None:
        ciphers = [AESSIV(_derived(key)) for key in keys]
        self._leave = _Seal(ciphers, b"unsubscribe", LeaveLink)
        self._choose = _Seal(ciphers, b"preferences", ChooseLink)
        self._url = public_url.rstrip("/")
        self._leave_s = unsubscribe_days * _DAY_S
        self._choose_s = preferences_days * _DAY_S

    def of(self, subject: Subject) -> MessageLinks:
        """Write the links of one message; they begin to age when it may no longer be sent, and not at each try."""
        who = subject.addressee
        key = list_key(subject.channel, subject.address)
        reader = Reader(channel=subject.channel, address=key, user=who.user, locale=who.locale)
        sent_s = subject.deadline_at // 1000
        return MessageLinks(
            unsubscribe=self._url + self.leave_path(reader, subject.category.name, sent_s + self._leave_s),
            preferences=self._url + self.choose_path(reader, sent_s + self._choose_s, whole=True),
        )

    def nearby(self, reader: Reader, now: int) -> str:
        """Write the path of the preference page for a reader who is on the unsubscribe page; `now` in Unix ms."""
        return self.choose_path(reader, now // 1000 + _NEARBY_S, whole=False)

    def leave_path(self, reader: Reader, category: str, until_s: int) -> str:
        """Write an unsubscribe link's path, good until `until_s` (Unix s)."""
        if reader.user is not None and len(reader.user.encode()) > _USER_MOST:
            reader = msgspec.structs.replace(reader, user=None)
        return f"/unsubscribe/{self._leave.token(LeaveLink(reader=reader, category=category), until_s)}"

    def choose_path(self, reader: Reader, until_s: int, *, whole: bool) -> str:
        """Write a preference link's path, good until `until_s` (Unix s)."""
        return f"/preferences/{self._choose.token(ChooseLink(reader=reader, whole=whole), until_s)}"

    def leaving(self, token: str, now: int) -> LeaveLink | Unusable:
        """Read an unsubscribe token; `now` in Unix ms."""
        return self._leave.read(token, now)

    def choosing(self, token: str, now: int) -> ChooseLink | Unusable:
        """Read a preference token; `now` in Unix ms."""
        return self._choose.read(token, now)


class _Seal(Generic[Said]):
    """Seals what links of one purpose say."""

    def __init__(self, ciphers: Sequence[AESSIV], purpose: bytes, kind: type[Said]) -> None:
        self._ciphers = ciphers
        self._purpose = [purpose]
        self._encode = msgspec.json.Encoder().encode
        self._decoder = msgspec.json.Decoder(_Token[kind])

    def token(self, said: Said, until_s: int) -> str:
        sealed = self._ciphers[0].encrypt(self._encode(_Token(until_s, said)), self._purpose)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii")

    def read(self, token: str, now: int) -> Said | Unusable:
        opened = self._opened(token)
        if opened is None:
            return Unusable.FOREIGN
        try:
            found = self._decoder.decode(opened)
        except msgspec.DecodeError:  # of a release that wrote them otherwise
            return Unusable.FOREIGN
        return found.said if now < found.until_s * 1000 else Unusable.EXPIRED

    def _opened(self, token: str) -> bytes | None:
        if len(token) > _TOKEN_MOST:
            return None
        try:
            sealed = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (UnicodeError, binascii.Error):
            return None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed, self._purpose)
            except (InvalidTag, ValueError):  # ValueError: too short to be one
                continue
        return None


def _derived(key: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_PURPOSE).derive(key)
