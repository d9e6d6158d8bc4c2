"""From a person as a service writes one to one that can be kept, or every fault of it at once.

Owns the checks that types cannot say, and the one form in which addresses are kept and compared. Refuses to know
storage and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from channels.address_guard import Guard
from channels.mime import header_faults
from gateway.errors import Code, Fault, invalid
from gateway.model.addresses import AddressFault, list_key, locale_fault, normalise, timezone_fault
from gateway.model.inbox import INBOX
from gateway.model.people import AddressRequest, UserRequest, user_id_fault
from gateway.router.providers import Providers
from gateway.router.rules import Rules
from gateway.storage.contract import ADDRESSES_MOST, AddressPut, UserPut

KNOWN_CHANNELS: Final = frozenset(
    {"email", "slack", "discord", "teams", "telegram", "sms", "web_push", "mobile_push", "webhook"}
)
"""Known whether configured or not: people may be stored before a channel is set up."""

_SUBSCRIPTION_CHANNEL: Final = "web_push"
_KEY_BYTES: Final = 2000
"""Longer ones do not fit into an index of PostgreSQL together with the user's id; real ones have a few hundred."""
_ATTRIBUTES_BYTES: Final = 16_384
_HINTS: Final = {
    "phone": "; a phone number's channel is sms",
    INBOX: "; every person has an inbox, which needs no address",
}
_ENCODE: Final = msgspec.json.Encoder().encode


class People:
    """Reads people. `guard` judges addresses that are URLs where no configured adapter does."""

    def __init__(self, *, rules: Rules, providers: Providers, guard: Guard, clock: Callable[[], int]) -> None:
        self._providers = providers
        self._guard = guard
        self._clock = clock
        self._channels = (KNOWN_CHANNELS | rules.channels.keys()) - {INBOX}

    def profile(self, id_: str, written: UserRequest, *, id_field: str) -> UserPut:
        """Read a whole profile; raises the 422 with every fault. `id_field` names where the id was written."""
        faults = list(profile_faults("", written.name, written.locale, written.timezone))
        if (wrong := user_id_fault(id_)) is not None:
            faults.append(Fault(id_field, *wrong))
        attributes = _ENCODE(written.attributes)
        if len(attributes) > _ATTRIBUTES_BYTES:
            message = f"at most {_ATTRIBUTES_BYTES} bytes of JSON are kept"
            faults.append(Fault("attributes", Code.TOO_LONG, message))
        addresses = self._addresses(written, faults)
        if faults:
            raise invalid(faults)
        return UserPut(
            id=id_,
            name=written.name,
            locale=written.locale,
            timezone=written.timezone,
            attributes=attributes,
            addresses=addresses,
            now=self._clock(),
        )

    def address(self, written: AddressRequest) -> AddressPut:
        """Read one address; raises the 422 with every fault."""
        faults: list[Fault] = []
        found = self._address(written, "", faults)
        if faults or found is None:
            raise invalid(faults)
        return found

    def key(self, channel: str, written: str) -> str:
        """Give the form under which an address is looked up; what is no address is looked for as it is."""
        try:
            return list_key(channel, normalise(channel, written))
        except AddressFault:
            return written

    def _addresses(self, written: UserRequest, faults: list[Fault]) -> tuple[AddressPut, ...]:
        """Read all of a profile's addresses; one that is written twice is kept once, with its label."""
        found: dict[tuple[str, str], AddressPut] = {}
        for field, channel, given in (("email", "email", written.email), ("phone", "sms", written.phone)):
            if given is None:
                continue
            own = self._read(channel, given, field, faults)
            if own is not None:
                found[channel, own.key] = msgspec.structs.replace(own, profile=True)
        for index, one in enumerate(written.addresses):
            own = self._address(one, f"addresses[{index}].", faults)
            if own is not None:
                before = found.get((own.channel, own.key))
                found[own.channel, own.key] = (
                    own if before is None else msgspec.structs.replace(before, label=own.label)
                )
        if len(found) > ADDRESSES_MOST:
            faults.append(Fault("addresses", Code.TOO_MANY, f"a person has at most {ADDRESSES_MOST} addresses"))
        return tuple(found.values())

    def _address(self, one: AddressRequest, where: str, faults: list[Fault]) -> AddressPut | None:
        if one.label is not None and not one.label.isprintable():
            faults.append(Fault(f"{where}label", Code.INVALID, "A label must not contain control characters."))
        if one.channel not in self._channels:
            hint = _HINTS.get(one.channel, "")
            message = f"There is no such channel; there are {', '.join(sorted(self._channels))}{hint}."
            faults.append(Fault(f"{where}channel", Code.UNKNOWN_CHANNEL, message))
            return None
        found = self._read(one.channel, one.address, f"{where}address", faults)
        return None if found is None else msgspec.structs.replace(found, label=one.label)

    def _read(self, channel: str, given: str | dict[str, Any], field: str, faults: list[Fault]) -> AddressPut | None:
        fault = _kind_fault(channel, given)
        if fault is None:
            try:
                address = normalise(channel, given)
            except AddressFault as wrong:
                fault = (wrong.code, wrong.message)
            else:
                fault = self._own_fault(channel, given, address)
                if fault is None:
                    return AddressPut(channel=channel, address=address, key=list_key(channel, address))
        faults.append(Fault(field, *fault))
        return None

    def _own_fault(self, channel: str, given: str | dict[str, Any], address: str) -> tuple[Code, str] | None:
        """Ask the channel's adapters, which know its notation; URLs are judged where none is configured, too."""
        if len(address.encode()) > _KEY_BYTES:
            return Code.TOO_LONG, f"An address has at most {_KEY_BYTES} bytes."
        checks = [check for one in self._providers.of(channel) if (check := _check_of(one.adapter)) is not None]
        if checks:
            answers = [check(address) for check in checks]
            wrong = None if None in answers else answers[0]
        elif channel == _SUBSCRIPTION_CHANNEL:
            wrong = _subscription_fault(given, self._guard)
        else:
            wrong = self._guard.check_url(address) if channel == "webhook" else None
        return None if wrong is None else (Code.INVALID, wrong)


def profile_faults(where: str, name: str | None, locale: str | None, timezone: str | None) -> Iterator[Fault]:
    """List what is wrong with who somebody is; `where` begins each path (`to[0].`)."""
    if name is not None:
        for _, message in header_faults(to_name=name):
            yield Fault(f"{where}name", Code.HEADER_INJECTION, message)
    if locale is not None and (message := locale_fault(locale)):
        yield Fault(f"{where}locale", Code.INVALID, message)
    if timezone is not None and (message := timezone_fault(timezone)):
        yield Fault(f"{where}timezone", Code.INVALID, message)


def _check_of(adapter: object) -> Callable[[str], str | None] | None:
    return getattr(adapter, "address_fault", None)


def _kind_fault(channel: str, given: str | Mapping[str, Any]) -> tuple[Code, str] | None:
    if channel == _SUBSCRIPTION_CHANNEL and isinstance(given, str):
        return Code.WRONG_TYPE, "Must be a browser's subscription: an object with endpoint and keys."
    if channel != _SUBSCRIPTION_CHANNEL and not isinstance(given, str):
        return Code.WRONG_TYPE, "Must be a string."
    return None


def _subscription_fault(given: str | Mapping[str, Any], guard: Guard) -> str | None:
    """Judge a subscription's form, and whether its endpoint may be called."""
    written: Mapping[str, Any] = {} if isinstance(given, str) else given
    endpoint, keys = written.get("endpoint"), written.get("keys")
    known = cast("dict[str, Any]", keys) if isinstance(keys, dict) else {}
    if not isinstance(endpoint, str) or not all(isinstance(known.get(name), str) for name in ("p256dh", "auth")):
        return "not a push subscription: an object with endpoint and keys (p256dh, auth)"
    fault = guard.check_url(endpoint)
    return None if fault is None else f"endpoint: {fault}"
