"""Who comes from a browser: a person's page with an inbox token, from an origin that is allowed to.

Owns the two questions that only such pages raise: is the token good for this path, and may the page read the answer
(CORS, the Fetch standard, section 3.2). Everything else is as for any other caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Final
from uuid import UUID

from gateway.api.authentication import Known
from gateway.api.exchange import Header, Reply
from gateway.config.settings import Rate
from gateway.errors import FORBIDDEN, UNAUTHORIZED, Problem
from gateway.model.states import Mode
from gateway.router.caller import Caller
from gateway.router.inbox_tokens import PREFIX, InboxTokens, InboxVisitor

_SCHEME: Final = b"bearer "
_TOKEN_MOST_BYTES: Final = 4096
_PREFLIGHT_S: Final = b"600"
_HEADERS: Final = b"authorization, content-type, last-event-id, x-request-id"
_EXPOSED: Final = b"retry-after, x-request-id"
_VARY: Final[Header] = (b"vary", b"origin")


def visitor(tokens: InboxTokens, rate: Rate, authorization: bytes | None, user_id: str, now: int) -> Known | None:
    """Let an inbox token in to its own person's paths; `None` where something else was sent. Raises the 401 and 403."""
    token = _token_of(authorization)
    if token is None:
        return None
    found = tokens.read(token)
    if found is None:
        raise Problem(UNAUTHORIZED, "This inbox token is not valid.")
    if found.expires_at * 1000 <= now:
        raise Problem(UNAUTHORIZED, "This inbox token has expired; ask your own back end for a new one.")
    if found.user_id != user_id:
        raise Problem(FORBIDDEN, "This inbox token is another person's.")
    return _known(found, rate)


def _token_of(authorization: bytes | None) -> str | None:
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    token = authorization[len(_SCHEME) :].strip()
    if not token.startswith(PREFIX.encode()) or len(token) > _TOKEN_MOST_BYTES:
        return None
    return token.decode("ascii", "replace")


def _known(found: InboxVisitor, rate: Rate) -> Known:
    until = found.expires_at * 1000
    caller = Caller(
        key_id=UUID(bytes=blake2b(found.user_id.encode(), digest_size=16, person=b"inbox").digest()),
        name="inbox token",
        project=found.project,
        mode=Mode.LIVE,
        scopes=frozenset(),
        until=until,
    )
    return Known(caller=caller, rate=rate, expires_at=until, believed_until=until)


def allowing(origins: Collection[str], headers: Iterable[Header]) -> tuple[Header, ...]:
    """List the headers that let a page read the answer; only `Vary` for a page of elsewhere."""
    if not origins:
        return ()
    origin = _origin(headers)
    if origin.decode("latin-1") not in origins:
        return (_VARY,)
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        _VARY,
    )


def preflight(origins: Collection[str], headers: Mapping[bytes, bytes], methods: Iterable[str]) -> Reply | None:
    """Answer a browser that asks before it calls; `None` where the question is none, or the page is of elsewhere."""
    origin = headers.get(b"origin", b"")
    if b"access-control-request-method" not in headers or origin.decode("latin-1") not in origins:
        return None
    allowed = (
        (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _PREFLIGHT_S),
    )
    return Reply(status=204, body=b"", headers=allowed)


def _origin(headers: Iterable[Header]) -> bytes:
    return next((value for name, value in headers if name == b"origin"), b"")
