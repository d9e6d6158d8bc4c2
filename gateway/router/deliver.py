"""One delivery: the onion of middleware around render, staging and the adapter.

Owns the order in which the rules are asked. Each layer is `(Envelope, Next) -> Verdict` and can be tried on its own;
deciding is left to the pure modules in `gateway.middleware`. **Staging is the last thing before the wire, always.** No
transaction is open while a provider is being talked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, assert_never

import msgspec

from channels.contract import Accepted, Blame, Message, Outcome, Reason, Rejected, Retry, Unknown, blame_of
from gateway.errors import GatewayError
from gateway.middleware import pause, rate_limit
from gateway.middleware.breaker import Refused, State
from gateway.middleware.contract import Dropped, Held, Kept, Placed, Verdict
from gateway.middleware.retry import RetryRules, Step, after_unknown, classify, next_attempt_at
from gateway.middleware.staging import Allowed, Capture, Redirect, Skip, Staging, redirected, without_copies
from gateway.model import ids, inbox
from gateway.model.addresses import list_key
from gateway.model.collapsing import place_of
from gateway.model.inbox import INBOX
from gateway.model.simulator import outcome_of
from gateway.model.states import Mode, OnUnknown, Priority, Status, Why
from gateway.observe.masking import without
from gateway.render.renderer import RenderFailed
from gateway.router import simulate
from gateway.router.answers import masked
from gateway.router.batches import Batches
from gateway.router.compose import Composer, Subject, shown_until
from gateway.router.consenting import FRESH_MS, Consenting
from gateway.router.events import EventComposer, Outgoing, endpoint_of
from gateway.router.often import NotTooOften
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.rules import DEFAULT_CATEGORY, CategoryRule, ChannelRule, Rules
from gateway.router.settle import Done, SenderStop
from gateway.router.spending import Spending
from gateway.router.standing import word_of
from gateway.storage.contract import AttemptRow, Claimed, Gathered, Latest, Reservation, Spend, Store, StoreUnavailable

LOST: Final = "the worker that held this delivery was lost"
UNSURE: Final = "an earlier attempt's answer was lost, and no later one succeeded"
_TELLING: Final = 8
"""Characters from which an address is looked for in a provider's words: a shorter one (`#ops`) names nobody outside."""


class Abandoned(GatewayError):
    """The lease ran out before the wire was reached: nothing was sent, and somebody else has the delivery now."""


@dataclass(slots=True)
class Envelope:
    """One claimed delivery on its way through the onion, with what was found out about it."""

    claim: Claimed
    category: CategoryRule
    channel: ChannelRule
    priority: str
    lease_until: Callable[[], int]
    simulated: bool
    checked_at: int = 0
    provider: ProviderHandle | None = None
    subject: Subject | None = None
    event: Outgoing | None = None
    """What is sent in place of a rendered message, if this carries one of our events."""
    gathered: Gathered | None = None
    """The digest that it carries."""
    counted: bool = False
    """Its category's throttle has counted it."""
    attempts: list[AttemptRow] = field(default_factory=list[AttemptRow])
    notes: list[str] = field(default_factory=list[str])
    on_wire: bool = False
    echo: bool = False
    """Its outcome was one call's answer to several deliveries, and the breaker has heard it from another."""
    stands: Latest | None = None
    """What stands where this message goes, if it has a `collapse_key`."""
    redirected: bool = False
    stops: list[SenderStop] = field(default_factory=list[SenderStop])
    tried: str | None = None
    """The provider that was last asked to send it, in this claim."""

    @property
    def is_event(self) -> bool:
        """Whether it carries one of our events to an endpoint: nobody's consent is asked for that."""
        return endpoint_of(self.claim) is not None

    @property
    def tries(self) -> int:
        """Count the attempts recorded so far, those of earlier claims included."""
        return self.claim.attempts + len(self.attempts)


Next = Callable[[Envelope], Awaitable[Verdict]]
Middleware = Callable[[Envelope, Next], Awaitable[Verdict]]


def onion(layers: Sequence[Middleware], core: Next) -> Next:
    """Wrap `core` in layers, the first of them outermost."""
    for layer in reversed(layers):
        core = partial(_peel, layer, core)
    return core


def _peel(layer: Middleware, proceed: Next, envelope: Envelope) -> Awaitable[Verdict]:
    return layer(envelope, proceed)


class Sender(Protocol):
    """What stands at the end of the onion: an adapter or the simulator."""

    async def send(self, message: Message) -> Outcome:
        """Try once."""
        ...


class Deliver:
    """Delivers one claimed delivery at a time, many at once. Owns no state of its own beside what it was given."""

    def __init__(
        self,
        *,
        store: Store,
        rules: Rules,
        providers: Providers,
        composer: Composer,
        events: EventComposer,
        staging: Staging,
        consenting: Consenting,
        spending: Spending,
        often: NotTooOften,
        simulator: Sender,
        clock: Callable[[], int],
        random: Callable[[], float],
        secret: bytes,
        pause: Callable[[float], Awaitable[None]],
        observe: Callable[[str, str, float], None],
        log: Any,
    ) -> None:
        self._store = store
        self._rules = rules
        self._providers = providers
        self._composer = composer
        self._events = events
        self._staging = staging
        self._consenting = consenting
        self._spending = spending
        self._not_too_often = often
        self._simulator = simulator
        self._clock = clock
        self._random = random
        self._secret = secret
        self._pause = pause
        self._observe = observe
        self._log = log
        self._retries = {rule.name: RetryRules.of(rule.retry) for rule in (*rules.channels.values(), rules.events)}
        by_provider = [self._door, self._pace, self._render, self._unstopped, self._spend, self._allow]
        self._provider = onion(by_provider, self._send)
        layers = [self._retry, self._consent, self._collapse, self._often, self._in_use, self._recipient_rate]
        self._onion = onion(layers, self._in_turn)

    def envelope(self, claim: Claimed, *, lease_until: Callable[[], int], checked_at: int = 0) -> Envelope:
        """Put a claim into an envelope. Categories and channels that are configured no more fall back to defaults."""
        categories = self._rules.categories
        channel = self._rules.of_lane(claim.lane)
        if channel is None:
            raise AssertionError("a lane without a channel was claimed")
        return Envelope(
            claim=claim,
            category=categories.get(claim.category) or categories[DEFAULT_CATEGORY],
            channel=channel,
            priority=claim.lane.rpartition(":")[2],
            lease_until=lease_until,
            simulated=outcome_of(claim.channel, claim.address) is not None,
            checked_at=checked_at,
        )

    async def deliver(self, envelope: Envelope) -> Done:
        """Take one delivery through the onion. Raises `Abandoned` and `Taken`; every other failure is a verdict."""
        try:
            verdict = await self._onion(envelope)
        finally:
            self._events.done(envelope.claim)
        handle = envelope.provider
        return Done(
            verdict=verdict,
            attempts=tuple(envelope.attempts),
            provider=envelope.tried,
            receipts=envelope.simulated or (handle is not None and handle.receipts),
            shows=handle is not None and handle.replaces,
            notes=tuple(envelope.notes),
            stops=tuple(envelope.stops),
            redirected=envelope.redirected,
            counted=envelope.counted,
        )

    # --- the layers, outermost first ---

    async def _retry(self, envelope: Envelope, proceed: Next) -> Verdict:
        # An item is in the inbox once its settlement is: a worker that was lost before put nothing in.
        if envelope.claim.lost and envelope.claim.channel != INBOX:
            _record_lost(envelope, self._clock())
            spent = envelope.tries >= self._retries[envelope.channel.name].attempts
            if spent or not self._may_resend(envelope):
                return Dropped(status=Status.UNKNOWN, reason=Why.TIMED_OUT, detail=LOST)
        return self._afterwards(envelope, await proceed(envelope))

    def _afterwards(self, envelope: Envelope, verdict: Verdict) -> Verdict:
        """Decide what follows an attempt, mindful of those before it."""
        unsure = _may_have_been_sent(envelope.claim)
        unknown = Dropped(status=Status.UNKNOWN, reason=Why.TIMED_OUT, detail=UNSURE)
        match verdict:
            case Retry():
                words = _words(verdict.reason.value, verdict.detail)
                gave_up = Dropped(status=Status.FAILED, reason=Why.GAVE_UP, detail=words)
                return self._later(envelope, verdict.after, words) or (unknown if unsure else gave_up)
            case Unknown():
                unknown = Dropped(status=Status.UNKNOWN, reason=Why.TIMED_OUT, detail=verdict.detail)
                if envelope.simulated or not self._may_resend(envelope):
                    return unknown
                return self._later(envelope, None, _words("answer lost", verdict.detail)) or unknown
            case Rejected() if blame_of(verdict.reason) is Blame.ACCOUNT:
                # Our credentials are not the message's fault: it waits for whoever mends them, as long as it may.
                words = _words(verdict.reason.value, verdict.detail)
                return self._later(envelope, None, words) or (unknown if unsure else verdict)
            case Rejected() if unsure and blame_of(verdict.reason) is not Blame.RECIPIENT:
                return unknown  # `failed` would say that it was not sent; only a bad address proves that
            case Accepted() | Rejected() | Held() | Dropped() | Kept() | Placed():
                # So would `expired`, `skipped` and `cancelled`.
                return _unsure(verdict) if unsure and isinstance(verdict, Dropped) else verdict
            case _:
                assert_never(verdict)

    def _may_resend(self, envelope: Envelope) -> bool:
        handles = self._providers.of(envelope.channel.name)
        used = [envelope.provider] if envelope.provider is not None else list(handles)
        idempotent = bool(used) and all(handle.idempotent for handle in used)
        return after_unknown(envelope.claim.on_unknown, provider_idempotent=idempotent) is OnUnknown.RESEND

    def _later(self, envelope: Envelope, after_s: float | None, words: str) -> Held | None:
        claim = envelope.claim
        at = next_attempt_at(
            self._retries[envelope.channel.name],
            attempts_made=envelope.tries,
            now=self._clock(),
            deadline=claim.deadline_at,
            after_s=after_s,
            random=self._random(),
        )
        return None if at is None else Held(until=at, reason=Why.RETRY, detail=words, granted=True)

    async def _consent(self, envelope: Envelope, proceed: Next) -> Verdict:
        # Nobody is asked about our own events to services.
        asked_at = self._clock() if envelope.is_event else envelope.checked_at
        refused = await self._consenting.refusal(
            envelope.claim,
            envelope.category,
            priority=Priority(envelope.priority),
            simulated=envelope.simulated,
            checked_at=asked_at,
        )
        return await proceed(envelope) if refused is None else refused

    async def _in_use(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Hold what would leave while its whole channel is paused, before anything is paid for it."""
        if self._paused(envelope):
            return pause.held(self._clock(), envelope.claim.deadline_at)
        return await proceed(envelope)

    def _paused(self, envelope: Envelope) -> bool:
        handles = self._providers.of(envelope.channel.name)
        return bool(handles) and all(handle.standing.paused for handle in handles) and self._leaves(envelope)

    async def _collapse(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Leave a message out that a newer one has replaced meanwhile, and learn what stands where it goes."""
        claim = envelope.claim
        news = self._clock() - envelope.checked_at > FRESH_MS
        shows = claim.channel == INBOX or any(handle.replaces for handle in self._providers.of(claim.channel))
        if claim.collapse_key is None or not (news or shows):
            return await proceed(envelope)
        place = place_of(claim.project, claim.collapse_key, claim.channel, claim.address)
        envelope.stands = await self._store.latest(place)
        newer = envelope.stands is not None and envelope.stands.delivery_id > claim.id  # in the order of time
        if newer:
            return Dropped(status=Status.SKIPPED, reason=Why.COLLAPSED, detail="replaced by a newer one")
        return await proceed(envelope)

    async def _often(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Ask the category's throttle, and whether the message goes together with others."""
        claim = envelope.claim
        if envelope.is_event:
            return await proceed(envelope)
        first = not (envelope.tries or claim.unsure)
        decided = await self._not_too_often.ask(claim, envelope.category, first=first, simulated=envelope.simulated)
        envelope.counted, envelope.gathered = decided.counted, decided.gathered
        return decided.verdict or await proceed(envelope)

    async def _recipient_rate(self, envelope: Envelope, proceed: Next) -> Verdict:
        claim = envelope.claim
        rate = envelope.channel.settings.per_recipient
        if rate is None or claim.granted or envelope.simulated:
            return await proceed(envelope)
        now = self._clock()
        pace = rate_limit.recipient_pace(rate)
        key = rate_limit.recipient_key(claim.channel, _key(claim), secret=self._secret)
        at = await self._store.reserve(Reservation(key=key, count=pace.count, window_ms=pace.window_ms, now=now))
        if at <= now:
            return await proceed(envelope)
        if at >= claim.deadline_at:
            return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED, detail="its recipient's rate has no room in time")
        return Held(until=at, reason=Why.RATE_LIMITED, detail=f"at most {rate} to one recipient", granted=True)

    async def _in_turn(self, envelope: Envelope) -> Verdict:
        """Ask each provider in turn, as long as the one before proved that nothing was sent."""
        handles = self._providers.of(envelope.channel.name)
        if envelope.simulated or not handles:
            return await self._provider(envelope)
        # With none in use, what stays in the house goes on as if all were.
        handles = tuple(handle for handle in handles if not handle.standing.paused) or handles
        held: Held | None = None
        refused: Outcome | None = None
        stopped: Dropped | Rejected | None = None
        for handle in handles:
            envelope.provider = handle
            verdict = await self._provider(envelope)
            match verdict:
                case Dropped(reason=Why.OPTED_OUT):
                    stopped = stopped or verdict  # a person's STOP concerns one sender; the next may be another
                case Rejected(reason=Reason.OPTED_OUT) if any(one.provider == handle.name for one in envelope.stops):
                    stopped = verdict
                case Dropped() | Kept() | Placed():
                    return verdict
                case Held():
                    held = verdict if held is None or verdict.until < held.until else held
                case _:
                    too_late = self._too_late(envelope, verdict)
                    if not too_late and classify(verdict) is not Step.NEXT_PROVIDER:
                        return verdict
                    if refused is None or not too_late:
                        refused = verdict
        # One that asks for too much patience ends the delivery only where no other may yet take it.
        chosen = held if refused is None or (held is not None and self._too_late(envelope, refused)) else refused
        chosen = chosen or stopped
        if chosen is None:
            raise AssertionError("a channel with providers asked none of them")
        return chosen

    def _too_late(self, envelope: Envelope, outcome: Outcome) -> bool:
        """Say whether a provider asks for more patience than the delivery has: the next one may be quicker."""
        if not isinstance(outcome, Retry) or outcome.after is None:
            return False
        return self._clock() + outcome.after * 1000 >= envelope.claim.deadline_at

    async def _door(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Ask the provider's breaker, for what will leave; what is kept needs no provider."""
        handle = envelope.provider
        if handle is None or not self._leaves(envelope):
            return await proceed(envelope)
        now = self._clock()
        admitted = handle.breaker.admit(now, self._random())
        if isinstance(admitted, Refused):
            return Held(until=admitted.until, reason=admitted.reason, detail=f"{handle.name} is left alone for now")
        try:
            verdict = await proceed(envelope)
        except BaseException:
            handle.breaker.abandon(admitted, self._clock())
            raise
        if not isinstance(verdict, (Accepted, Retry, Rejected, Unknown)):
            handle.breaker.abandon(admitted, self._clock())
            return verdict
        if envelope.echo:
            handle.breaker.abandon(admitted, self._clock())
            return verdict
        before = handle.breaker.why
        changed = handle.breaker.record(verdict, self._clock(), admitted)
        if changed is not None:
            # Loudly, and once: a probe that finds the account still refused says nothing new.
            loud = changed is State.STOPPED and before is not Why.ACCOUNT_PROBLEM
            say = self._log.error if loud else self._log.warning
            say("provider_state", provider=handle.name, state=changed.value, detail=handle.breaker.detail)
        return verdict

    async def _pace(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Wait for the provider's rate. The dispatcher takes on no more than can go soon, so the wait is short."""
        handle = envelope.provider
        if handle is None or handle.pace is None or handle.paced_calls or not self._leaves(envelope):
            return await proceed(envelope)
        now = self._clock()
        pace = handle.pace
        key = rate_limit.provider_key(handle.name)
        at = await self._store.reserve(Reservation(key=key, count=pace.count, window_ms=pace.window_ms, now=now))
        if at >= envelope.claim.deadline_at:
            return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED, detail=f"{handle.name} has no room in time")
        if at > now:
            await self._pause((at - now) / 1000)
        return await proceed(envelope)

    async def _render(self, envelope: Envelope, proceed: Next) -> Verdict:
        if envelope.subject is None and not envelope.is_event:
            try:
                subject = await self._composer.subject(envelope.claim, envelope.category)
                gathered = envelope.gathered
                if gathered is not None and gathered.items:
                    subject = await self._composer.gathered(subject, gathered)
                envelope.subject = subject
            except LookupError as error:
                return Dropped(status=Status.FAILED, reason=Why.TEMPLATE_ERROR, detail=str(error))
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - a row nobody can read fails now, not after eight lost leases
                return self._unmade(envelope, error)
        return await proceed(envelope)

    def _made(self, envelope: Envelope, *, links_for: str | None = None) -> Message | Dropped:
        if envelope.event is not None:
            return msgspec.structs.replace(envelope.event.message, attempt=envelope.tries + 1)
        subject = envelope.subject
        if subject is None:
            raise AssertionError("rendered before it was read")
        try:
            made = self._composer.message(subject, attempt=envelope.tries + 1, links_for=links_for)
            return _replacing(envelope, made)
        except RenderFailed as error:
            return Dropped(status=Status.FAILED, reason=Why.TEMPLATE_ERROR, detail=str(error))
        except Exception as error:  # noqa: BLE001 - a poison message fails now, not after eight lost leases
            return self._unmade(envelope, error)

    def _unmade(self, envelope: Envelope, error: Exception) -> Dropped:
        self._log.error("message_unmade", exc_info=error, delivery_id=ids.show(ids.DELIVERY, envelope.claim.id))
        detail = f"the message could not be made: {type(error).__name__}"
        return Dropped(status=Status.FAILED, reason=Why.TEMPLATE_ERROR, detail=detail)

    async def _unstopped(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Ask whether the recipient stopped the sender that this provider would write as, where senders can be."""
        handle, subject, claim = envelope.provider, envelope.subject, envelope.claim
        if handle is None or subject is None or envelope.simulated:
            return await proceed(envelope)
        senders = handle.senders(self._composer.chosen_sender(subject))
        if not senders:
            return await proceed(envelope)
        asked_at = self._clock()
        stopped = await self._store.stopped([(claim.channel, _key(claim), sender) for sender in senders])
        if stopped:
            return Dropped(status=Status.SKIPPED, reason=Why.OPTED_OUT, detail=f"stopped {handle.name}'s sender (STOP)")
        verdict = await proceed(envelope)
        if isinstance(verdict, Rejected) and verdict.reason is Reason.OPTED_OUT:
            envelope.stops += [
                SenderStop(provider=handle.name, sender=sender, detail=verdict.detail, at=asked_at)
                for sender in senders
            ]
        return verdict

    async def _spend(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Set aside what the message will cost; what was certainly not sent is given back, a lost answer is not."""
        handle, settings = envelope.provider, envelope.channel.settings.spend
        if handle is None or settings is None or not self._leaves(envelope):
            return await proceed(envelope)
        message = self._made(envelope)
        if isinstance(message, Dropped):
            return message
        claim = envelope.claim
        asked = await self._spending.ask(claim.channel, settings, message, handle.adapter, claim.deadline_at)
        if not isinstance(asked, Spend):
            return asked
        try:
            verdict = await proceed(envelope)
        except Abandoned:
            await self._spending.give_back(asked)
            raise
        if not isinstance(verdict, (Accepted, Unknown)):
            await self._spending.give_back(asked)
        return verdict

    async def _allow(self, envelope: Envelope, proceed: Next) -> Verdict:
        """Hold a place at the provider's door while talking to it."""
        handle = envelope.provider
        if handle is None or not self._leaves(envelope):
            return await proceed(envelope)
        async with handle.gate.place(envelope.priority):
            return await proceed(envelope)

    async def _send(self, envelope: Envelope) -> Verdict:
        """Let staging have the last word, and send: alone, or together with others who are ready now."""
        if envelope.is_event:
            # Behind the provider's door: by now it may be known that its endpoint fails.
            made = await self._events.outgoing(envelope.claim)
            if not isinstance(made, Outgoing):
                return made
            envelope.event = made
        handle = envelope.provider
        if handle is not None and handle.batches is not None and self._leaves(envelope):
            return await self._send_together(envelope, handle.batches)
        # At each pause the others of the moment come as far: many messages are rendered one after another, and then
        # many are sent. To go all the way with one at a time costs a tenth more processor time (measured).
        await asyncio.sleep(0)
        made = self._made(envelope)
        await asyncio.sleep(0)
        message = self._ready(envelope, made)
        if not isinstance(message, Message):
            return message
        sender = self._simulator if handle is None or envelope.simulated else handle.adapter
        started = self._clock()
        try:
            outcome = await sender.send(message)
        except Exception as error:  # noqa: BLE001 - an adapter may come from elsewhere: whatever it raises is its bug
            self._log.exception("adapter_raised", provider=envelope.tried, delivery_id=message.id)
            outcome = Unknown(detail=f"the adapter failed: {type(error).__name__}")
        return self._answered(envelope, outcome, started, max(0, self._clock() - started))

    async def _send_together(self, envelope: Envelope, batches: Batches) -> Verdict:
        """Join the provider's next call; whether this delivery still goes is decided when the call is built."""
        stays: list[Verdict] = []

        def ready() -> Message | None:
            found = self._ready(envelope, self._made(envelope))
            if isinstance(found, Message):
                return found
            stays.append(found)
            return None

        sent = await batches.join(ready)
        if sent is None:
            return stays[0]
        envelope.echo = sent.echo
        return self._answered(envelope, sent.outcome, sent.started, sent.took_ms)

    def _ready(self, envelope: Envelope, message: Message | Dropped) -> Message | Verdict:
        """Decide whether a message goes: the last step before the wire. Nothing comes after staging."""
        if isinstance(message, Dropped):
            return message
        handle = envelope.provider
        now = self._clock()
        if now >= envelope.lease_until():
            raise Abandoned(f"the lease of {message.id} ran out before it could be sent")
        if envelope.simulated:
            return self._going(envelope, simulate.PROVIDER, message)
        if handle is not None and handle.standing.paused and self._leaves(envelope):
            return pause.held(now, envelope.claim.deadline_at)
        allowed = self._staged(envelope, message)
        if not isinstance(allowed, Message):
            return allowed
        if handle is None:
            return self._without_provider(envelope, allowed)
        return self._going(envelope, handle.name, _signed(envelope, allowed))

    def _without_provider(self, envelope: Envelope, message: Message) -> Placed | Dropped:
        """Put it into the inbox, the one channel that needs nobody: what is settled there is delivered."""
        if envelope.claim.channel != INBOX:
            detail = f"no provider is configured for {envelope.claim.channel}"
            return Dropped(status=Status.FAILED, reason=Why.ACCOUNT_PROBLEM, detail=detail)
        envelope.tried = inbox.PROVIDER
        envelope.attempts.append(_attempt(envelope.tries + 1, inbox.PROVIDER, self._clock(), 0, Accepted()))
        return Placed(message=message, until=None if envelope.subject is None else shown_until(envelope.subject))

    def _going(self, envelope: Envelope, provider: str, message: Message) -> Message:
        envelope.on_wire = True
        envelope.tried = provider
        return message

    def _staged(self, envelope: Envelope, message: Message) -> Message | Dropped | Kept:
        """Ask the allowlist; answers the message as it may leave, or what becomes of it instead."""
        claim = envelope.claim
        decision = self._staging.decide(
            mode=claim.mode,
            channel=claim.channel,
            to=claim.address,
            cc=message.options.get("cc", []),
            bcc=message.options.get("bcc", []),
            stored_user=claim.stored_user,
        )
        match decision:
            case Capture():
                return Kept(message=message, reason=decision.reason, detail=decision.detail)
            case Skip():
                return Dropped(status=Status.SKIPPED, reason=decision.reason, detail=decision.detail)
            case Redirect():
                envelope.redirected = True
                envelope.notes.append(f"redirected to {masked(decision.to)} by [staging]")
                # Made again, since the real person's links stand in its text: whoever tests it must not follow them.
                made = self._made(envelope, links_for=decision.to)
                return made if isinstance(made, Dropped) else redirected(made, decision.to)
            case Allowed():
                if not decision.dropped_cc and not decision.dropped_bcc:
                    return message
                envelope.notes.append(dropped_note(decision))
                return without_copies(message, decision.dropped_cc, decision.dropped_bcc)
            case _:
                assert_never(decision)

    def _answered(self, envelope: Envelope, outcome: Outcome, started: int, took_ms: int) -> Outcome:
        """Write the attempt down, without what its provider should not have repeated."""
        envelope.on_wire = False
        outcome = _discreet(outcome, envelope)
        name = envelope.tried or ""
        envelope.attempts.append(_attempt(envelope.tries + 1, name, started, took_ms, outcome))
        self._observe(name, word_of(outcome), took_ms / 1000)
        if envelope.provider is not None and not envelope.simulated:
            envelope.provider.standing.note(outcome, started + took_ms)
        return outcome

    def leaves(self, mode: Mode, channel: str, address: str, stored_user: str | None) -> bool:
        """Say whether such a delivery will reach a provider: staging decides again, last, before the wire."""
        if outcome_of(channel, address) is not None:
            return False
        decision = self._staging.decide(mode=mode, channel=channel, to=address, stored_user=stored_user)
        return isinstance(decision, (Allowed, Redirect))

    def _leaves(self, envelope: Envelope) -> bool:
        claim = envelope.claim
        return self.leaves(claim.mode, claim.channel, claim.address, claim.stored_user)


def _discreet(outcome: Outcome, envelope: Envelope) -> Outcome:
    """Rid a provider's words of its secrets and of the address: they are logged, and shown to who may not read it."""
    if outcome.detail is None:
        return outcome
    address = envelope.claim.address
    words = (
        *(envelope.provider.secrets if envelope.provider else ()),
        *((address,) if len(address) >= _TELLING else ()),
    )
    found = without(outcome.detail, words)
    return outcome if found == outcome.detail else msgspec.structs.replace(outcome, detail=found)


def _attempt(number: int, provider: str, started: int, took_ms: int, outcome: Outcome) -> AttemptRow:
    accepted = isinstance(outcome, Accepted)
    return AttemptRow(
        number=number,
        provider=provider,
        started_at=started,
        took_ms=took_ms,
        outcome=word_of(outcome),
        reason=None if isinstance(outcome, Accepted) else outcome.reason.value,
        detail=outcome.detail,
        provider_id=outcome.provider_id if accepted else None,
    )


def _record_lost(envelope: Envelope, now: int) -> None:
    """Write the lost claim into the ledger: it may have reached a provider, and it counts against the budget."""
    for _ in range(envelope.claim.lost):
        envelope.attempts.append(
            AttemptRow(
                number=envelope.tries + 1,
                provider="unknown",
                started_at=now,
                took_ms=0,
                outcome="unknown",
                reason=Why.TIMED_OUT.value,
                detail=LOST,
            ),
        )


def _key(claim: Claimed) -> str:
    return list_key(claim.channel, claim.address)


def _replacing(envelope: Envelope, message: Message) -> Message:
    """Hand down what this message replaces, to a provider that can and that showed it; a caller cannot name another."""
    handle, stands = envelope.provider, envelope.stands
    if stands is None and "replaces" not in message.options:
        return message
    options = {name: value for name, value in message.options.items() if name != "replaces"}
    if handle is not None and stands is not None and handle.replaces and stands.shown_by == handle.name:
        options["replaces"] = stands.shown_id
    return msgspec.structs.replace(message, options=options)


def _signed(envelope: Envelope, message: Message) -> Message:
    """Hand the adapter the secrets of an endpoint: here, so that no message that is kept or shown ever carries them."""
    if envelope.event is None:
        return message
    return msgspec.structs.replace(message, options={**message.options, "secrets": list(envelope.event.secrets)})


def dropped_note(decision: Allowed) -> str:
    """Say which copies staging dropped, their addresses hidden."""
    copies = [*decision.dropped_cc, *decision.dropped_bcc]
    return "copies not allowed here and dropped: " + ", ".join(str(masked(copy)) for copy in copies)


def _may_have_been_sent(claim: Claimed) -> bool:
    """Say whether an earlier attempt's answer was lost. A worker that was lost has put nothing into an inbox."""
    return claim.unsure or (claim.lost > 0 and claim.channel != INBOX)


def _unsure(dropped: Dropped) -> Dropped:
    """End what is not sent (again) by rule as what it is after a lost answer; the rule's reason is kept."""
    match dropped.status:
        case Status.UNKNOWN:
            return dropped
        case Status.EXPIRED:
            return Dropped(status=Status.UNKNOWN, reason=Why.TIMED_OUT, detail=UNSURE)
        case _:
            words = f"{dropped.detail}; {UNSURE}" if dropped.detail else UNSURE
            return Dropped(status=Status.UNKNOWN, reason=dropped.reason, detail=words)


def _words(first: str, detail: str | None) -> str:
    return f"{first}: {detail}" if detail else first
