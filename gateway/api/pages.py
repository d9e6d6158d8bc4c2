"""The API page at `/schema` and the OpenAPI document behind it.

Everything comes from this package: the page loads nothing from outside, runs no inline script, and may not be framed.
`static/swagger-ui` is `swagger-ui-dist` from npm, unmodified, with its licence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply
from gateway.api.operation import Act, AnswerRule, NoQuery, Operation

_STATIC: Final = Path(__file__).parent / "static"
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Inline styles are Swagger UI's own; scripts come from files only."""
_FILES: Final = {
    "/schema": ("schema/index.html", b"text/html; charset=utf-8"),
    "/schema/page.js": ("schema/page.js", b"text/javascript; charset=utf-8"),
    "/schema/page.css": ("schema/page.css", b"text/css; charset=utf-8"),
    "/people/page.css": ("people/page.css", b"text/css; charset=utf-8"),
    "/schema/swagger-ui.css": ("swagger-ui/swagger-ui.css", b"text/css; charset=utf-8"),
    "/schema/swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", b"text/javascript; charset=utf-8"),
    "/inbox/notification-inbox.js": ("inbox/notification-inbox.js", b"text/javascript; charset=utf-8"),
    "/schema/favicon-32x32.png": ("swagger-ui/favicon-32x32.png", b"image/png"),
}
_SHARED: Final = frozenset({"/inbox/notification-inbox.js"})
"""What the pages of services load from here."""
_NOT_MODIFIED: Final = 304


async def _file(
    name: str, media_type: bytes, _context: ApiContext, call: Call[NoQuery, None], *, shared: bool
) -> Reply:
    """Serve one file; browsers ask again each time and mostly get a 304."""
    body = await asyncio.to_thread((_STATIC / name).read_bytes)
    tag = b'"%b"' % blake2b(body, digest_size=12).hexdigest().encode()
    headers = ((b"etag", tag), (b"cache-control", b"no-cache"))
    if call.headers.get(b"if-none-match") == tag:
        return Reply(
            status=_NOT_MODIFIED, body=b"", headers=headers, media_type=media_type, page=_POLICY, shared=shared
        )
    return Reply(status=200, body=body, headers=headers, media_type=media_type, page=_POLICY, shared=shared)


def page_operations() -> tuple[Operation, ...]:
    """List the page and its files. They are not part of the API, so the document leaves them out."""
    return tuple(
        Operation(
            id=f"page:{path}",
            method="GET",
            path=path,
            tag="Pages",
            summary="A file of the API page",
            act=partial(_file, name, media_type, shared=path in _SHARED),
            open=True,
            answer=AnswerRule(type=Any),
        )
        for path, (name, media_type) in _FILES.items()
    )


def document_operation(document: Callable[[], bytes]) -> Operation:
    """Make the operation that serves the document, which `document` writes on first use."""
    return Operation(
        id="getOpenApi",
        method="GET",
        path="/schema/openapi.json",
        tag="Running it",
        summary="Show this document",
        act=_serve(document),
        open=True,
        answer=AnswerRule(type=dict[str, Any], description="OpenAPI 3.1."),
    )


def _serve(document: Callable[[], bytes]) -> Act:
    async def act(_context: ApiContext, _call: Call[NoQuery, None]) -> Reply:
        return Reply(status=200, body=document())

    return act
