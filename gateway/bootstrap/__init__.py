"""The only place that constructs things: from checked settings to a running gateway, and back down.

Owns the order of starting and stopping. Decides nothing about notifications.
"""

from gateway.bootstrap.assemble import Gateway, api, open_attending, open_gateway, open_store
from gateway.bootstrap.family import NotStarted
from gateway.bootstrap.providers import check_providers
from gateway.bootstrap.running import serve, work, working

__all__ = [
    "Gateway",
    "NotStarted",
    "api",
    "check_providers",
    "open_attending",
    "open_gateway",
    "open_store",
    "serve",
    "work",
    "working",
]
