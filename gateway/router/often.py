"""Not too often: throttles and digests, asked when a delivery's turn comes and before anything is paid for it.

Owns the order of the two and what each answers; `gateway.middleware.often` decides, and the store counts and gathers
for all processes. What a digest carries is not counted one by one: where everything is gathered, the digest counts as
one message, and where only what is too much is gathered, it does not count again. Refuses to know rendering and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.config.settings import CategorySettings, DigestSettings, ThrottleSettings, ThrottleThen
from gateway.errors import GatewayError
from gateway.middleware import often
from gateway.middleware.contract import Dropped, Held
from gateway.model.addresses import list_key
from gateway.model.states import Mode, Priority, Status, Strategy, Why
from gateway.router.compose import Composer
from gateway.router.plan import Ask, Planned, RuleNote, alone_because, digest_name
from gateway.router.rules import CategoryRule
from gateway.storage.contract import Claimed, Gathered, Gathering, Joining, Reservation, Store

_MOST: Final = 100
"""How many messages a digest shows whose category does not gather any more."""


class Taken(GatewayError):
    """Another delivery carries this one's message: it is in nobody's hands any more, and must be left alone."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What follows: `verdict` where it does not go now; `counted`, whether it has been counted; what it carries."""

    verdict: Held | Dropped | None = None
    counted: bool = False
    gathered: Gathered | None = None


class NotTooOften:
    """Asks for one delivery at a time, many at once."""

    def __init__(self, *, store: Store, composer: Composer, clock: Callable[[], int], secret: bytes) -> None:
        self._store = store
        self._composer = composer
        self._clock = clock
        self._secret = secret

    async def ask(self, claim: Claimed, category: CategoryRule, *, first: bool, simulated: bool) -> Decided:
        """Decide about a delivery in hand; raises `Taken`. `first`: nothing has been tried for it yet."""
        settings = category.settings
        gathered = None
        if claim.digest_id is not None:
            gathered = await self._gather(claim, settings)
            if often.gathers_rest(settings):
                return Decided(gathered=gathered)
        elif first and often.gathers_all(settings) and (joining := self._joining(claim, category)) is not None:
            return Decided(verdict=_waits(joining, "gathered into one message"))
        throttle = settings.throttle
        if throttle is None or claim.counted or simulated or _priority(claim) is Priority.CRITICAL:
            return Decided(gathered=gathered, counted=claim.counted)
        return await self._throttled(claim, category, throttle, gathered)

    async def _gather(self, claim: Claimed, settings: CategorySettings) -> Gathered:
        if claim.digest_id is None:
            raise AssertionError("asked for the digest of a delivery that is part of none")
        asked = Gathering(
            digest_id=claim.digest_id,
            delivery_id=claim.id,
            token=claim.token,
            most=_MOST if settings.digest is None else settings.digest.most,
        )
        found = await self._store.gather(asked)
        if found is None:
            raise Taken("another delivery carries this digest")
        return found

    async def _throttled(
        self, claim: Claimed, category: CategoryRule, throttle: ThrottleSettings, gathered: Gathered | None
    ) -> Decided:
        now = self._clock()
        address = list_key(claim.channel, claim.address)
        asked = reservation(
            throttle, category.name, claim.mode, claim.channel, claim.user_id, address, now, secret=self._secret
        )
        at = await self._store.reserve(asked)
        if at <= now:
            return Decided(counted=True, gathered=gathered)
        if throttle.then is ThrottleThen.HOLD and at < claim.deadline_at:
            held = Held(until=at, reason=Why.RATE_LIMITED, detail=throttle_words(throttle))
            return Decided(verdict=held, counted=True, gathered=gathered)
        if throttle.then is ThrottleThen.DIGEST and (joining := self._joining(claim, category)) is not None:
            return Decided(verdict=_waits(joining, f"{throttle_words(throttle)}; gathered into one message"))
        words = throttle_words(throttle)
        return Decided(verdict=Dropped(status=Status.SKIPPED, reason=Why.RATE_LIMITED, detail=words), gathered=gathered)

    def _joining(self, claim: Claimed, category: CategoryRule) -> Joining | None:
        """Say in which digest it can wait; `None` where it goes by itself."""
        digest, request = category.settings.digest, self._composer.request(claim)
        alone = often.alone_because(
            strategy=claim.strategy or Strategy.ALL,
            step=claim.step or 0,
            priority=_priority(claim),
            own_terms=bool((request.overrides or {}).get(claim.channel)),
            files=claim.has_attachments,
        )
        if digest is None or alone is not None:
            return None
        name = often.digest_name(
            project=claim.project,
            mode=claim.mode,
            category=category.name,
            channel=claim.channel,
            user=claim.user_id,
            address=list_key(claim.channel, claim.address),
            digest_key=request.digest_key,
        )
        zone = self._composer.addressee(claim).timezone
        return Joining(name=name, due_at=often.digest_due(digest, zone, self._clock()))

    async def explain(
        self, planned: Planned, ask: Ask, project: str, mode: Mode, now: int
    ) -> tuple[list[RuleNote], Held | Dropped | None]:
        """Say what would become of a planned delivery; counts and gathers nothing."""
        settings, target = ask.category.settings, planned.target
        rules: list[RuleNote] = []
        over: Held | Dropped | None = None
        alone = alone_because(ask, target.channel, 0 if planned.turn is None else planned.turn.step)
        gathers = settings.digest is not None and alone is None
        if settings.throttle is not None and not (often.gathers_all(settings) and gathers):
            note, over = await self._explain_throttle(planned, ask, settings.throttle, mode, now)
            rules.append(note)
        if settings.digest is None:
            return rules, over
        if alone is not None:
            return [*rules, RuleNote("digest", "pass", f"goes by itself: {alone}")], over
        if often.gathers_rest(settings) and over is None:
            return [*rules, RuleNote("digest", "pass", "only what is too much is gathered")], None
        until = await self._due(digest_name(target, ask, project, mode), settings.digest, planned, now)
        note = RuleNote("digest", "hold", "gathered into one message")
        return [*rules, note], Held(until=until, reason=Why.DIGEST)

    async def _explain_throttle(
        self, planned: Planned, ask: Ask, throttle: ThrottleSettings, mode: Mode, now: int
    ) -> tuple[RuleNote, Held | Dropped | None]:
        target = planned.target
        if target.simulated or ask.priority is Priority.CRITICAL:
            return RuleNote("throttle", "pass", "not counted"), None
        name, words = ask.category.name, throttle_words(throttle)
        asked = reservation(throttle, name, mode, target.channel, target.user_id, target.key, now, secret=self._secret)
        at = await self._store.peek(asked)
        if at <= now:
            return RuleNote("throttle", "pass", words), None
        if throttle.then is ThrottleThen.SKIP:
            skipped = Dropped(status=Status.SKIPPED, reason=Why.RATE_LIMITED, detail=words)
            return RuleNote("throttle", "skip", words), skipped
        return RuleNote("throttle", "hold", words), Held(until=at, reason=Why.RATE_LIMITED)

    async def _due(self, name: str, digest: DigestSettings, planned: Planned, now: int) -> int:
        start = max(now, planned.due_at) if planned.reason is Why.SCHEDULED else now
        known = await self._store.digest_due(name)
        if known is not None and known > start:
            return known
        return often.digest_due(digest, planned.target.timezone, start)


def reservation(
    throttle: ThrottleSettings,
    category: str,
    mode: Mode,
    channel: str,
    user: str | None,
    address: str,
    now: int,
    *,
    secret: bytes,
) -> Reservation:
    """Ask for a moment of a person's share."""
    pace = often.throttle_pace(throttle.rate)
    return Reservation(
        key=often.throttle_key(category, mode, channel, user, address, secret=secret),
        count=pace.count,
        window_ms=pace.window_ms,
        now=now,
        ahead=throttle.then is ThrottleThen.HOLD,
    )


def throttle_words(throttle: ThrottleSettings) -> str:
    """Say the rule."""
    return f"at most {throttle.rate} of this category to one person"


def _waits(joining: Joining, detail: str) -> Held:
    return Held(until=joining.due_at, reason=Why.DIGEST, detail=detail, join=joining)


def _priority(claim: Claimed) -> Priority:
    return Priority(claim.lane.rpartition(":")[2])
