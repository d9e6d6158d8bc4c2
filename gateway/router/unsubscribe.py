"""Unsubscribe links: who may be taken off which category, written into a signed token.

Owns the token. Whoever has the link may use it, without signing in: it names one address and one category (and whose
message it was), and nothing else can be done with it. Refuses to know pages and storage.
"""

from __future__ import annotations

from typing import Final

import msgspec
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from gateway.model.addresses import list_key
from gateway.router.compose import Subject

LINK_S: Final = 400 * 86_400
"""How long a link works: longer than people keep a mail before they unsubscribe from it, and not for ever."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid link says; `address` as suppressions are looked up, `user_id` where a stored user was written to."""

    channel: str
    address: str
    category: str
    user_id: str | None = None


class Expired(Exception):
    """The link was ours, and is too old."""


class UnsubscribeLinks:
    """Makes links and reads them. `secret` signs; another gateway's links are not valid here."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._signer = URLSafeTimedSerializer(secret, salt="unsubscribe")
        self._url = public_url.rstrip("/")

    def url(self, subject: Subject) -> str:
        """Write the link for one message."""
        words = [subject.channel, list_key(subject.channel, subject.address), subject.category.name]
        if subject.addressee.user is not None:
            words.append(subject.addressee.user)
        return f"{self._url}/unsubscribe/{self._signer.dumps(words)}"

    def read(self, token: str) -> Link | None:
        """Read a token; `None` for a forged or foreign one. Raises `Expired`."""
        try:
            channel, address, category, *users = self._signer.loads(token, max_age=LINK_S)
        except SignatureExpired as error:
            raise Expired from error
        except (BadSignature, ValueError):
            return None
        return Link(channel=channel, address=address, category=category, user_id=users[0] if users else None)
