"""The database's URL where it names several hosts: `postgresql://user:password@one:5432,two:5432/db`.

Owns that form, which libpq reads and URL libraries do not. Refuses to know drivers.
"""

from __future__ import annotations

import re
from typing import Final

_AUTHORITY: Final = re.compile(r"(?P<before>[^/]*//(?:[^@/]*@)?)(?P<hosts>[^/?#]*)(?P<after>.*)", re.DOTALL)


def split_hosts(url: str) -> tuple[str, tuple[str, ...]]:
    """Answer the URL with its first host alone, and all hosts in order, each as `host` or `host:port`.

    >>> split_hosts("postgresql://u:p@one:5432,two/db?x=1")
    ('postgresql://u:p@one:5432/db?x=1', ('one:5432', 'two'))
    """
    found = _AUTHORITY.fullmatch(url)
    if found is None:
        return url, ()
    hosts = tuple(found["hosts"].split(","))
    return f"{found['before']}{hosts[0]}{found['after']}", hosts


def with_host(url: str, host: str) -> str:
    """Answer a URL of several hosts as if it named this one alone."""
    found = _AUTHORITY.fullmatch(url)
    return url if found is None else f"{found['before']}{host}{found['after']}"
