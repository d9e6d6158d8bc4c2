"""Every error the API can answer with: one table of types, one table of codes.

Owns the promise of `API.md` about problem types and codes. Knows nothing of HTTP frameworks: `gateway.api.problems`
turns a `Problem` into an answer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class GatewayError(Exception):
    """The one base class of the gateway's own exceptions."""


class Code(StrEnum):
    """What is wrong with one field."""

    REQUIRED = "required"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    INVALID = "invalid"
    TOO_LONG = "too_long"
    TOO_SHORT = "too_short"
    TOO_MANY = "too_many"
    OUT_OF_RANGE = "out_of_range"
    NOT_ALLOWED = "not_allowed"
    UNKNOWN_TEMPLATE = "unknown_template"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_USER = "unknown_user"
    MISSING_VARIABLE = "missing_variable"
    UNDECLARED_VARIABLE = "undeclared_variable"
    TEMPLATE_ERROR = "template_error"
    EXCLUSIVE = "exclusive"
    HEADER_INJECTION = "header_injection"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    NOT_RETRYABLE = "not_retryable"
    IN_FLIGHT = "in_flight"


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with one field; `field` is a path such as `to[0].email`, empty for the whole body."""

    field: str
    code: Code
    message: str


class ProblemType(msgspec.Struct, frozen=True):
    """A row of the table: the slug, its status, its title and whether the same request may succeed later."""

    slug: str
    status: int
    title: str
    retryable: bool = False


MALFORMED: Final = ProblemType("malformed", 400, "The request cannot be read")
UNAUTHORIZED: Final = ProblemType("unauthorized", 401, "A valid API key is needed")
FORBIDDEN: Final = ProblemType("forbidden", 403, "This key may not do that")
NOT_FOUND: Final = ProblemType("not-found", 404, "There is no such thing")
NOTHING_CAPTURED: Final = ProblemType("nothing-captured", 404, "No such message was captured in time", retryable=True)
METHOD_NOT_ALLOWED: Final = ProblemType("method-not-allowed", 405, "This path has no such method")
CONFLICT: Final = ProblemType("conflict", 409, "The state of the thing does not allow that")
TOO_LARGE: Final = ProblemType("too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE: Final = ProblemType("unsupported-media-type", 415, "The body must be JSON")
VALIDATION: Final = ProblemType("validation", 422, "The request breaks the contract")
IDEMPOTENCY_KEY_REUSED: Final = ProblemType(
    "idempotency-key-reused",
    422,
    "This idempotency key was used with another body",
)
RATE_LIMITED: Final = ProblemType("rate-limited", 429, "Too many requests", retryable=True)
INTERNAL: Final = ProblemType("internal", 500, "Something went wrong on our side", retryable=True)
UNAVAILABLE: Final = ProblemType("unavailable", 503, "The gateway cannot take this now", retryable=True)

PROBLEM_TYPES: Final = (
    MALFORMED,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    NOTHING_CAPTURED,
    METHOD_NOT_ALLOWED,
    CONFLICT,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    VALIDATION,
    IDEMPOTENCY_KEY_REUSED,
    RATE_LIMITED,
    INTERNAL,
    UNAVAILABLE,
)


class Problem(GatewayError):
    """A request that gets an error answer: raise it anywhere below the API.

    `faults` lists all that is wrong at once; `retry_after_s` becomes the `Retry-After` header.
    """

    def __init__(
        self,
        type_: ProblemType,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = type_
        self.detail = detail
        self.faults = faults
        self.retry_after_s = retry_after_s


def invalid(faults: list[Fault]) -> Problem:
    """Make the 422 that lists every fault."""
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    where = f"{first.field}: " if first.field else ""
    return Problem(VALIDATION, f"{where}{first.message}{more}", faults=tuple(faults))


def not_found(what: str, id_: str) -> Problem:
    """Make the 404 for an id in a path."""
    return Problem(NOT_FOUND, f"There is no {what} {id_!r} here.")
