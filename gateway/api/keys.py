"""`/v1/keys`: make, list, revoke. A key itself is shown once, in the answer that makes it; stored is its hash."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, listed, unix_ms
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation, path_id
from gateway.config.settings import Rate
from gateway.errors import Code, Fault, invalid, not_found
from gateway.model import ids
from gateway.model.keys import hash_key, hint, make_key
from gateway.model.requests import Request
from gateway.model.states import Mode, Scope
from gateway.router.answers import Answer, Listing, maybe_utc, utc
from gateway.storage.contract import KeyRow

_TAG: Final = "API keys"
_CREATED: Final = 201
_LISTING: Final = "keys"


class KeyRequest(Request, frozen=True, kw_only=True):
    """A key to make. `rate` (such as `100/s`) is its own limit instead of its mode's."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    mode: Mode
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4)]
    project: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,63}$")] = "default"
    rate: Annotated[str, Meta(max_length=20)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class KeyAnswer(Answer, frozen=True, kw_only=True):
    """A key, without the key: `hint` is its end. `key` is there only in the answer that made it."""

    id: str
    name: str
    project: str
    mode: Mode
    scopes: list[Scope]
    hint: str
    rate: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    key: str | UnsetType = UNSET


class RevokedAnswer(Answer, frozen=True, kw_only=True):
    """The key works no more: here at once, in other processes within five seconds."""

    id: str
    revoked: bool


async def create_key(context: ApiContext, call: Call[NoQuery, KeyRequest]) -> Reply:
    """Make one."""
    body, now = call.body, context.clock()
    expires_at = unix_ms(body.expires_at)
    faults: list[Fault] = []
    if expires_at is not None and expires_at <= now:
        faults.append(Fault("expires_at", Code.OUT_OF_RANGE, "Must be in the future."))
    if body.rate is not None:
        try:
            Rate.parse(body.rate)
        except ValueError as error:
            faults.append(Fault("rate", Code.INVALID, str(error)))
    if faults:
        raise invalid(faults)
    key = make_key(body.mode, secrets.token_bytes)
    row = KeyRow(
        id=context.ids.new(now),
        name=body.name,
        project=body.project,
        mode=body.mode,
        scopes=tuple(dict.fromkeys(body.scopes)),
        hash=hash_key(key),
        hint=hint(key),
        rate=body.rate,
        created_at=now,
        expires_at=expires_at,
    )
    await context.store.add_key(row)
    return json_reply(msgspec.structs.replace(_shown(row), key=key), _CREATED)


async def list_keys(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List all keys, newest first, revoked ones too."""
    rows = await context.store.keys(None)
    if not isinstance(call.query.cursor, UnsetType):
        behind = cursors.read(_LISTING, call.query.cursor)
        rows = [row for row in rows if row.id.bytes < behind]
    return json_reply(listed(_LISTING, call.query, rows, _shown, lambda row: row.id.bytes))


async def revoke_key(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Revoke one. Repeatable."""
    id_ = path_id(call, "id", ids.KEY, "key")
    if not await context.store.revoke_key(id_, context.clock()):
        raise not_found("key", call.path["id"])
    context.authentication.forget()
    return json_reply(RevokedAnswer(id=ids.show(ids.KEY, id_), revoked=True))


def _shown(row: KeyRow) -> KeyAnswer:
    return KeyAnswer(
        id=ids.show(ids.KEY, row.id),
        name=row.name,
        project=row.project,
        mode=row.mode,
        scopes=list(row.scopes),
        hint=row.hint,
        rate=row.rate,
        created_at=utc(row.created_at),
        expires_at=maybe_utc(row.expires_at),
        revoked_at=maybe_utc(row.revoked_at),
        last_used_at=maybe_utc(row.last_used_at),
    )


OPERATIONS: Final = (
    Operation(
        id="createKey",
        method="POST",
        path="/v1/keys",
        tag=_TAG,
        summary="Make an API key",
        description="The key itself is in this answer and nowhere else.",
        act=create_key,
        scopes=(Scope.ADMIN,),
        body=BodyRule(
            type=KeyRequest,
            examples={"shop": {"name": "shop", "mode": "live", "scopes": ["send", "read"], "project": "shop"}},
        ),
        answer=AnswerRule(type=KeyAnswer, status=_CREATED, description="The key, shown once."),
    ),
    Operation(
        id="listKeys",
        method="GET",
        path="/v1/keys",
        tag=_TAG,
        summary="List the API keys, newest first",
        act=list_keys,
        scopes=(Scope.ADMIN,),
        query=ListQuery,
        answer=AnswerRule(type=Listing[KeyAnswer], description="A page."),
    ),
    Operation(
        id="revokeKey",
        method="DELETE",
        path="/v1/keys/{id}",
        tag=_TAG,
        summary="Revoke an API key",
        act=revoke_key,
        scopes=(Scope.ADMIN,),
        answer=AnswerRule(type=RevokedAnswer, description="It works no more."),
    ),
)
