"""The configuration of a gateway that is to be killed, for tests that need no table of faults."""

from __future__ import annotations

from tests.support.gateway import ADMIN, SECRET, merged, smtp
from tests.support.smtp_server import SmtpServer

CONNECTIONS = 8
IN_HAND = 4 * CONNECTIONS
"""The slots of a lane: the most that can be in flight in one process."""


def config_in(folder, sink: SmtpServer, *, database: str | None = None, **more):
    nothing = folder / "no-templates"
    nothing.mkdir(exist_ok=True)
    config = {
        "database": database or f"sqlite:///{folder}/gateway.db",
        "bootstrap_key": ADMIN,
        "secret_key": SECRET,
        "templates": {"folder": str(nothing)},
        "server": {"lease_s": 2, "poll_s": 0.1},
        "logging": {"level": "error", "format": "json"},
        "channels": {"email": {"retry": {"first_s": 1, "most_s": 2}}},
        "categories": {"careful": {"on_unknown": "hold"}},
        "providers": {"smtp-1": {"connections": CONNECTIONS}},
    }
    return merged(merged(smtp(sink), config), more)
