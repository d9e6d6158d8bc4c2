"""The real gateway behind the real API, on a temporary SQLite, called in this process or over a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.app import create_app
from gateway.api.authentication import Authentication
from gateway.api.context import ApiContext
from gateway.api.exchange import AsgiApp
from gateway.bootstrap import Gateway, open_gateway, working
from gateway.config.settings import LimitSettings, Secret, Settings
from gateway.middleware.rate_limit import KeyLimiter

ADMIN = "bootstrap-key-of-more-than-32-characters"


@dataclass
class Api:
    """A gateway and its API. `client()` speaks as the bootstrap key, `client(None)` as nobody."""

    gateway: Gateway
    context: ApiContext
    app: AsgiApp
    clients: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    trouble: list[str] = field(default_factory=list)

    def client(self, key: str | None = ADMIN) -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type] # httpx has its own words for ASGI
        client = httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)
        self.clients.push_async_callback(client.aclose)
        return client

    def with_context(self, **changes: Any) -> Api:
        """Make the same API with other collaborators."""
        context = replace(self.context, **changes)
        return Api(gateway=self.gateway, context=context, app=create_app(context), clients=self.clients)

    async def key(self, *scopes: str, mode: str = "live", project: str = "default", **more: Any) -> str:
        """Make a key through the API."""
        body = {"name": "test", "mode": mode, "scopes": list(scopes), "project": project, **more}
        answer = await self.client().post("/v1/keys", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]


@contextlib.asynccontextmanager
async def open_api(folder: Path, limits: LimitSettings | None = None) -> AsyncIterator[Api]:
    """Open a gateway in `folder`. Nothing dispatches: what is accepted stays waiting."""
    settings = Settings(
        database=Secret(f"sqlite:///{folder}/gateway.db"),
        bootstrap_key=Secret(ADMIN),
        limits=limits or LimitSettings(),
    )
    async with open_gateway(settings) as gateway:
        trouble: list[str] = []

        async def ready() -> str | None:
            return trouble[0] if trouble else await gateway.store.ready()

        async def scrape() -> tuple[bytes, str]:
            return gateway.metrics.render()

        context = ApiContext(
            settings=settings,
            store=gateway.store,
            authentication=Authentication(gateway.store, settings.limits, settings.bootstrap_key),
            accepting=gateway.accepting,
            explaining=gateway.explaining,
            changes=gateway.changes,
            attending=gateway.attending,
            checking=gateway.checking,
            people=gateway.people,
            preferences=gateway.preferences,
            renderer=gateway.renderer,
            catalogue=gateway.catalogue,
            metrics=gateway.metrics,
            limiter=KeyLimiter(),
            captured_hub=gateway.hub,
            links=gateway.links,
            webhooks=gateway.webhooks,
            inbox_tokens=gateway.inbox_tokens,
            live_inboxes=gateway.live_inboxes,
            reports=gateway.reports,
            clock=gateway.clock,
            ids=gateway.id_source,
            log=gateway.log,
            ready=ready,
            scrape=scrape,
        )
        api = Api(gateway=gateway, context=context, app=create_app(context), trouble=trouble)
        async with api.clients:
            yield api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path) as opened:
        yield opened


@pytest.fixture
async def working_api(tmp_path: Path) -> AsyncIterator[Api]:
    """The same, with a dispatcher at work: in development every message is captured."""
    async with open_api(tmp_path) as opened, working(opened.gateway, work=True):
        yield opened


@pytest.fixture
def email() -> Callable[..., dict[str, Any]]:
    """Make the body of a small e-mail."""

    def make(to: str = "ada@example.com", **more: Any) -> dict[str, Any]:
        return {"to": {"email": to}, "content": {"title": "Hello", "body": "It works."}, **more}

    return make
