"""Which proxy a request goes through: the provider's own setting, or the environment's as curl reads it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import unquote

import msgspec
from yarl import URL

__all__ = ["DIRECT", "Proxy", "environment_proxy", "read_proxy"]

DIRECT = "direct"
"""The setting that says: no proxy, whatever the environment names."""


class Proxy(msgspec.Struct, frozen=True):
    """A proxy without its password in the URL, which libraries print; `authorization` is the header's value."""

    url: URL
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.url.scheme}://{self.url.host}:{self.url.port})"


def read_proxy(text: str) -> Proxy | None:
    """Read `http://user:password@host:port`; `None` for what is no HTTP proxy (SOCKS is not spoken here)."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        return None
    if url.scheme not in {"http", "https"} or not url.host:
        return None
    authorization = None
    if url.raw_user is not None:
        pair = f"{unquote(url.raw_user)}:{unquote(url.raw_password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(url.with_user(None), authorization)


def environment_proxy(url: URL, environ: Mapping[str, str]) -> str | None:
    """Find what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say of `url`; either case, lower case first.

    Loopback is never proxied: no proxy could reach our own host, and a health check must not leave it.
    """
    host = (url.host or "").rstrip(".").lower()
    found = _variable(environ, f"{url.scheme}_proxy") or _variable(environ, "all_proxy")
    if not found or _is_loopback(host):
        return None
    excepted = _variable(environ, "no_proxy").lower().replace(",", " ").split()
    return None if any(_matches(host, url.port, entry) for entry in excepted) else found


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _matches(host: str, port: int | None, entry: str) -> bool:
    """Compare with one entry of NO_PROXY: `*`, a domain (and what is below it), an address or network; `:port`."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # at least one of them is a name
    name, _, wanted = entry.rpartition(":") if entry.rpartition(":")[2].isdigit() else (entry, "", "")
    name = name.strip("[]").removeprefix("*").removeprefix(".")
    if not name or (wanted and wanted != str(port)):
        return False
    return host == name or host.endswith("." + name)
