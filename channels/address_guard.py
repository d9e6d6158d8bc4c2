"""Which addresses a caller may make us talk to.

Owns the rules for URLs that come from outside (webhooks, push endpoints): their notation, and the network addresses
behind them. Refuses to know HTTP: `channels.http` dials through the resolver and the socket factory given here.

The attack: someone registers `https://metadata.example/`, whose name resolves to 169.254.169.254 or, the second time it
is asked, to 127.0.0.1, and reads our internal network through our answers. So a name is resolved once for each
connection, every address of the answer is judged, and exactly those addresses are dialled; the socket is judged again.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, cast

import aiohttp.abc
import idna
import msgspec
from yarl import URL

__all__ = ["AddressRefused", "Guard", "GuardedResolver"]

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_URL_MOST: Final = 2048  # characters; push endpoints, the longest in use, have about 500
_NAME_MOST: Final = 253  # RFC 1035 2.3.4
_HTTPS: Final = 443
_IPV4_BITS: Final = 32

# RFC 3986 3.2, narrower: no userinfo, no percent-encoding, no zone. All that follows looks at these groups only.
_URL: Final = re.compile(
    r"(?P<scheme>[a-zA-Z]+)://(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[a-zA-Z0-9.-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>[/?#][!-~]*)?",
).fullmatch
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch
# WHATWG URL, "ends in a number": such a host is an IPv4 address to some parsers (127.1, 0x7f.1, 2130706433).
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*").fullmatch
# RFC 6761, RFC 6762, RFC 8375 and ICANN's reserved `.internal`: never the public Internet.
_INTERNAL_NAMES: Final = ("localhost", "localdomain", "local", "internal", "intranet", "home.arpa", "onion", "alt")

# IANA's registries of special-purpose addresses, and what clouds put metadata on. Stated here rather than asked of
# `ipaddress.is_global`, whose answer changed between patch releases of Python.
_FORBIDDEN_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT, and Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent: looks public, is not
        "169.254.0.0/16",  # link-local, and everybody's metadata at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")  # RFC 4291 2.4: all else is loopback, local, mapped, NAT64 or unassigned
_FORBIDDEN_V6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address
        "3fff::/20",  # documentation
    )
)

_REFUSED: Final = "the address is not one that may be called"


class AddressRefused(OSError):
    """A name that resolves to an address which may not be called. Nothing was dialled."""


class Guard(msgspec.Struct, frozen=True):
    """The rules of one wire.

    `allow_private`: networks that are allowed although they are not public (`["10.1.0.0/16"]`: text or networks).
    `ports`: those that may be named. `allow_http_hosts`: host names that may be called over plain http, for tests.
    `plain_private`: whether addresses written as numbers that lie in `allow_private` may be called over plain http, and
    on any port: a network that an operator names is his own, and what stands in it seldom has a certificate.
    """

    allow_private: tuple[Network | str, ...] = ()
    ports: tuple[int, ...] = (_HTTPS,)
    allow_http_hosts: tuple[str, ...] = ()
    plain_private: bool = False

    def __post_init__(self) -> None:
        networks = tuple(ip_network(entry) if isinstance(entry, str) else entry for entry in self.allow_private)
        msgspec.structs.force_setattr(self, "allow_private", networks)
        msgspec.structs.force_setattr(self, "ports", tuple(self.ports))
        msgspec.structs.force_setattr(self, "allow_http_hosts", tuple(self.allow_http_hosts))

    def check_url(self, text: str) -> str | None:
        """Say what is wrong with a URL before anything is resolved; `None` if nothing is. Pure; repeats no input."""
        return _judged(self, text)

    def judge_url(self, text: str) -> str | None:
        """Do what `check_url` does, anew."""
        if len(text) > _URL_MOST:
            return f"a URL has at most {_URL_MOST} characters"
        found = _URL(text)
        if found is None:
            return (
                "write https://host/path in plain ASCII: no user, no percent-encoding in the host, "
                "no spaces, international names in their xn-- form"
            )
        six, name = found["six"], (found["name"] or "").lower()
        fault = self._scheme_fault(found["scheme"].lower(), six or name, found["port"])
        if fault is None:
            fault = self._literal_fault(six) if six else self._name_fault(name)
        # The parser that will dial must see what was judged here; two that disagree are how guards are passed.
        return fault or (None if _dialled_host(text) == (six or name).lower() else _REFUSED)

    def allows(self, address: str) -> bool:
        """Judge one resolved address. Mapped and translated notations are refused whatever they carry."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if "%" in address:  # a zone: the same number on another link is another place
            return False
        if any(found in network for network in self._networks if network.version == found.version):
            return True
        if isinstance(found, IPv4Address):
            return not any(found in network for network in _FORBIDDEN_V4)
        return found in _GLOBAL_V6 and not any(found in network for network in _FORBIDDEN_V6)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one address: the last door, passed by every connection, however it was resolved."""
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            raise AddressRefused(_REFUSED)
        return socket.socket(family=family, type=kind, proto=protocol)

    @property
    def _networks(self) -> tuple[Network, ...]:
        return cast("tuple[Network, ...]", self.allow_private)

    def _scheme_fault(self, scheme: str, host: str, port: str | None) -> str | None:
        if self.plain_private and scheme in {"http", "https"} and self._is_private(host):
            return None
        if scheme != "https" and not (scheme == "http" and host in self.allow_http_hosts):
            return "only https is called"
        number = int(port) if port else (_HTTPS if scheme == "https" else 80)
        if number in self.ports or (scheme == "http" and port is None):
            return None
        return "the port is not one that may be called"

    def _is_private(self, host: str) -> bool:
        """Say whether a host is written as an address of a network that `allow_private` names."""
        try:
            found = ip_address(host)
        except ValueError:
            return False
        return any(found in network for network in self._networks if network.version == found.version)

    def _literal_fault(self, text: str) -> str | None:
        try:
            address = IPv6Address(text)
        except ValueError:
            return "the host is not an address"
        return None if self.allows(str(address)) else _REFUSED

    def _name_fault(self, name: str) -> str | None:
        labels = name.split(".")
        if _NUMBER(labels[-1]) or _NUMBER(labels[-2] if not labels[-1] and len(labels) > 1 else ""):
            try:
                address = IPv4Address(name)
            except ValueError:
                return "write an IPv4 address as four decimal numbers, or a name that does not end in a number"
            return None if self.allows(str(address)) else _REFUSED
        if len(name) > _NAME_MOST or not all(_LABEL(label) for label in labels):
            return "the host is not a name: letters, digits and hyphens between dots, no dot at the end"
        if name in self.allow_http_hosts:
            return None
        if len(labels) == 1 or any(name == each or name.endswith("." + each) for each in _INTERNAL_NAMES):
            return _REFUSED
        return None if all(_is_readable(label) for label in labels) else "the host's xn-- form is not valid"


class GuardedResolver(aiohttp.abc.AbstractResolver):
    """Resolves through another resolver and lets an answer pass only if every address in it is allowed."""

    def __init__(self, guard: Guard, inner: aiohttp.abc.AbstractResolver) -> None:
        self._guard = guard
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        """Resolve once. Raises `AddressRefused` if a single address is forbidden: an honest name has none such."""
        found = await self._inner.resolve(host, port, family)
        if not all(self._guard.allows(each["host"]) for each in found):
            raise AddressRefused(_REFUSED)
        return found

    async def close(self) -> None:
        """Close the resolver inside."""
        await self._inner.close()


@lru_cache(maxsize=1024)  # an adapter asks, and its wire once more; and the same webhooks come again and again
def _judged(guard: Guard, text: str) -> str | None:
    return guard.judge_url(text)


def _dialled_host(text: str) -> str | None:
    try:
        return (URL(text, encoded=True).raw_host or "").lower()
    except ValueError:
        return None


def _is_readable(label: str) -> bool:
    if not label.startswith("xn--"):
        return True
    try:
        idna.decode(label)
    except (idna.IDNAError, UnicodeError):
        return False
    return True
