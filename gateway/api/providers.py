"""`/v1/providers`: how the configured providers stand, and an operator's word about them. Never a secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, listed
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.errors import not_found
from gateway.model.states import Scope
from gateway.router.answers import Answer, Listing, maybe_utc, utc
from gateway.router.attending import ProviderState
from gateway.router.standing import ProviderStatus

_TAG: Final = "Running it"
_LISTING: Final = "providers"


class BreakerAnswer(Answer, frozen=True, kw_only=True):
    """Whether a provider that fails is left alone.

    `state` is `closed` (in use), `open` (left alone until `until`), `stopped` (the same, because it refuses our
    account), `half_open` (one delivery tries) or `recovering`. `detail` has the provider's words when it opened.
    """

    state: str
    until: str | None
    detail: str | None


class RateAnswer(Answer, frozen=True, kw_only=True):
    """How fast it may go, and how much of that is used now, by all processes together.

    `limit` is what was configured or published; it is kept as at most `count` within any `window_ms`. `counts` says
    what is counted: `messages`, or `calls` where one carries several.
    """

    limit: str
    counts: str
    count: int
    window_ms: int
    used: int
    next_at: str


class PlacesAnswer(Answer, frozen=True, kw_only=True):
    """How many messages may be in its hands at once, and how many are, in all `workers` together."""

    most: int
    in_use: int
    workers: int


class LastAnswer(Answer, frozen=True, kw_only=True):
    """What it answered last: `accepted`, `retry`, `rejected` or `unknown`."""

    outcome: str
    reason: str | None
    at: str | None


class ProviderAnswer(Answer, frozen=True, kw_only=True):
    """A configured provider. `use` is its adapter.

    `position` is its place in the channel's failover order, from 1; null where the channel does not name it.
    `status` says it in one word: `ok`, `recovering`, `failing`, `stopped` (mend the account, then resume) or `paused`.
    """

    name: str
    use: str
    channel: str
    position: int | None
    status: ProviderStatus
    breaker: BreakerAnswer
    rate: RateAnswer | None
    places: PlacesAnswer
    receipts: bool
    idempotent: bool
    batch: int
    callback_url: str | None
    last: LastAnswer | None
    paused_at: str | None
    paused_by: str | None


class CheckAnswer(Answer, frozen=True, kw_only=True):
    """Whether a provider's credentials are good; `ok` is null where that cannot be told without sending."""

    provider: str
    ok: bool | None
    detail: str
    took_ms: int


async def list_providers(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List them by channel, in failover order."""
    states = await context.attending.states()
    if not isinstance(call.query.cursor, UnsetType):
        seen = cursors.read(_LISTING, call.query.cursor)
        places = [place for place, one in enumerate(states, 1) if one.handle.name.encode() == seen]
        states = states[places[0] :] if places else []
    return json_reply(listed(_LISTING, call.query, states, _shower(context), lambda one: one.handle.name.encode()))


async def pause(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Pause one."""
    name = _name(context, call)
    await context.attending.pause(name, call.caller.name)
    return await _one(context, name)


async def resume(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take one into use again."""
    name = _name(context, call)
    await context.attending.resume(name, call.caller.name)
    return await _one(context, name)


async def check(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Ask one whether its credentials are good."""
    found = await context.checking.check(_name(context, call))
    return json_reply(CheckAnswer(provider=found.provider, ok=found.ok, detail=found.detail, took_ms=found.took_ms))


def _name(context: ApiContext, call: Call[NoQuery, None]) -> str:
    """Read the provider's name from the path; raises the 404."""
    name = call.path["name"]
    if not context.attending.knows(name):
        raise not_found("provider", name[:64])
    return name


async def _one(context: ApiContext, name: str) -> Reply:
    return json_reply(_shower(context)(await context.attending.state(name)))


def _shower(context: ApiContext) -> Callable[[ProviderState], ProviderAnswer]:
    callbacks = f"{context.settings.public_url.rstrip('/')}/v1/callbacks"

    def show(state: ProviderState) -> ProviderAnswer:
        handle, found, standing = state.handle, state.found, state.handle.standing
        last = None
        if found.last_outcome is not None:
            last = LastAnswer(outcome=found.last_outcome, reason=found.last_reason, at=maybe_utc(found.last_at))
        return ProviderAnswer(
            name=handle.name,
            use=handle.use,
            channel=state.channel,
            position=state.position,
            status=state.status,
            breaker=BreakerAnswer(state=found.breaker.value, until=maybe_utc(found.until), detail=found.detail),
            rate=_rate(state),
            places=PlacesAnswer(most=found.places, in_use=found.in_use, workers=found.workers),
            receipts=handle.receipts,
            idempotent=handle.idempotent,
            batch=1 if handle.batches is None else handle.batches.most,
            callback_url=f"{callbacks}/{handle.name}" if state.reports_back else None,
            last=last,
            paused_at=maybe_utc(standing.paused_at),
            paused_by=standing.paused_by,
        )

    return show


def _rate(state: ProviderState) -> RateAnswer | None:
    handle, use = state.handle, state.pace
    if handle.pace is None or use is None:
        return None
    return RateAnswer(
        limit=str(handle.rate),
        counts="calls" if handle.paced_calls else "messages",
        count=handle.pace.count,
        window_ms=handle.pace.window_ms,
        used=use.used,
        next_at=utc(use.next_at),
    )


OPERATIONS: Final = (
    Operation(
        id="listProviders",
        method="GET",
        path="/v1/providers",
        tag=_TAG,
        summary="List the configured providers and how they stand",
        description="By channel and in failover order; those that no channel names come last.",
        act=list_providers,
        scopes=(Scope.ADMIN,),
        query=ListQuery,
        answer=AnswerRule(type=Listing[ProviderAnswer], description="A page."),
    ),
    Operation(
        id="pauseProvider",
        method="POST",
        path="/v1/providers/{name}/pause",
        tag=_TAG,
        summary="Pause a provider",
        description=(
            "The next provider of its channel takes over; where all are paused, deliveries are `held` with the reason"
            " `paused`, and their deadlines still hold. It survives restarts; every process sees it within two seconds."
            " Pausing one that is paused changes nothing."
        ),
        act=pause,
        scopes=(Scope.ADMIN,),
        answer=AnswerRule(type=ProviderAnswer, description="It is paused."),
    ),
    Operation(
        id="resumeProvider",
        method="POST",
        path="/v1/providers/{name}/resume",
        tag=_TAG,
        summary="Take a provider into use again",
        description="Ends a pause, takes up a breaker that has opened, and sets free at once what was held meanwhile.",
        act=resume,
        scopes=(Scope.ADMIN,),
        answer=AnswerRule(type=ProviderAnswer, description="It is in use."),
    ),
    Operation(
        id="checkProvider",
        method="POST",
        path="/v1/providers/{name}/check",
        tag=_TAG,
        summary="Ask a provider whether the credentials are good",
        description="Sends nothing to anyone, and answers within 15 seconds.",
        act=check,
        scopes=(Scope.ADMIN,),
        answer=AnswerRule(type=CheckAnswer, description="What the provider says."),
    ),
)
