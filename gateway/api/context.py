"""What the API is given to work with.

Owns the list of its collaborators and the little it asks of each. `gateway.bootstrap` builds them; nothing here
constructs, starts or stops anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.api.authentication import Authentication
from gateway.api.captured_hub import CapturedHub
from gateway.config.settings import Settings
from gateway.middleware.rate_limit import KeyLimiter
from gateway.model.bodies import BUILT_IN, Bodies
from gateway.model.ids import IdSource
from gateway.observe.metrics import Metrics
from gateway.render.renderer import Renderer
from gateway.router.accept import Accepting
from gateway.router.attending import Attending
from gateway.router.catalogue import Catalogue
from gateway.router.changes import Changes
from gateway.router.checking import Checking
from gateway.router.explain import Explaining
from gateway.router.inbox_tokens import InboxTokens
from gateway.router.links import Links
from gateway.router.live_inboxes import LiveInboxes
from gateway.router.people import People
from gateway.router.preferences import Preferences
from gateway.router.status import Reports
from gateway.router.webhooks import Webhooks
from gateway.storage.contract import Store


class Log(Protocol):
    """What the API asks of a structlog logger."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Note what only a developer wants to see."""
        ...

    def info(self, event: str, **fields: Any) -> Any:
        """Note what an operator may want to see."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """Note what somebody must look at."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The API's collaborators. `clock` gives Unix milliseconds."""

    settings: Settings
    store: Store
    authentication: Authentication
    accepting: Accepting
    explaining: Explaining
    changes: Changes
    attending: Attending
    checking: Checking
    people: People
    preferences: Preferences
    renderer: Renderer
    catalogue: Catalogue
    metrics: Metrics
    limiter: KeyLimiter
    captured_hub: CapturedHub
    reports: Reports
    links: Links
    webhooks: Webhooks
    inbox_tokens: InboxTokens
    live_inboxes: LiveInboxes
    clock: Callable[[], int]
    ids: IdSource
    log: Log
    ready: Callable[[], Awaitable[str | None]]
    """What keeps the gateway from working (database, migrations, dispatcher), or `None`."""
    scrape: Callable[[], Awaitable[tuple[bytes, str]]]
    """Every figure in Prometheus' text format, and its media type; those of sibling processes too."""
    bodies: Bodies = BUILT_IN
    """The shapes of a send, with the keys of channels from elsewhere."""
