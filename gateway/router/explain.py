"""What a send would do, and why: the same code as the real way, up to the wire.

Owns the answer's shape. Stores and sends nothing, reserves no rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, assert_never
from uuid import UUID

import msgspec

from channels.contract import Message
from gateway.middleware import rate_limit
from gateway.middleware.contract import Dropped, Held
from gateway.middleware.staging import Allowed, Capture, Redirect, Skip, Staging, redirected, without_copies
from gateway.model import inbox
from gateway.model.inbox import INBOX
from gateway.model.requests import SendRequest, recipients
from gateway.model.states import Scope, Status, Why
from gateway.model.turns import NEVER
from gateway.render.renderer import RenderFailed
from gateway.render.source import shown_version
from gateway.router import answers, simulate
from gateway.router.accept import Accepting
from gateway.router.caller import Caller
from gateway.router.compose import Composer, Stored, Subject
from gateway.router.deliver import dropped_note
from gateway.router.often import NotTooOften
from gateway.router.plan import Planned, RuleNote, notes, plan
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.resolve import Reached, Resolved, Resolver
from gateway.router.rules import Rules
from gateway.router.spending import Spending
from gateway.storage.contract import AttachmentRow, Reservation, Store

Decision = Literal["send", "hold", "skip", "capture", "redirect"]

_NOBODY: Final = UUID(int=0)
_SHOWN_SUBSCRIBERS: Final = 5
_COUNTED_SUBSCRIBERS: Final = 100_000
"""Counting more than these would take longer than an answer may."""
_SENDING: Final = frozenset[Decision]({"send", "redirect"})
_FALLING_BACK: Final = frozenset[Decision]({"send", "redirect", "hold", "capture"})
"""What a planned wait comes before, for these reasons even what would be captured."""
_HELD_FIRST: Final = frozenset({Why.FALLBACK, Why.QUIET_HOURS})
"""Behind another channel it may not be needed; and who tries quiet hours out in development wants to see them."""


class Rendered(answers.Answer, frozen=True, kw_only=True):
    """The message as it would be sent."""

    subject: str | None
    text: str | None
    html: str | None
    data: dict[str, Any]
    headers: dict[str, Any]
    attachments: list[str]


class Explained(answers.Answer, frozen=True, kw_only=True):
    """What would become of one recipient on one channel."""

    recipient: dict[str, Any]
    channel: str
    address: str | None
    decision: Decision
    reason: Why | None
    until: str | None
    provider: str | None
    rules: list[RuleNote]
    rendered: Rendered | None
    size_bytes: int | None
    segments: int | msgspec.UnsetType = msgspec.UNSET
    """How many text messages it becomes; not there for other media."""


class ExplainedTopic(answers.Answer, frozen=True, kw_only=True):
    """A topic among the recipients: how many are on it (counted up to 100,000), and how many of them are explained."""

    topic: str
    subscribers: int
    explained: int


class Explanation(answers.Answer, frozen=True, kw_only=True):
    """The answer of `POST /v1/notifications/explain`. Of each topic the first few subscribers are explained."""

    category: str
    template: dict[str, str | int] | None
    deliveries: list[Explained]
    topics: list[ExplainedTopic] | msgspec.UnsetType = msgspec.UNSET


class _Findings(msgspec.Struct, kw_only=True):
    decision: Decision
    reason: Why | None = None
    until: int | None = None
    provider: str | None = None
    to: str | None = None
    subject: Subject | None = None
    message: Message | None = None


class Explaining:
    """Explains sends."""

    def __init__(
        self,
        *,
        store: Store,
        resolver: Resolver,
        accepting: Accepting,
        rules: Rules,
        providers: Providers,
        composer: Composer,
        staging: Staging,
        spending: Spending,
        often: NotTooOften,
        raw: Callable[[Message], bytes],
        segments: Callable[[Message], int | None],
        clock: Callable[[], int],
        secret: bytes,
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._accepting = accepting
        self._rules = rules
        self._providers = providers
        self._composer = composer
        self._staging = staging
        self._spending = spending
        self._not_too_often = often
        self._raw = raw
        self._segments = segments
        self._clock = clock
        self._secret = secret

    async def explain(self, caller: Caller, request: SendRequest) -> Explanation:
        """Explain a send; raises `Problem` just as a send would."""
        now = self._clock()
        await self._resolver.prepare(caller.project, request)
        people = await self._accepting.people_of([request])
        resolved = self._resolver.resolve(request, caller.mode, caller.project, people)
        known = await self._accepting.known(resolved)
        planned = plan(resolved.ask, resolved.targets, known, self._rules, now)
        topics, more = await self._topics(caller, request, resolved, now)
        template = None
        if request.template is not None:
            template = {"key": resolved.template.key, "version": shown_version(resolved.template.version)}
        return Explanation(
            category=resolved.ask.category.name,
            template=template,
            deliveries=[await self._one(caller, request, resolved, one, now) for one in planned] + more,
            topics=topics or msgspec.UNSET,
        )

    async def _topics(
        self, caller: Caller, request: SendRequest, resolved: Resolved, now: int
    ) -> tuple[list[ExplainedTopic], list[Explained]]:
        """Explain the first few of each topic, as they stand now; nobody twice."""
        topics: list[ExplainedTopic] = []
        found: list[Explained] = []
        to = recipients(request)
        seen = {one.user for one in to if one.user is not None}
        taken = _reached(resolved)
        for place, topic in resolved.topics:
            first = [row.user_id for row in await self._store.subscribers(topic, _SHOWN_SUBSCRIBERS)]
            people = await self._store.users_of([id_ for id_ in first if id_ not in seen])
            seen.update(people)
            users = [people[id_] for id_ in first if id_ in people]
            reached = self._resolver.subscribers(resolved.ask, request, to[place], caller.mode, users)
            known = msgspec.structs.replace(await self._accepting.known(reached), planned=taken)
            some = msgspec.structs.replace(resolved, targets=reached.targets, addressees=reached.addressees)
            planned = plan(some.ask, some.targets, known, self._rules, now)
            found += [await self._one(caller, request, some, one, now) for one in planned]
            taken |= _reached(reached)
            count = await self._store.count_subscribers(topic, _COUNTED_SUBSCRIBERS)
            topics.append(ExplainedTopic(topic=topic, subscribers=count, explained=len(users)))
        return topics, found

    async def _one(
        self,
        caller: Caller,
        request: SendRequest,
        resolved: Resolved,
        planned: Planned,
        now: int,
    ) -> Explained:
        rules = notes(planned, now)
        found = _Findings(decision="skip", reason=planned.reason)
        if planned.status in (Status.QUEUED, Status.HELD) and planned.target.address is not None:
            found = _Findings(decision="send")
            await self._often(found, resolved, planned, caller, rules, now)
            await self._rate(found, planned, rules, now)
            self._render(found, request, resolved, planned, rules, now)
            self._stage(found, caller, planned, rules)
            await self._provider(found, planned, rules, now)
            await self._spend(found, planned, rules, now)
            waits = _FALLING_BACK if planned.reason in _HELD_FIRST else _SENDING
            if planned.status is Status.HELD and found.decision in waits:
                until = planned.due_at if planned.due_at < NEVER else None
                found.decision, found.reason, found.until = "hold", planned.reason, until
        who = resolved.addressees[planned.target.position]
        read = caller.may(Scope.READ)
        shown = msgspec.to_builtins(who) if read else {"user": who.user} if who.user else {}
        address = found.to or planned.target.address
        segments = None if found.message is None else self._segments(found.message)
        return Explained(
            recipient=shown,
            channel=planned.target.channel,
            address=address if read else answers.masked(address),
            decision=found.decision,
            reason=found.reason,
            until=answers.maybe_utc(found.until),
            provider=found.provider,
            rules=rules,
            rendered=None if found.message is None else _rendered(found.message),
            size_bytes=None if found.message is None else len(self._raw(found.message)),
            segments=msgspec.UNSET if segments is None else segments,
        )

    async def _often(
        self, found: _Findings, resolved: Resolved, planned: Planned, caller: Caller, rules: list[RuleNote], now: int
    ) -> None:
        """Ask the category's throttle and digest."""
        notes_, waits = await self._not_too_often.explain(planned, resolved.ask, caller.project, caller.mode, now)
        rules.extend(notes_)
        match waits:
            case Held():
                found.decision, found.reason, found.until = "hold", waits.reason, waits.until
            case Dropped():
                found.decision, found.reason = "skip", waits.reason
            case None:
                pass

    async def _rate(self, found: _Findings, planned: Planned, rules: list[RuleNote], now: int) -> None:
        target = planned.target
        rate = self._rules.channels[target.channel].settings.per_recipient
        if rate is None or target.simulated:
            return
        pace = rate_limit.recipient_pace(rate)
        key = rate_limit.recipient_key(target.channel, target.key, secret=self._secret)
        at = await self._store.peek(Reservation(key=key, count=pace.count, window_ms=pace.window_ms, now=now))
        rules.append(RuleNote("recipient_rate", "hold" if at > now else "pass", f"at most {rate} to one recipient"))
        if at > now:
            found.decision, found.reason, found.until = "hold", Why.RATE_LIMITED, at

    async def _spend(self, found: _Findings, planned: Planned, rules: list[RuleNote], now: int) -> None:
        """Ask for the channel's money last, as a delivery does: only what would leave costs anything."""
        channel, message = planned.target.channel, found.message
        settings = self._rules.channels[channel].settings.spend
        leaves = found.decision in ("send", "redirect") and not planned.target.simulated
        if settings is None or message is None or not leaves:
            return
        note, until = await self._spending.note(channel, settings, message.to, self._segments(message), now)
        rules.append(note)
        if until is not None:
            found.decision, found.reason, found.until = "hold", Why.RATE_LIMITED, until

    def _render(
        self,
        found: _Findings,
        request: SendRequest,
        resolved: Resolved,
        planned: Planned,
        rules: list[RuleNote],
        now: int,
    ) -> None:
        subject = Subject(
            delivery_id=_NOBODY,
            channel=planned.target.channel,
            address=planned.target.address or "",
            addressee=resolved.addressees[planned.target.position],
            request=Stored(
                content=request.content,
                data=request.data,
                overrides=msgspec.to_builtins(request.overrides),
                tags=tuple(request.tags),
                collapse_key=request.collapse_key,
            ),
            template=resolved.template,
            category=resolved.ask.category,
            reference=request.reference,
            created_at=now,
            deadline_at=planned.deadline_at,
            attachments=tuple(
                AttachmentRow(
                    filename=one.filename,
                    content_type=one.content_type,
                    content_id=one.content_id,
                    content=one.content,
                )
                for one in request.attachments
            ),
        )
        try:
            found.message = self._composer.message(subject, attempt=1)
            found.subject = subject
        except RenderFailed as error:
            found.decision, found.reason = "skip", Why.TEMPLATE_ERROR
            rules.append(RuleNote("render", "fail", str(error)))
        else:
            rules.append(RuleNote("render", "pass", resolved.template.version))

    def _stage(self, found: _Findings, caller: Caller, planned: Planned, rules: list[RuleNote]) -> None:
        if planned.target.simulated or found.decision == "skip" or found.message is None or found.subject is None:
            return
        message = found.message
        decision = self._staging.decide(
            mode=caller.mode,
            channel=planned.target.channel,
            to=planned.target.address or "",
            cc=message.options.get("cc", []),
            bcc=message.options.get("bcc", []),
            stored_user=planned.target.stored_user,
        )
        match decision:
            case Capture():
                found.decision, found.reason = "capture", decision.reason
                rules.append(RuleNote("staging", "capture", decision.detail))
            case Skip():
                found.decision, found.reason = "skip", decision.reason
                rules.append(RuleNote("staging", "skip", decision.detail))
            case Redirect():
                made = self._composer.message(found.subject, attempt=1, links_for=decision.to)
                found.message = redirected(made, decision.to)
                found.to = decision.to
                rules.append(RuleNote("staging", "redirect", "[staging.redirect]"))
                if found.decision == "send":
                    found.decision = "redirect"
            case Allowed():
                dropped = bool(decision.dropped_cc or decision.dropped_bcc)
                rules.append(RuleNote("staging", "pass", dropped_note(decision) if dropped else _stays(message)))
                if dropped:
                    found.message = without_copies(message, decision.dropped_cc, decision.dropped_bcc)
            case _:
                assert_never(decision)

    async def _provider(self, found: _Findings, planned: Planned, rules: list[RuleNote], now: int) -> None:
        if planned.target.simulated:
            found.provider = simulate.PROVIDER
            return
        if planned.target.channel == INBOX:
            found.provider = inbox.PROVIDER
            return
        every = self._providers.of(planned.target.channel)
        configured = await self._not_stopped(found, planned, every)
        handles = [handle for handle in configured if not handle.standing.paused]
        paused = [handle.name for handle in configured if handle.standing.paused]
        rules.extend(RuleNote("paused", "hold", f"{name} is paused") for name in paused)
        found.provider = next((one.name for one in handles if not _shut(one, now)), None)
        rules.extend(
            RuleNote("sender", "skip", f"stopped {one.name}'s sender (STOP)") for one in every if one not in configured
        )
        shut = [handle.name for handle in handles if _shut(handle, now)]
        rules.extend(RuleNote("provider", "hold", f"{name} is left alone for now") for name in shut)
        if found.provider is not None:
            rules.append(RuleNote("provider", "pass", found.provider))
        elif every and not configured:
            found.decision, found.reason = "skip", Why.OPTED_OUT
        elif paused and not handles:
            if found.decision in ("send", "redirect", "hold"):
                found.decision, found.reason, found.until = "hold", Why.PAUSED, None
        elif found.decision in ("send", "redirect"):
            if handles:
                found.decision, found.reason = "hold", Why.PROVIDER_DOWN
                found.until = min(until for handle in handles if (until := _shut(handle, now)) is not None)
            else:
                found.decision, found.reason = "skip", Why.ACCOUNT_PROBLEM
                rules.append(RuleNote("provider", "fail", f"no provider is configured for {planned.target.channel}"))

    async def _not_stopped(
        self, found: _Findings, planned: Planned, handles: Sequence[ProviderHandle]
    ) -> Sequence[ProviderHandle]:
        """Leave out the providers whose sender the recipient stopped."""
        chosen = None if found.message is None else found.message.options.get("from") or found.message.sender
        target = planned.target
        asked = {one.name: [(target.channel, target.key, name) for name in one.senders(chosen)] for one in handles}
        stopped = set(await self._store.stopped([stop for stops in asked.values() for stop in stops]))
        return [one for one in handles if not stopped.intersection(asked[one.name])]


def _stays(message: Message) -> str | None:
    return "an inbox is in this gateway: nothing leaves" if message.kind == INBOX else None


def _reached(some: Reached) -> frozenset[tuple[str, str]]:
    return frozenset((one.channel, one.key) for one in some.targets if one.address is not None)


def _shut(handle: ProviderHandle, now: int) -> int | None:
    until = handle.breaker.until
    return until if until is not None and until > now else None


def _rendered(message: Message) -> Rendered:
    content = message.content
    headers = {"from": message.sender, **{key: value for key, value in message.options.items() if value}}
    return Rendered(
        subject=content.subject,
        text=content.text,
        html=content.html,
        data=dict(content.data),
        headers=headers,
        attachments=[one.filename for one in content.attachments],
    )
