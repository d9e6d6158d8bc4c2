"""From checked settings to a gateway that is put together. Starts nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from channels.address_guard import Guard
from channels.contract import Message
from channels.mime import compose, parse_mailbox
from channels.sms_segments import count_segments, text_of
from gateway.api.app import create_app
from gateway.api.authentication import Authentication
from gateway.api.captured_hub import CapturedHub
from gateway.api.context import ApiContext
from gateway.api.exchange import AsgiApp
from gateway.bootstrap.providers import adapters, destinations_of, providers_of, refuse_of, secrets_by_provider
from gateway.bootstrap.room import Room
from gateway.clock import Clock
from gateway.config import rules as configured
from gateway.config.development import kept_secret, state_folder
from gateway.config.settings import ChannelSettings, Settings
from gateway.middleware.rate_limit import KeyLimiter
from gateway.middleware.staging import Staging
from gateway.model import ids
from gateway.model.bodies import bodies
from gateway.model.ids import IdSource
from gateway.model.patterns import EmailPattern, parse_pattern
from gateway.model.states import Mode
from gateway.observe.logging import get_logger
from gateway.observe.metrics import Metrics
from gateway.observe.siblings import Siblings
from gateway.render import source
from gateway.render.renderer import Renderer
from gateway.router.accept import Accepting
from gateway.router.attending import Attending
from gateway.router.catalogue import Catalogue
from gateway.router.changes import Changes
from gateway.router.checking import Checking
from gateway.router.compose import Composer
from gateway.router.consenting import Consenting
from gateway.router.deliver import Deliver
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.events import EventComposer
from gateway.router.expanding import Expander
from gateway.router.explain import Explaining
from gateway.router.inbox_tokens import InboxTokens
from gateway.router.links import Links
from gateway.router.live_inboxes import LiveInboxes
from gateway.router.often import NotTooOften
from gateway.router.people import People
from gateway.router.preferences import Preferences
from gateway.router.providers import Providers
from gateway.router.relay import Bell, Relay
from gateway.router.resolve import Resolver
from gateway.router.rules import Rules
from gateway.router.simulate import PROVIDER, Simulator
from gateway.router.spending import Spending, segments_of
from gateway.router.status import Reports
from gateway.router.upkeep import Upkeep
from gateway.router.vault import Vault
from gateway.router.waking import Waker
from gateway.router.webhooks import Webhooks
from gateway.storage.contract import Claimed, Settlement, Store
from gateway.storage.database import unheard
from gateway.storage.store import SqlStore

_UPKEEP_S: Final = 2.0


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that is put together."""

    settings: Settings
    store: SqlStore
    renderer: Renderer
    catalogue: Catalogue
    providers: Providers
    accepting: Accepting
    explaining: Explaining
    changes: Changes
    people: People
    preferences: Preferences
    dispatcher: Dispatcher
    expander: Expander
    attending: Attending
    checking: Checking
    upkeep: Upkeep
    relay: Relay
    waker: Waker
    webhooks: Webhooks
    room: Room
    authentication: Authentication
    hub: CapturedHub
    inbox_tokens: InboxTokens
    live_inboxes: LiveInboxes
    links: Links
    reports: Reports
    metrics: Metrics
    clock: Clock
    id_source: IdSource
    log: Any


@contextlib.asynccontextmanager
async def open_store(
    settings: Settings,
    *,
    clock: Clock | None = None,
    metrics: Metrics | None = None,
) -> AsyncGenerator[SqlStore]:
    """Open the configured store for the time of the context."""
    store = SqlStore(
        settings.database.reveal(),
        clock=clock or Clock(),
        ids=IdSource(),
        simulator=PROVIDER,
        secret=signing_secret(settings),
        connections=settings.server.database_connections,
        on_batch=unheard if metrics is None else metrics.batch,
    )
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings, *, clock: Clock | None = None) -> AsyncGenerator[Gateway]:
    """Put a gateway together over an open store; `working` makes it work. A test brings its own clock."""
    metrics = Metrics()
    clock = clock or Clock()
    async with open_store(settings, clock=clock, metrics=metrics) as store:
        if not settings.database.reveal().startswith("sqlite"):
            await clock.follow(store.now_ms)
        gateway = await _assemble(settings, store, clock, metrics)
        try:
            yield gateway
        finally:
            await gateway.providers.aclose()


@contextlib.asynccontextmanager
async def open_attending(settings: Settings) -> AsyncGenerator[Attending]:
    """Open what looks after the providers, and nothing else: no templates are read, nothing is delivered."""
    clock, log = Clock(), get_logger("gateway")
    async with open_store(settings, clock=clock) as store:
        if not settings.database.reveal().startswith("sqlite"):
            await clock.follow(store.now_ms)
        built = adapters(settings, clock, log)
        providers = providers_of(settings, Rules.build(settings), built, store, clock, log)
        try:
            yield Attending(
                worker=_worker(),
                store=store,
                providers=providers,
                reopen=lambda _channel: None,
                delivers=lambda: False,
                clock=clock,
                log=log,
            )
        finally:
            await providers.aclose()


def _worker() -> str:
    """Name this process, like no other one before or beside it."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


async def _assemble(settings: Settings, store: SqlStore, clock: Clock, metrics: Metrics) -> Gateway:
    log = get_logger("gateway")
    id_source = IdSource()
    rules = Rules.build(settings)
    renderer = await _renderer(settings, store, clock, log)
    built = adapters(settings, clock, log)
    providers = providers_of(settings, rules, built, store, clock, log)
    destinations = destinations_of(settings)
    staging = Staging(settings.environment, settings.staging)
    secret = signing_secret(settings)
    vault = Vault([secret])
    links = Links(
        [secret, *(key.reveal().encode() for key in settings.links.old_keys)],
        settings.public_url,
        unsubscribe_days=settings.links.unsubscribe_days,
        preferences_days=settings.links.preferences_days,
    )
    composer = Composer(
        renderer=renderer,
        rules=rules,
        store=store,
        links=links.of,
        sender=_sender(settings),
        destinations=destinations,
    )
    spending = Spending(store=store, clock=clock, observe=metrics.spending, log=log)
    often = NotTooOften(store=store, composer=composer, clock=clock, secret=secret)
    deliver = Deliver(
        store=store,
        rules=rules,
        providers=providers,
        composer=composer,
        events=EventComposer(store=store, vault=vault, clock=clock, random=random.random),
        staging=staging,
        consenting=Consenting(store=store, rules=rules, clock=clock),
        spending=spending,
        often=often,
        simulator=Simulator(store, clock, id_source),
        clock=clock,
        random=random.random,
        secret=secret,
        pause=asyncio.sleep,
        observe=metrics.attempt,
        log=log,
    )
    raw = _raw(providers)
    hub = CapturedHub()
    watched = settings.inbox
    live = LiveInboxes(store=store, most=watched.streams, most_per_user=watched.streams_per_user, log=log)
    callers = Callers()
    worker = _worker()
    bell = Bell()
    waker = Waker(store=store, log=log)
    dispatcher = Dispatcher(
        worker=worker,
        store=store,
        deliver=deliver,
        providers=providers,
        rules=rules,
        raw=raw,
        clock=clock,
        id_source=id_source,
        lease_ms=settings.server.lease_s * 1000,
        poll_ms=int(settings.server.poll_s * 1000),
        on_settled=_settled(metrics, hub, live, bell, log),
        on_due=waker.due,
        callers=callers,
        log=log,
    )
    store.on_turn(lambda lane: dispatcher.waiting(lane, clock()))
    catalogue = Catalogue(renderer=renderer, store=store, log=log)
    await catalogue.refresh()
    resolver = Resolver(
        rules=rules,
        catalogue=catalogue,
        renderer=renderer,
        limits=settings.limits,
        senders=_senders(settings),
        adapters=lambda channel: [handle.adapter for handle in providers.of(channel)],
    )
    room = Room(store, settings.limits.waiting, log)
    topics_sent = asyncio.Event()
    accepting = Accepting(
        store=store,
        resolver=resolver,
        rules=rules,
        dispatcher=dispatcher,
        clock=clock,
        id_source=id_source,
        public_url=settings.public_url,
        idempotency_ms=settings.retention.idempotency_s * 1000,
        callers=callers,
        pending_most=settings.limits.pending_accepts,
        has_room=room,
        on_accepted=_accepted(metrics, bell),
        on_expansion=topics_sent.set,
    )
    expander = Expander(
        worker=worker,
        store=store,
        accepting=accepting,
        resolver=resolver,
        rules=rules,
        dispatcher=dispatcher,
        clock=clock,
        id_source=id_source,
        lease_ms=settings.server.lease_s * 1000,
        poll_s=settings.server.poll_s,
        callers=callers,
        has_room=room,
        sent=topics_sent,
        log=log,
    )
    explaining = Explaining(
        store=store,
        resolver=resolver,
        accepting=accepting,
        rules=rules,
        providers=providers,
        composer=composer,
        staging=staging,
        spending=spending,
        often=often,
        raw=raw,
        segments=_segments(providers),
        clock=clock,
        secret=secret,
    )
    return Gateway(
        settings=settings,
        store=store,
        renderer=renderer,
        catalogue=catalogue,
        providers=providers,
        accepting=accepting,
        explaining=explaining,
        changes=Changes(store=store, rules=rules, dispatcher=dispatcher, clock=clock, id_source=id_source),
        people=People(
            rules=rules,
            providers=providers,
            guard=Guard(allow_private=tuple(settings.outbound.allow_private)),
            clock=clock,
        ),
        preferences=Preferences(rules=rules),
        dispatcher=dispatcher,
        expander=expander,
        attending=Attending(
            worker=worker,
            store=store,
            providers=providers,
            reopen=dispatcher.reopen,
            delivers=lambda: dispatcher.healthy,
            clock=clock,
            log=log,
        ),
        checking=Checking(built, destinations, secrets_by_provider(settings, built), clock=clock, log=log),
        upkeep=Upkeep(
            store=store,
            retention=settings.retention,
            categories=settings.categories,
            limits=settings.limits,
            clock=clock,
            every_s=_UPKEEP_S,
            log=log,
        ),
        relay=Relay(
            store=store,
            dispatcher=dispatcher,
            bell=bell,
            clock=clock,
            poll_s=settings.server.poll_s,
            log=log,
        ),
        waker=waker,
        webhooks=Webhooks(
            store=store,
            vault=vault,
            refuse=refuse_of(providers, rules),
            clock=clock,
            id_source=id_source,
            random=secrets.token_bytes,
            keeps_ms=settings.retention.notifications_days * 86_400_000,
            on_change=bell.listen,
        ),
        room=room,
        authentication=Authentication(store, settings.limits, settings.bootstrap_key),
        hub=hub,
        inbox_tokens=InboxTokens(secret),
        live_inboxes=live,
        links=links,
        reports=Reports(store=store, providers=providers, clock=clock, id_source=id_source, log=log),
        metrics=metrics,
        clock=clock,
        id_source=id_source,
        log=log,
    )


# --- parts ---


async def _renderer(settings: Settings, store: Store, clock: Clock, log: Any) -> Renderer:
    """Load the templates, and keep each version in the store: what was accepted must survive the next deploy."""
    wanted = settings.templates
    renderer = Renderer(
        None if wanted.folder is None else Path(wanted.folder),
        default_locale=wanted.default_locale,
        public_url=settings.public_url,
        product=wanted.product,
    )
    for fault in renderer.load():
        log.warning("template_fault", path=fault.path, detail=fault.message)
    now = clock()
    for one in [renderer.content_source, *(template.source for template in renderer.templates())]:
        await store.keep_template(one.version, one.key, source.encode(one), now)
    return renderer


def _raw(providers: Providers) -> Callable[[Message], bytes]:
    """Make what shows a message's wire form: the channel's first adapter, or for e-mail our composer."""

    def raw(message: Message) -> bytes:
        handles = providers.of(message.kind)
        show = getattr(handles[0].adapter, "raw", None) if handles else None
        try:
            if show is not None:
                return show(message)
            if message.kind == "email":
                return compose(message).content
        except ValueError as error:
            return f"This message could not have been sent: {error}".encode()
        return msgspec.json.encode(message.content.data)

    return raw


def _segments(providers: Providers) -> Callable[[Message], int | None]:
    """Make what counts a message's segments: the channel's first adapter, or for SMS the count that networks make."""

    def segments(message: Message) -> int | None:
        handles = providers.of(message.kind)
        if not handles:
            return count_segments(text_of(message.content)).segments if message.kind == "sms" else None
        return segments_of(handles[0].adapter, message)

    return segments


def _accepted(metrics: Metrics, bell: Bell) -> Callable[[Mode, int], None]:
    def on_accepted(mode: Mode, count: int) -> None:
        metrics.accepted(mode.value, count)
        bell.ring()

    return on_accepted


def _settled(
    metrics: Metrics, hub: CapturedHub, live: LiveInboxes, bell: Bell, log: Any
) -> Callable[[Claimed, Settlement], None]:
    def on_settled(claim: Claimed, settlement: Settlement) -> None:
        endpoint = settlement.endpoint
        if endpoint is None:
            bell.ring()
        elif endpoint.gone:
            shown = ids.show(ids.WEBHOOK, endpoint.webhook_id)
            log.warning("webhook_switched_off", webhook_id=shown, project=claim.project, reason="gone")
        reason = None if settlement.reason is None else settlement.reason.value
        metrics.delivery(claim.channel, settlement.status.value, reason)
        if settlement.captured is not None:
            hub.announce()
        if settlement.inbox is not None:
            live.announce()

    return on_settled


def signing_secret(settings: Settings) -> bytes:
    """Find the key that signs links and hides addresses; one is made and kept beside the database if none is given."""
    if settings.secret_key is not None:
        return settings.secret_key.reveal().encode()
    return kept_secret(state_folder(settings) / "secret.key", lambda: secrets.token_urlsafe(48)).encode()


def _sender(settings: Settings) -> str:
    """Name a sender where none is configured, so that a gateway without a file shows whole messages."""
    host = urlsplit(settings.public_url).hostname or "localhost"
    domain = "localhost" if host.replace(".", "").isdigit() or ":" in host else host
    return f"{settings.templates.product} <no-reply@{domain}>"


def _senders(settings: Settings) -> list[EmailPattern]:
    email = settings.channels.get("email", ChannelSettings())
    written = [*email.senders]
    if email.sender is not None:
        written.append(parse_mailbox("sender", email.sender).address)
    patterns = [parse_pattern(one) for one in written]
    return [one for one in patterns if isinstance(one, EmailPattern)]


def api(gateway: Gateway, *, works: bool = False, siblings: Siblings | None = None) -> AsgiApp:
    """Build the API over a gateway; with `works`, it is ready only while the dispatcher runs too.

    With `siblings`, `/metrics` shows their figures beside its own.
    """

    async def ready() -> str | None:
        if works and not gateway.dispatcher.healthy:
            return "the dispatcher is not running"
        return await gateway.store.ready()

    async def scrape() -> tuple[bytes, str]:
        text, media_type = gateway.metrics.render()
        return (text if siblings is None else await siblings.with_theirs(text)), media_type

    settings = gateway.settings
    return create_app(
        ApiContext(
            settings=settings,
            store=gateway.store,
            authentication=gateway.authentication,
            accepting=gateway.accepting,
            explaining=gateway.explaining,
            changes=gateway.changes,
            attending=gateway.attending,
            checking=gateway.checking,
            people=gateway.people,
            preferences=gateway.preferences,
            renderer=gateway.renderer,
            catalogue=gateway.catalogue,
            metrics=gateway.metrics,
            limiter=KeyLimiter(),
            captured_hub=gateway.hub,
            links=gateway.links,
            webhooks=gateway.webhooks,
            inbox_tokens=gateway.inbox_tokens,
            live_inboxes=gateway.live_inboxes,
            reports=gateway.reports,
            clock=gateway.clock,
            ids=gateway.id_source,
            log=gateway.log,
            ready=ready,
            scrape=scrape,
            bodies=bodies(settings.channels.keys() - set(configured.CHANNELS)),
        ),
    )
