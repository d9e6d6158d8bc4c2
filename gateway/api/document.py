"""Writes the OpenAPI 3.1 document from the operations the gateway runs.

Owns the document's form and the words that several operations share. Schemas are msgspec's own view of the very types
that decode requests and encode answers, so document and code cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

import gateway
from gateway.api.operation import NoQuery, Operation
from gateway.api.problems import ProblemAnswer
from gateway.errors import (
    FORBIDDEN,
    INTERNAL,
    MALFORMED,
    NOT_FOUND,
    RATE_LIMITED,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    ProblemType,
)

_REF: Final = "#/components/schemas/{name}"
_GENERIC: Final = re.compile(r"Listing_(\w+?)_(?=\W|$)")
_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")

_ABOUT: Final = """One request in, the right message to the right person out.

Authenticate with `Authorization: Bearer KEY`. Every error is an RFC 9457 problem document that lists all faults
at once; its `type` and the codes in `errors` are promised. Lists take `limit` and `cursor` and answer `items` and
`next_cursor`; go on until that is null, as a page whose filters match next to nothing may be short, or empty, before.
"""

_PREFIXES: Final = (
    ("/v1/notifications/", "ntf"),
    ("/v1/deliveries/", "dlv"),
    ("/v1/captured/", "cap"),
    ("/v1/keys/", "key"),
    ("/v1/users/{user_id}/inbox/", "inb"),
    ("/v1/users/", "adr"),
    ("/v1/webhooks/", "whk"),
)
_PATH_WORDS: Final = {
    "key": ("The template's key.", "welcome"),
    "name": ("The provider's name, as configured.", "smtp-main"),
    "channel": ("The channel's name.", "email"),
    "provider": ("The configured provider's name.", "smtp-main"),
    "topic": ("The topic's name, percent-encoded.", "release-notes"),
    "user_id": ("The user's id, percent-encoded.", "42"),
    "address": ("The address, percent-encoded.", "ada@example.com"),
}
_REQUEST_HEADERS: Final = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "Makes the request repeatable: the same key with the same body gives the first answer again, for 24 hours."
        ),
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
}
_REQUEST_ID: Final = {
    "description": "The request's id: the caller's own `X-Request-Id`, if it was sent.",
    "schema": {"type": "string", "maxLength": 128},
}
_ANSWER_HEADERS: Final = {
    "Idempotency-Replayed": {
        "description": "Present, and `true`, when this is the first answer given again.",
        "schema": {"type": "string", "const": "true"},
    },
}
_RETRY_AFTER: Final = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}
_LIMIT_HEADERS: Final = {
    "Retry-After": _RETRY_AFTER,
    "RateLimit": {"description": "What is left, and until when.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The key's quota and its window.", "schema": {"type": "string"}},
}
_PROBLEM_HEADERS: Final = {
    RATE_LIMITED.status: _LIMIT_HEADERS,
    UNAVAILABLE.status: {"Retry-After": _RETRY_AFTER},
    UNAUTHORIZED.status: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
}


def write_document(operations: Sequence[Operation]) -> bytes:
    """Write the document, as JSON."""
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas, components)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Notification gateway",
            "version": gateway.__version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if not name.endswith("Query")},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key with the scope asked for."},
                "inbox_token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A short-lived token for one person's inbox, from the operation `mintInboxToken`.",
                },
            },
        },
    }
    return _GENERIC.sub(r"\1List", msgspec.json.encode(document).decode()).encode()


def _schemas(operations: Sequence[Operation]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Collect the schema of every type the operations name."""
    types: dict[Any, None] = {ProblemAnswer: None}
    for operation in operations:
        types[operation.answer.type] = None
        types[operation.query] = None
        if operation.body is not None:
            types[operation.body.shown or operation.body.type] = None
    found, components = msgspec.json.schema_components(list(types), ref_template=_REF)
    return dict(zip(types, found, strict=True)), components


def _operation(
    operation: Operation,
    schemas: dict[Any, dict[str, Any]],
    components: dict[str, Any],
) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": _description(operation),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, components), *_headers(operation)],
        "responses": _responses(operation, schemas),
    }
    if not operation.open:
        written["security"] = [{"key": []}, *([{"inbox_token": []}] if operation.personal else [])]
    if operation.untouched:
        anything = {"schema": {"type": "string", "format": "binary"}}
        written["requestBody"] = {"required": False, "content": {"*/*": anything}}
    if operation.body is not None:
        written["requestBody"] = {
            "required": operation.body.required,
            "content": {
                "application/json": {
                    "schema": schemas[operation.body.shown or operation.body.type],
                    "examples": {name: {"value": value} for name, value in operation.body.examples.items()},
                },
            },
        }
    return written


def _description(operation: Operation) -> str:
    if not operation.scopes:
        return operation.description
    scopes = " or ".join(f"`{scope}`" for scope in operation.scopes)
    token = ", or an inbox token of this person" if operation.personal else ""
    return f"{operation.description}\n\nNeeds the scope {scopes}{token}.".strip()


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name in _PATH_PARAMETER.findall(operation.path):
        if name == "id":
            prefix = next(prefix for start, prefix in _PREFIXES if operation.path.startswith(start))
            schema = {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"}
            yield {"name": name, "in": "path", "required": True, "description": "The id.", "schema": schema}
        else:
            words, example = _PATH_WORDS[name]
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": words,
                "schema": {"type": "string", "minLength": 1},
                "example": example,
            }


def _query_parameters(operation: Operation, components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if operation.query is NoQuery:
        return
    for name, schema in components[operation.query.__name__]["properties"].items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": False, "schema": plain}
        if "description" in schema:
            parameter["description"] = schema["description"]
        yield parameter


def _headers(operation: Operation) -> list[dict[str, Any]]:
    return [] if operation.body is None else [_REQUEST_HEADERS[name] for name in operation.body.headers]


def _responses(operation: Operation, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    answer = operation.answer
    responses: dict[str, Any] = {
        str(answer.status): {
            "description": answer.description,
            "headers": {"X-Request-Id": _REQUEST_ID} | {name: _ANSWER_HEADERS[name] for name in answer.headers},
            "content": {answer.media_type: {"schema": schemas[answer.type]}},
        },
    }
    if answer.created:
        responses["201"] = {**responses[str(answer.status)], "description": f"New. {answer.description}"}
    by_status: dict[int, list[ProblemType]] = {}
    for problem in problems_of(operation):
        by_status.setdefault(problem.status, []).append(problem)
    for status, problems in sorted(by_status.items()):
        responses[str(status)] = _problem_response(status, problems, schemas[ProblemAnswer])
    return responses


def problems_of(operation: Operation) -> list[ProblemType]:
    """List every problem an operation may answer with."""
    found = [VALIDATION, INTERNAL, UNAVAILABLE, *operation.problems]
    if not operation.open:
        found += [UNAUTHORIZED, FORBIDDEN, RATE_LIMITED]
    if operation.body is not None:
        found += [MALFORMED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE]
    if operation.untouched:
        found.append(TOO_LARGE)
    if "{" in operation.path:
        found.append(NOT_FOUND)
    return found


def _problem_response(status: int, problems: Sequence[ProblemType], schema: dict[str, Any]) -> dict[str, Any]:
    types = [f"/errors/{problem.slug}" for problem in problems]
    narrowed = {"properties": {"type": {"enum": types}, "status": {"const": status}}}
    return {
        "description": "; ".join(f"{problem.title} (`/errors/{problem.slug}`)" for problem in problems) + ".",
        "headers": {"X-Request-Id": _REQUEST_ID} | _PROBLEM_HEADERS.get(status, {}),
        "content": {"application/problem+json": {"schema": {"allOf": [schema, narrowed]}}},
    }
