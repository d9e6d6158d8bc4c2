"""Who calls: from the `Authorization` header to a caller and the rate of its key.

Owns the cache of keys and what a key must be to be let in. Keys are known by their SHA-256 only. Refuses to read keys
from anywhere else: a key in a query string ends up in logs.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec

from gateway.config.settings import LimitSettings, Rate, Secret
from gateway.errors import FORBIDDEN, UNAUTHORIZED, Problem
from gateway.model.keys import is_well_formed
from gateway.model.states import Mode, Scope
from gateway.router.caller import Caller
from gateway.storage.contract import KeyRow, Store

BOOTSTRAP_KEY_ID: Final = UUID(int=0)
_CACHED_MS: Final = 5000
"""How long a key is believed without asking the store: a revocation elsewhere takes effect within this."""
_CACHED_MOST: Final = 10_000
_KEY_MOST_BYTES: Final = 512
_NOT_VALID: Final = "This API key is not valid."
_SCHEME: Final = b"bearer "
_BOOTSTRAP: Final = Caller(
    key_id=BOOTSTRAP_KEY_ID,
    name="bootstrap",
    project="default",
    mode=Mode.LIVE,
    scopes=frozenset(Scope),
)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was let in: who it is, its rate, until when it is valid and until when that is believed (Unix ms)."""

    caller: Caller
    rate: Rate
    expires_at: int | None
    believed_until: int


class Authentication:
    """Lets keys in. One per process; used from one event loop."""

    def __init__(self, store: Store, limits: LimitSettings, bootstrap_key: Secret | None) -> None:
        self._store = store
        self._rates = {Mode.LIVE: limits.live, Mode.TEAM: limits.team, Mode.TEST: limits.test}
        self._bootstrap = None if bootstrap_key is None else sha256(bootstrap_key.reveal().encode()).digest()
        self._cache: OrderedDict[bytes, Known] = OrderedDict()
        self._used: dict[UUID, int] = {}

    async def known(self, authorization: bytes | None, now: int) -> Known:
        """Find the key of an `Authorization` header; raises the 401."""
        key = _key_of(authorization)
        hash_ = sha256(key).digest()
        known = self._cache.get(hash_)
        if known is None or known.believed_until <= now:
            known = await self._look_up(key, hash_, now)
        if known.expires_at is not None and known.expires_at <= now:
            raise _refused("This API key has expired.")
        return known

    def forget(self) -> None:
        """Believe nothing from before: called when this process revoked a key."""
        self._cache.clear()

    async def flush_used(self) -> None:
        """Write down when keys were last used. Call it now and then, and at the end."""
        used, self._used = self._used, {}
        if used:
            await self._store.touch_keys(used)

    async def _look_up(self, key: bytes, hash_: bytes, now: int) -> Known:
        if self._bootstrap is not None and hmac.compare_digest(hash_, self._bootstrap):
            caller, rate, expires_at = _BOOTSTRAP, self._rates[Mode.LIVE], None
        else:
            if not is_well_formed(key.decode("latin-1")):  # what nobody made needs no look into the database
                raise _refused(_NOT_VALID)
            row = await self._store.key_by_hash(hash_)
            if row is None or row.revoked_at is not None:
                self._cache.pop(hash_, None)
                raise _refused(_NOT_VALID if row is None else "This API key was revoked.")
            caller, rate, expires_at = _caller(row), self._rate(row), row.expires_at
            self._used[row.id] = now
        known = Known(caller=caller, rate=rate, expires_at=expires_at, believed_until=now + _CACHED_MS)
        self._cache[hash_] = known
        self._cache.move_to_end(hash_)
        if len(self._cache) > _CACHED_MOST:
            self._cache.popitem(last=False)
        return known

    def _rate(self, row: KeyRow) -> Rate:
        return self._rates[row.mode] if row.rate is None else Rate.parse(row.rate)


def require(caller: Caller, scopes: tuple[Scope, ...]) -> None:
    """Raise the 403 unless the caller has one of `scopes`."""
    for scope in scopes:
        if caller.may(scope):
            return
    wanted = " or ".join(scopes)
    raise Problem(FORBIDDEN, f"This needs a key with the scope {wanted}.")


def _key_of(authorization: bytes | None) -> bytes:
    if authorization is None:
        raise _refused("Send an API key: Authorization: Bearer KEY.")
    if authorization[: len(_SCHEME)].lower() != _SCHEME or len(authorization) > _KEY_MOST_BYTES:
        raise _refused("The Authorization header must be: Bearer KEY.")
    return authorization[len(_SCHEME) :].strip()


def _caller(row: KeyRow) -> Caller:
    return Caller(
        key_id=row.id,
        name=row.name,
        project=row.project,
        mode=row.mode,
        scopes=frozenset(row.scopes),
    )


def _refused(detail: str) -> Problem:
    return Problem(UNAUTHORIZED, detail)
