"""Inbox tokens: what a service's back end hands to one person's page, so that it may show their inbox and nothing else.

Owns the token: signed, bound to one person and one project, and soon over. Refuses to know HTTP and storage: a token is
not kept anywhere, so it cannot be called back either, and is made short-lived instead.
"""

from __future__ import annotations

from typing import Final

import msgspec
from itsdangerous import BadSignature, URLSafeSerializer

PREFIX: Final = "ntfi_"
"""What a token begins with, so that it is never taken for a key, and is found where it should not be."""

TTL_S: Final = 3600
TTL_MOST_S: Final = 86_400


class InboxVisitor(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says: whose inbox, of which project's items, and until when (Unix seconds)."""

    user_id: str
    project: str
    expires_at: int


class InboxTokens:
    """Makes tokens and reads them. `secret` signs; another gateway's tokens are not valid here."""

    def __init__(self, secret: bytes) -> None:
        self._signer = URLSafeSerializer(secret, salt="inbox")

    def mint(self, visitor: InboxVisitor) -> str:
        """Write a token."""
        return PREFIX + str(self._signer.dumps([visitor.user_id, visitor.project, visitor.expires_at]))

    def read(self, token: str) -> InboxVisitor | None:
        """Read a token, also one that is over; `None` for a forged or foreign one."""
        try:
            user_id, project, expires_at = self._signer.loads(token.removeprefix(PREFIX))
        except (BadSignature, ValueError):
            return None
        return InboxVisitor(user_id=user_id, project=project, expires_at=expires_at)
