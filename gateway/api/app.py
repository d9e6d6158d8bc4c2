"""The API as an ASGI application: every operation under its path, inside the edge.

Litestar routes; what happens at a route is `gateway.api.operation`'s. The application starts and stops nothing: its
collaborators come ready in the context, and whoever built them ends them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, cast

from litestar import Litestar, Request, Response, asgi
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp

from gateway.api import (
    callbacks,
    captured,
    deliveries,
    figures,
    inbox,
    inbox_events,
    keys,
    notifications,
    personal,
    preferences,
    preferences_page,
    providers,
    running,
    suppressions,
    template_edits,
    templates,
    topics,
    unsubscribe,
    users,
    webhooks,
)
from gateway.api.context import ApiContext
from gateway.api.document import write_document
from gateway.api.edge import Edge
from gateway.api.exchange import AsgiApp, Exchange, Scope, headers_of
from gateway.api.operation import EXCHANGE, Operation, endpoint, no_such_path
from gateway.api.pages import document_operation, page_operations
from gateway.api.people_pages import Pages
from gateway.api.problems import problem_reply
from gateway.api.reading import BodyBudget
from gateway.errors import INTERNAL, Problem
from gateway.model.bodies import BUILT_IN, Bodies

_PARAMETER: Final = re.compile(r"{(\w+)}")
_BODIES_BYTES: Final = 134_217_728
"""What all large bodies may hold together: eight of the largest, or a hundred and more of a megabyte."""


def operations(bodies: Bodies = BUILT_IN) -> tuple[Operation, ...]:
    """List every operation of the API, in the order of the document."""
    listed = (
        *notifications.operations(bodies),
        *deliveries.OPERATIONS,
        *captured.operations(),
        *callbacks.OPERATIONS,
        *templates.OPERATIONS,
        *template_edits.OPERATIONS,
        *users.OPERATIONS,
        *preferences.OPERATIONS,
        *personal.OPERATIONS,
        *inbox.OPERATIONS,
        *inbox_events.OPERATIONS,
        *topics.OPERATIONS,
        *suppressions.OPERATIONS,
        *keys.OPERATIONS,
        *webhooks.OPERATIONS,
        *figures.OPERATIONS,
        *providers.OPERATIONS,
        *running.OPERATIONS,
    )

    @cache
    def document() -> bytes:
        return write_document((*listed, shown))

    shown = document_operation(document)
    return (*listed, shown)


def create_app(context: ApiContext) -> AsgiApp:
    """Build the application around its collaborators."""
    by_path: dict[str, dict[str, Operation]] = {}
    people = Pages()
    for operation in (
        *operations(context.bodies),
        *page_operations(),
        *unsubscribe.page_operations(people),
        *preferences_page.page_operations(people),
    ):
        by_path.setdefault(operation.path, {})[operation.method] = operation
    budget = BodyBudget(max(_BODIES_BYTES, 4 * context.settings.limits.attachment_body_bytes))
    endpoints = {path: endpoint(methods, context, budget) for path, methods in by_path.items()}
    routes = Litestar(
        [_handler(path, answer) for path, answer in endpoints.items()],
        openapi_config=None,
        logging_config=None,
        exception_handlers={HTTPException: _unmatched, Exception: _broken},
    )
    fixed = {path: answer for path, answer in endpoints.items() if "{" not in path}
    return Edge(cast("AsgiApp", routes), fixed, context)


def _handler(path: str, answer: AsgiApp) -> HTTPRouteHandler | ASGIRouteHandler:
    """Make Litestar's handler of one path; the endpoint knows its methods, and answers for those it has not.

    A path without parameters is handed to the endpoint as it is; one with parameters cannot be (2.25 fails with a
    KeyError when it looks for the method). Without a detour it comes here only in another spelling, as with a slash
    at its end: the edge knows such paths itself.
    """
    if "{" not in path:
        return asgi(path, copy_scope=False)(cast("Any", answer))

    async def handle() -> ASGIApp:
        return cast("ASGIApp", answer)

    return HTTPRouteHandler(_litestar_path(path), http_method=list(HttpMethod), media_type="application/json")(handle)


def _litestar_path(path: str) -> str:
    """Name the parameters' types; an address may hold slashes, so it takes the rest of the path."""
    return _PARAMETER.sub(lambda found: f"{{{found[1]}:{'path' if found[1] == 'address' else 'str'}}}", path)


def _unmatched(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what Litestar itself refuses: a path that is no route, a method that HTTP does not have."""
    known = error.status_code < INTERNAL.status
    return _response(request, no_such_path() if known else Problem(INTERNAL, "This was not expected."))


def _broken(request: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
    return _response(request, Problem(INTERNAL, "This was not expected."))


def _response(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    exchange: Exchange = cast("Scope", request.scope)[EXCHANGE]
    reply = problem_reply(problem, exchange.request_id)
    exchange.status = reply.status
    headers = {name.decode(): value.decode() for name, value in headers_of(reply, exchange.request_id)}
    body = b"" if request.method == "HEAD" else reply.body
    return Response(body, status_code=reply.status, headers=headers, media_type=reply.media_type.decode())
