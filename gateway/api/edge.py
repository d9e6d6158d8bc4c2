"""The outermost layer: gives every request its id, and notes what became of it.

Pure ASGI, with as little as possible in it: it runs before and after every single request. Knows no route.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from gateway.api.context import ApiContext
from gateway.api.exchange import LINE, AsgiApp, Exchange, Receive, Scope, Send
from gateway.api.operation import EXCHANGE
from gateway.config.settings import LogLevel
from gateway.model.ids import IdSource
from gateway.observe.logging import bind_request_id

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")
"""Visible ASCII: what a caller sends here ends up in our log and in headers."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What may become a label of a figure; a caller can invent any other."""
_REFUSED: Final = 400
_BROKEN: Final = 500


class Edge:
    """Wraps the routes. `fixed` are the endpoints of paths without parameters, which need no routing."""

    def __init__(self, routes: AsgiApp, fixed: Mapping[str, AsgiApp], context: ApiContext) -> None:
        self._routes = routes
        self._fixed = fixed
        self._context = context
        self._tells_all = context.settings.logging.level is LogLevel.DEBUG  # a line nobody reads costs 10 µs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of any kind."""
        if scope["type"] != "http":
            await _other(scope["type"], receive, send)
            return
        exchange = Exchange(_request_id(scope, self._context.ids), scope.get(LINE))
        scope[EXCHANGE] = exchange
        bind_request_id(exchange.request_id)
        started = time.perf_counter()
        try:
            # What is escaped in a segment (a slash in a user's id) is the segment's own, not a way through the routes.
            if b"%" in (raw_path := scope.get("raw_path") or b""):
                scope = {**scope, "path": raw_path.partition(b"?")[0].decode("ascii", "replace")}
            elif (endpoint := self._fixed.get(scope["path"])) is not None:
                scope["path_params"] = {}
                await endpoint(scope, receive, send)
                return
            # Litestar routes only methods it knows. TRACE is one of them, and nothing here answers it: the same 405.
            known = scope if scope["method"] in _METHODS else {**scope, "method": "TRACE"}
            await self._routes(known, receive, send)
        finally:
            ended = exchange.answered_at or time.perf_counter()
            self._note(exchange, scope["method"], ended - started)

    def _note(self, exchange: Exchange, method: str, took_s: float) -> None:
        self._context.metrics.request(
            exchange.route, method if method in _METHODS else "OTHER", exchange.status, took_s
        )
        if exchange.status < _REFUSED:
            if not self._tells_all:
                return
            log = self._context.log.debug
        else:
            log = self._context.log.info if exchange.status < _BROKEN else self._context.log.error
        log(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=exchange.route,
            status=exchange.status,
            took_ms=round(took_s * 1000, 1),
            caller=exchange.caller,
        )


def _request_id(scope: Scope, ids: IdSource) -> str:
    """Take the caller's own id, if it is one that may go into a log; else make one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return "req_" + ids.token()


async def _other(kind: str, receive: Receive, send: Send) -> None:
    """Answer what is no request: a websocket is refused; a lifespan starts and ends nothing."""
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        return
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
