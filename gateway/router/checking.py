"""Asking providers whether our credentials are good, without sending anything to anyone.

Owns the time limit and the answer where a provider has no such question. Needs no database: a configuration is checked
before anything runs. Refuses to know what a provider is asked: its adapter does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from channels.contract import Channel, Check
from gateway.observe.masking import without

CHECK_S: Final = 15.0
"""How long one provider may take: no operator waits longer for it."""
_DETAIL_CHARS: Final = 500
_NO_WAY: Final = Check(ok=None, detail="cannot be checked without sending")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a provider's credentials work; `ok` is `None` where that cannot be told without sending."""

    provider: str
    ok: bool | None
    detail: str
    took_ms: int


class Checking:
    """Asks the providers of one configuration. `destinations`: what stands behind (channel, configured name).

    `secrets`: by provider, what its answer is rid of.
    """

    def __init__(
        self,
        adapters: Mapping[str, Channel],
        destinations: Mapping[tuple[str, str], str],
        secrets: Mapping[str, Sequence[str]],
        *,
        clock: Callable[[], int],
        log: Any,
        limit_s: float = CHECK_S,
    ) -> None:
        self._adapters = adapters
        self._destinations = destinations
        self._secrets = secrets
        self._clock = clock
        self._log = log
        self._limit_s = limit_s

    async def check(self, name: str) -> Checked:
        """Ask one provider, within the time limit; `name` is a configured one."""
        adapter = self._adapters[name]
        addresses = {who: address for (channel, who), address in self._destinations.items() if channel == adapter.kind}
        began = self._clock()
        try:
            async with asyncio.timeout(self._limit_s):
                found = await _asked(adapter, addresses)
        except TimeoutError:
            found = Check(ok=False, detail=f"no answer within {self._limit_s:g} s")
        except Exception as error:  # noqa: BLE001 - an adapter may come from elsewhere: whatever it raises is its bug
            self._log.exception("adapter_raised", provider=name)
            found = Check(ok=False, detail=f"the adapter failed: {type(error).__name__}")
        took_ms = max(0, self._clock() - began)
        return Checked(
            provider=name,
            ok=found.ok,
            detail=one_line(without(found.detail, self._secrets.get(name, ()))),
            took_ms=took_ms,
        )


async def _asked(adapter: Channel, addresses: Mapping[str, str]) -> Check:
    """Ask about the account, and about each configured destination where the adapter can."""
    account = getattr(adapter, "check", None)
    destination = getattr(adapter, "check_address", None)
    own: Check = _NO_WAY if account is None else await account()
    if destination is None or not addresses or own.ok is False:
        return own
    each: list[Check] = await asyncio.gather(*(destination(address) for address in addresses.values()))
    words = [f"{name}: {check.detail}" for name, check in zip(addresses, each, strict=True)]
    ok = all(check.ok is not False for check in each)
    return Check(ok=ok, detail="; ".join(words if own.ok is None else [own.detail, *words]))


def one_line(words: str) -> str:
    """Fit a provider's words into one printable line of at most 500 characters."""
    return "".join(each if each.isprintable() else " " for each in words)[:_DETAIL_CHARS]
