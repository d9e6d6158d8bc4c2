"""What our own handling of a send costs, against a bare Litestar endpoint that answers 202: no socket, no store.

Both answer the same request through ASGI in this process; ours decodes it, knows its key, counts its rate and asks an
`Accepting` that answers at once.
"""

from __future__ import annotations

import time
from typing import Any

import uvloop
from litestar import Litestar, post

from gateway.api.app import create_app
from gateway.api.authentication import Authentication
from gateway.api.captured_hub import CapturedHub
from gateway.api.context import ApiContext
from gateway.config.settings import LimitSettings, Rate, Secret, Settings
from gateway.middleware.rate_limit import KeyLimiter
from gateway.model.ids import IdSource
from gateway.observe.logging import get_logger
from gateway.observe.metrics import Metrics
from gateway.router.accept import Answered

KEY = "k" * 40
BODY = b'{"to":{"email":"ada@example.com"},"content":{"title":"Hello","body":"It works."},"reference":"order-1842"}'
ANSWER = b'{"id":"ntf_' + b"0" * 32 + b'","status":"processing","deliveries":[]}'


class _Instantly:
    """Accepts at once: what is left is the API's own work."""

    async def send(self, *_: Any, **__: Any) -> Answered:
        return Answered(body=ANSWER)


@post("/v1/notifications", status_code=202)
async def bare() -> dict[str, str]:
    return {"id": "ntf_" + "0" * 32, "status": "processing"}


def _ours() -> Any:
    unused: Any = None
    settings = Settings(bootstrap_key=Secret(KEY), limits=LimitSettings(live=Rate(1_000_000, 1)))
    return create_app(
        ApiContext(
            settings=settings,
            store=unused,
            authentication=Authentication(unused, settings.limits, settings.bootstrap_key),
            accepting=_Instantly(),  # type: ignore[arg-type] # a stand-in for our own seam
            explaining=unused,
            changes=unused,
            attending=unused,
            checking=unused,
            people=unused,
            preferences=unused,
            renderer=unused,
            catalogue=unused,
            metrics=Metrics(),
            limiter=KeyLimiter(),
            captured_hub=CapturedHub(),
            reports=unused,
            webhooks=unused,
            inbox_tokens=unused,
            live_inboxes=unused,
            links=unused,
            clock=lambda: time.time_ns() // 1_000_000,
            ids=IdSource(),
            log=get_logger("bench"),
            ready=unused,
            scrape=unused,
        ),
    )


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": "/v1/notifications",
        "raw_path": b"/v1/notifications",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"user-agent", b"bench"),
            (b"accept", b"*/*"),
            (b"authorization", b"Bearer " + KEY.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(BODY)).encode()),
        ],
        "state": {},
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def _time(app: Any, count: int) -> float:
    """Time one request, in µs."""
    statuses: set[int] = set()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    for _ in range(count // 10):
        await app(_scope(), _receive, send)
    started = time.perf_counter()
    for _ in range(count):
        await app(_scope(), _receive, send)
    took = time.perf_counter() - started
    assert statuses == {202}, statuses
    return took / count * 1e6


def run(*, count: int = 20_000) -> dict[str, float]:
    """Measure both, in turns; answers µs per request (the best of three)."""
    ours, theirs = _ours(), Litestar([bare], openapi_config=None, logging_config=None)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(3):
        times["bare"].append(uvloop.run(_time(theirs, count)))
        times["ours"].append(uvloop.run(_time(ours, count)))
    return {
        "api_us": round(min(times["ours"]), 1),
        "bare_us": round(min(times["bare"]), 1),
        "ratio": round(min(times["ours"]) / min(times["bare"]), 2),
    }


if __name__ == "__main__":
    print(run())
