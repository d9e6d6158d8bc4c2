"""An operation of the API: what it takes, who may call it, what it answers; and the one way a request goes through it.

Owns the order: key, rate, scope, query, body, act. Everything `gateway.api.document` writes into the OpenAPI document
is read from the same `Operation`, so the two cannot disagree. Refuses to know any single route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

import msgspec

from gateway.api.authentication import Known, require
from gateway.api.context import ApiContext
from gateway.api.exchange import (
    AsgiApp,
    Call,
    Exchange,
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    Stream,
    send_reply,
    send_stream,
)
from gateway.api.problems import problem_reply
from gateway.api.reading import BodyBudget, ClientGone, Query, QueryReader, check_media_type, decode_body, read_body
from gateway.api.visitors import allowing, preflight, visitor
from gateway.config.settings import Rate
from gateway.errors import (
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    RATE_LIMITED,
    UNAVAILABLE,
    Problem,
    ProblemType,
    not_found,
)
from gateway.middleware.rate_limit import Allowance
from gateway.model import ids, states
from gateway.model.states import Mode
from gateway.router.caller import Caller
from gateway.storage.contract import StoreUnavailable

Act = Callable[[ApiContext, Call[Any, Any]], Awaitable[Reply | Stream]]

EXCHANGE: Final = "gateway.exchange"
"""The key under which the edge leaves the `Exchange` in the ASGI scope."""
_STORE_RETRY_S: Final = 2
_NO_PARAMETERS: Final[Mapping[str, str]] = {}
_NOBODY: Final = Caller(
    key_id=UUID(int=0),
    name="nobody",
    project="",
    mode=Mode.TEST,
    scopes=frozenset(),
)


class NoQuery(Query, frozen=True, kw_only=True):
    """No query parameters: any is refused."""


class BodyRule(msgspec.Struct, frozen=True, kw_only=True):
    """What body an operation takes. `attachments` gives it the larger limit."""

    type: Any
    shown: Any = None
    """The type to document, where decoding goes in two steps."""
    required: bool = True
    default: Any = None
    attachments: bool = False
    examples: Mapping[str, Any] = {}
    headers: tuple[str, ...] = ()
    """Request headers it reads, by the names `gateway.api.document` describes."""


class AnswerRule(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation answers when all goes well."""

    type: Any
    status: int = 200
    created: bool = False
    """It may answer 201 instead, with the same body, when it made something new."""
    description: str = "Done."
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `scopes`: any of them is enough; `open` needs no key at all."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    act: Act
    scopes: tuple[states.Scope, ...] = ()
    open: bool = False
    untouched: bool = False
    """Body and query are handed over as they came, whatever they are: for callbacks, whose bytes are signed."""
    personal: bool = False
    """An inbox token of the person in the path (`user_id`) is let in, too; pages of `[inbox] origins` may read it."""
    query: type[Query] = NoQuery
    body: BodyRule | None = None
    answer: AnswerRule
    problems: tuple[ProblemType, ...] = ()
    """Besides those that follow from the rest (key, scope, body, query, ids in the path)."""


class _Runner:
    """An operation with its decoders, made once."""

    def __init__(self, operation: Operation, context: ApiContext, budget: BodyBudget) -> None:
        limits = context.settings.limits
        self.operation = operation
        self.budget = budget
        self.query = QueryReader(operation.query)
        self.no_query = operation.query()
        self.decoder = None if operation.body is None else msgspec.json.Decoder(operation.body.type)
        large = operation.body is not None and operation.body.attachments
        self.body_limit = limits.attachment_body_bytes if large else limits.body_bytes

    async def run(self, context: ApiContext, scope: Scope, receive: Receive, exchange: Exchange) -> Reply | Stream:
        """Take one request through every check and act on it; raises `Problem`."""
        operation = self.operation
        headers = dict(scope["headers"])
        caller = _NOBODY
        if not operation.open:
            caller = await self._caller(context, scope, exchange, headers)
        query_string: bytes = scope["query_string"]
        if operation.untouched:
            raw = await read_body(receive, headers, self.body_limit, self.budget, line=exchange.line)
            try:
                return await self._act(context, scope, exchange, caller, self.no_query, None, raw, headers)
            finally:
                self.budget.done(raw)
        query = self.query.read(query_string) if query_string else self.no_query
        if operation.body is None or self.decoder is None:
            return await self._act(context, scope, exchange, caller, query, None, b"", headers)
        raw = await read_body(receive, headers, self.body_limit, self.budget, line=exchange.line)
        try:
            body = self._body(operation.body, raw, headers, self.decoder)
            return await self._act(context, scope, exchange, caller, query, body, raw, headers)
        finally:
            self.budget.done(raw)

    async def _caller(
        self, context: ApiContext, scope: Scope, exchange: Exchange, headers: Mapping[bytes, bytes]
    ) -> Caller:
        """Find out who calls and whether they may; raises the 401, 403 and 429."""
        now = context.clock()
        authorization = headers.get(b"authorization")
        known = None
        if self.operation.personal:
            user_id = _path_parameters(scope)["user_id"]
            known = visitor(context.inbox_tokens, context.settings.inbox.rate, authorization, user_id, now)
        visits = known is not None
        known = known or await context.authentication.known(authorization, now)
        exchange.caller = known.caller.name
        _pay(context, known, now)
        if not visits:
            require(known.caller, self.operation.scopes)
        return known.caller

    def _act(
        self,
        context: ApiContext,
        scope: Scope,
        exchange: Exchange,
        caller: Caller,
        query: Query,
        body: Any,
        raw: bytes,
        headers: Mapping[bytes, bytes],
    ) -> Awaitable[Reply | Stream]:
        call = Call(
            request_id=exchange.request_id,
            caller=caller,
            path=_path_parameters(scope),
            query=query,
            body=body,
            raw=raw,
            headers=headers,
            query_string=scope["query_string"].decode("latin-1"),
        )
        return self.operation.act(context, call)

    def _body(
        self,
        rule: BodyRule,
        raw: bytes,
        headers: Mapping[bytes, bytes],
        decoder: msgspec.json.Decoder[Any],
    ) -> Any:
        if not raw and not rule.required:
            return rule.default
        check_media_type(headers)
        return decode_body(raw, decoder, rule.type, whole=rule.shown is None)


def endpoint(operations: Mapping[str, Operation], context: ApiContext, budget: BodyBudget) -> AsgiApp:
    """Make the ASGI endpoint of one path from its operations by method."""
    runners = {method: _Runner(operation, context, budget) for method, operation in operations.items()}
    if "GET" in runners:
        runners["HEAD"] = runners["GET"]
    route = next(iter(operations.values())).path
    allow: Header = (b"allow", ", ".join(sorted(runners)).encode())
    personal = any(operation.personal for operation in operations.values())
    origins = frozenset(context.settings.inbox.origins if personal else ())

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = route
        method: str = scope["method"]
        runner = runners.get(method)
        reply: Reply | Stream | None = None
        try:
            if runner is None and method == "OPTIONS":
                reply = preflight(origins, dict(scope["headers"]), runners)
            if reply is not None:
                pass
            elif runner is None:
                reply = problem_reply(_no_such_method(method, route), exchange.request_id, allow)
            else:
                reply = await runner.run(context, scope, receive, exchange)
        except ClientGone:
            exchange.status = 499
            return
        except Exception as error:  # noqa: BLE001 # the border: every fault becomes a problem document
            reply = _failed(error, context, exchange)
        if origins:
            reply = msgspec.structs.replace(reply, headers=(*reply.headers, *allowing(origins, scope["headers"])))
        if isinstance(reply, Stream):
            await send_stream(send, receive, exchange, reply, head=method == "HEAD")
        else:
            await send_reply(send, exchange, reply, head=method == "HEAD")

    return answer


def path_id(call: Call[Any, Any], name: str, prefix: str, what: str) -> UUID:
    """Read an id from the path; raises the 404 for anything that cannot be one."""
    text = call.path[name]
    value = ids.read(prefix, text)
    if value is None:
        raise not_found(what, text[:64])
    return value


def _failed(error: Exception, context: ApiContext, exchange: Exchange) -> Reply:
    """Turn what was raised into its problem document."""
    match error:
        case Problem():
            problem = error
        case StoreUnavailable():
            context.log.error("store_unavailable", request_id=exchange.request_id, detail=str(error))
            detail = "The database cannot be reached or written now; nothing of this request was kept."
            problem = Problem(UNAVAILABLE, detail, retry_after_s=_STORE_RETRY_S)
        case _:
            context.log.error("request_failed", request_id=exchange.request_id, route=exchange.route, exc_info=error)
            problem = Problem(INTERNAL, "This was not expected; the log has the details under the request_id.")
    extra: tuple[Header, ...] = problem.headers if isinstance(problem, _Limited) else ()
    return problem_reply(problem, exchange.request_id, *extra)


def _no_such_method(method: str, route: str) -> Problem:
    return Problem(METHOD_NOT_ALLOWED, f"{route} does not answer {method[:20]}.")


def no_such_path() -> Problem:
    """Make the 404 for a path that is no route."""
    return Problem(NOT_FOUND, "There is nothing at this path; /schema lists what there is.")


class _Limited(Problem):
    """A 429 with the headers of the IETF draft on rate limits."""

    def __init__(self, rate: Rate, allowance: Allowance) -> None:
        super().__init__(RATE_LIMITED, f"This key may send {rate} requests.")
        self.headers: tuple[Header, ...] = tuple(
            (name.lower().encode(), value.encode()) for name, value in allowance.headers().items()
        )


def _pay(context: ApiContext, known: Known, now: int) -> None:
    """Count the request against its key's rate; raises the 429."""
    allowance = context.limiter.allow(known.caller.key_id, known.rate, now)
    if not allowance.ok:
        raise _Limited(known.rate, allowance)


def _path_parameters(scope: Scope) -> Mapping[str, str]:
    """Give the parameters of the path; `address` is read from the raw path, where `//` and `%2F` are still apart.

    The edge routes by the raw path, so that each of the others is one segment, whatever is escaped in it.
    """
    if not scope["path_params"]:
        return _NO_PARAMETERS
    found: Mapping[str, str] = {
        name: unquote(value) if "%" in value else value for name, value in scope["path_params"].items()
    }
    if "address" in found:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        found = {**found, "address": unquote(raw.split(b"?", 1)[0].split(b"/", 4)[4].decode("ascii", "replace"))}
    return found
