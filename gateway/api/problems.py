"""Turns problems into RFC 9457 answers.

Owns the problem document and its headers. The table of types is `gateway.errors`; whoever finds a fault raises.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.api.exchange import Header, Reply
from gateway.errors import UNAUTHORIZED, Fault, Problem

PROBLEM_TYPE: Final = b"application/problem+json"
_CHALLENGE: Final[Header] = (b"www-authenticate", b'Bearer realm="gateway"')


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `type` and the codes in `errors` are promised; the sentences are for people."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    retryable: bool
    errors: list[Fault]


_ENCODER: Final = msgspec.json.Encoder()


def problem_answer(problem: Problem, request_id: str) -> ProblemAnswer:
    """Write a problem as the document callers see."""
    return ProblemAnswer(
        type=f"/errors/{problem.type.slug}",
        title=problem.type.title,
        status=problem.type.status,
        detail=problem.detail,
        request_id=request_id,
        retryable=problem.type.retryable,
        errors=list(problem.faults),
    )


def problem_reply(problem: Problem, request_id: str, *headers: Header) -> Reply:
    """Write the whole answer: document, status, `Retry-After`, and the challenge of a 401."""
    if problem.retry_after_s is not None:
        headers = (*headers, (b"retry-after", str(problem.retry_after_s).encode()))
    if problem.type is UNAUTHORIZED:
        headers = (*headers, _CHALLENGE)
    return Reply(
        status=problem.type.status,
        body=_ENCODER.encode(problem_answer(problem, request_id)),
        headers=headers,
        media_type=PROBLEM_TYPE,
    )
