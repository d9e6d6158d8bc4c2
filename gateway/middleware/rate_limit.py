"""How fast: towards providers, towards recipients, and from API keys.

Owns the arithmetic of pacing and the bucket of each API key. Refuses to know the store, which keeps the reservations
that all processes share (`Store.reserve`: at most `count` within any `window_ms`), and HTTP beyond two header values.
Deliveries are paced and never dropped; requests over a key's rate are refused.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import msgspec

from gateway.config.settings import Rate

_WINDOW_LEAST_MS: Final = 50  # finer slices gain nothing: one reservation answers for a batch
_WINDOW_MOST_MS: Final = 200  # coarser ones are felt as bursts by the provider and as pauses by whoever waits
_WINDOW_BEST_MS: Final = 100
_KEYS_MOST: Final = 10_000  # API keys remembered in one process; about 2 MB
_BLAKE2_KEY_MOST: Final = 64  # octets, RFC 7693 2.1


class Pace(msgspec.Struct, frozen=True):
    """At most `count` within any `window_ms`, as the store reserves it."""

    count: int
    window_ms: int


def provider_pace(rate: Rate) -> Pace:
    """Spread a provider's rate evenly: `50/s` is 5 in any 100 ms.

    Never faster than the rate over its own window: n windows cover it, and n times the count is within the rate. At
    most a tenth slower, where no window of 50 to 200 ms fits the number exactly.
    """
    whole_ms = rate.per_s * 1000
    if rate.count * _WINDOW_MOST_MS <= whole_ms:
        return Pace(1, math.ceil(whole_ms / rate.count))

    def fitness(window_ms: int) -> tuple[float, int]:
        return _fitting(rate.count, whole_ms, window_ms) / window_ms, -abs(window_ms - _WINDOW_BEST_MS)

    window_ms = max(range(_WINDOW_LEAST_MS, _WINDOW_MOST_MS + 1), key=fitness)
    return Pace(_fitting(rate.count, whole_ms, window_ms), window_ms)


def _fitting(count: int, whole_ms: int, window_ms: int) -> int:
    return count // math.ceil(whole_ms / window_ms)


def recipient_pace(rate: Rate) -> Pace:
    """Keep a recipient's rate exactly as written: three messages at once and then none for an hour may be right."""
    return Pace(rate.count, rate.per_s * 1000)


def provider_key(provider: str) -> str:
    """Name a provider's reservations."""
    return f"provider:{provider}"


def recipient_key(channel: str, address: str, *, secret: bytes) -> str:
    """Name a recipient's reservations without storing the address: a keyed hash of it.

    `address` as `gateway.model.addresses.match_key` gives it. `secret` is the same in every process.
    """
    key = secret if len(secret) <= _BLAKE2_KEY_MOST else hashlib.sha512(secret).digest()
    digest = hashlib.blake2b(f"{channel}:{address}".encode(), key=key, digest_size=16, person=b"recipient-rate")
    return f"recipient:{channel}:{digest.hexdigest()}"


class Allowance(msgspec.Struct, frozen=True, gc=False):
    """Whether a request may pass, and what its answer says about the rate: `tokens` are left, `needed` were asked."""

    ok: bool
    rate: Rate
    tokens: float
    needed: int

    @property
    def remaining(self) -> int:
        """Count the requests that could follow at once."""
        return max(0, math.floor(self.tokens))

    @property
    def reset_s(self) -> int:
        """Tell in how many seconds a whole window's worth could follow."""
        return self._seconds_until(self.rate.count)

    @property
    def retry_after_s(self) -> int:
        """Tell in how many seconds a refused request may pass; 0 for one that did."""
        return 0 if self.ok else max(1, self._seconds_until(self.needed))

    def headers(self) -> Mapping[str, str]:
        """Write `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), `Retry-After`."""
        lines = {
            "RateLimit-Policy": f'"key";q={self.rate.count};w={self.rate.per_s}',
            "RateLimit": f'"key";r={self.remaining};t={self.reset_s}',
        }
        return lines if self.ok else {**lines, "Retry-After": str(self.retry_after_s)}

    def _seconds_until(self, tokens: float) -> int:
        return math.ceil((tokens - self.tokens) * self.rate.per_s / self.rate.count)


class _Bucket:
    __slots__ = ("at_ms", "tokens")

    def __init__(self, tokens: float, at_ms: int) -> None:
        self.tokens = tokens
        self.at_ms = at_ms


class KeyLimiter:
    """A token bucket for each API key of one process; remembers the keys used last, and no more than `most`.

    A bucket holds one window's worth, and what is used comes back evenly. A clock that jumps back gives nothing and
    takes nothing; one that jumps ahead fills a bucket at most. Not safe to share between threads.
    """

    def __init__(self, most: int = _KEYS_MOST) -> None:
        self._most = most
        self._buckets: OrderedDict[int, _Bucket] = OrderedDict()

    def allow(self, key_id: UUID, rate: Rate, now_ms: int, cost: int = 1) -> Allowance:
        """Take `cost` from the key's bucket, or nothing when that is too much.

        A cost beyond a whole bucket passes when the bucket is full, and the key then waits it off: a batch larger than
        the rate is slow, not impossible.
        """
        bucket = self._bucket(key_id.int, rate, now_ms)  # a UUID is hashed in Python, each time
        needed = min(cost, rate.count)
        ok = bucket.tokens >= needed
        if ok:
            bucket.tokens -= cost
        return Allowance(ok, rate, bucket.tokens, needed)

    def _bucket(self, key: int, rate: Rate, now_ms: int) -> _Bucket:
        """Find the key's bucket, filled up to now; a new one is full."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate.count, now_ms)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
            return bucket
        self._buckets.move_to_end(key)
        gained = max(0, now_ms - bucket.at_ms) * rate.count / (rate.per_s * 1000)
        bucket.tokens = min(float(rate.count), bucket.tokens + gained)
        bucket.at_ms = now_ms
        return bucket
