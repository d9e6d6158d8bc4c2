"""The only place that constructs things: from checked settings to a running gateway, and back down.

Owns the order of starting and stopping. Decides nothing about notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvicorn
import uvloop

from channels.contract import Message, Tools
from channels.mime import compose, parse_mailbox
from gateway.api.app import create_app
from gateway.api.authentication import Authentication
from gateway.api.captured_hub import CapturedHub
from gateway.api.context import ApiContext
from gateway.api.exchange import AsgiApp
from gateway.clock import Clock
from gateway.config.development import kept_secret, state_folder
from gateway.config.settings import BreakerSettings, ChannelSettings, Rate, Secret, Settings
from gateway.errors import GatewayError
from gateway.middleware.breaker import Breaker
from gateway.middleware.rate_limit import KeyLimiter, provider_pace
from gateway.middleware.staging import Staging
from gateway.model.ids import IdSource
from gateway.model.patterns import EmailPattern, parse_pattern
from gateway.observe.logging import configure as configure_logging
from gateway.observe.logging import get_logger
from gateway.observe.metrics import Metrics
from gateway.registry import Registry
from gateway.render import source
from gateway.render.renderer import Renderer
from gateway.router.accept import Accepting
from gateway.router.changes import Changes
from gateway.router.compose import Composer
from gateway.router.deliver import Deliver
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.explain import Explaining
from gateway.router.gate import Gate
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.resolve import Resolver
from gateway.router.rules import Rules
from gateway.router.simulate import PROVIDER, Simulator
from gateway.router.status import Reports
from gateway.router.unsubscribe import UnsubscribeLinks
from gateway.router.upkeep import Upkeep
from gateway.storage.contract import Claimed, Settlement, Store, StoreUnavailable
from gateway.storage.database import unheard
from gateway.storage.store import SqlStore

_SWITCH_INTERVAL_S: Final = 0.0007
"""How long a thread may keep the interpreter while another waits. With the default of 5 ms the database's thread waited
for the event loop after every statement (64 single rows took 177 ms under load); with a very short one the two threads
take turns instead of working. In one short run each: 0.3 ms accepted 4,400 a second and
delivered 1,120, 1 ms 3,900 and 1,360; the value between them was not compared."""

_GARBAGE_AFTER: Final = (20_000, 20, 50)
"""When cycles are looked for. Requests make few, and each look costs milliseconds in which nobody is answered."""

_UPKEEP_S: Final = 2.0
_FIGURES_S: Final = 1.0
_CLOCK_S: Final = 30.0
_SURVEY_S: Final = 10.0


class NotStarted(GatewayError):
    """The gateway cannot start; the message says what to do about it."""


class Room:
    """Whether there is room for more deliveries: the store's count, a second old at most."""

    def __init__(self, store: Store, most: int, log: Any) -> None:
        self._store = store
        self._most = most
        self._log = log
        self._waiting = 0

    def __call__(self) -> bool:
        """Say whether one more may wait."""
        return self._waiting < self._most

    async def watch(self) -> None:
        """Keep counting until cancelled."""
        while True:
            try:
                self._waiting = await self._store.waiting()
            except StoreUnavailable as error:
                self._log.warning("count_failed", error=str(error))
            await asyncio.sleep(_FIGURES_S)


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that is put together."""

    settings: Settings
    store: SqlStore
    renderer: Renderer
    providers: Providers
    accepting: Accepting
    explaining: Explaining
    changes: Changes
    dispatcher: Dispatcher
    upkeep: Upkeep
    room: Room
    authentication: Authentication
    hub: CapturedHub
    unsubscribe_links: UnsubscribeLinks
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


async def _assemble(settings: Settings, store: SqlStore, clock: Clock, metrics: Metrics) -> Gateway:
    log = get_logger("gateway")
    id_source = IdSource()
    rules = Rules.build(settings)
    renderer = await _renderer(settings, store, clock, log)
    providers = _providers(settings, rules, clock, log)
    staging = Staging(settings.environment, settings.staging)
    secret = _secret(settings)
    links = UnsubscribeLinks(secret, settings.public_url)
    composer = Composer(
        renderer=renderer,
        rules=rules,
        store=store,
        unsubscribe_url=links.url,
        sender=_sender(settings),
        destinations=_destinations(settings),
    )
    deliver = Deliver(
        store=store,
        rules=rules,
        providers=providers,
        composer=composer,
        staging=staging,
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
    callers = Callers()
    dispatcher = Dispatcher(
        worker=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        store=store,
        deliver=deliver,
        providers=providers,
        rules=rules,
        raw=raw,
        clock=clock,
        id_source=id_source,
        lease_ms=settings.server.lease_s * 1000,
        poll_ms=int(settings.server.poll_s * 1000),
        on_settled=_settled(metrics, hub),
        callers=callers,
        log=log,
    )
    resolver = Resolver(rules=rules, renderer=renderer, limits=settings.limits, senders=_senders(settings))
    room = Room(store, settings.limits.waiting, log)
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
        on_accepted=lambda mode, count: metrics.accepted(mode.value, count),
    )
    explaining = Explaining(
        store=store,
        resolver=resolver,
        accepting=accepting,
        rules=rules,
        providers=providers,
        composer=composer,
        staging=staging,
        raw=raw,
        clock=clock,
        secret=secret,
    )
    return Gateway(
        settings=settings,
        store=store,
        renderer=renderer,
        providers=providers,
        accepting=accepting,
        explaining=explaining,
        changes=Changes(store=store, rules=rules, dispatcher=dispatcher, clock=clock, id_source=id_source),
        dispatcher=dispatcher,
        upkeep=Upkeep(
            store=store,
            retention=settings.retention,
            limits=settings.limits,
            clock=clock,
            every_s=_UPKEEP_S,
            log=log,
        ),
        room=room,
        authentication=Authentication(store, settings.limits, settings.bootstrap_key),
        hub=hub,
        unsubscribe_links=links,
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


def _providers(settings: Settings, rules: Rules, clock: Clock, log: Any) -> Providers:
    registry = Registry.load()
    breakers = {name: rule.settings.breaker for rule in rules.channels.values() for name in rule.providers}
    handles: list[ProviderHandle] = []
    for name, provider in settings.providers.items():
        tools = Tools(
            provider=name,
            now=lambda: clock() / 1000,
            log=log.bind(provider=name).debug,
            random=random.random,
        )
        adapter = registry.build(provider, tools)
        limits = adapter.limits
        rate = provider.rate or (None if limits.rate is None else Rate.parse(limits.rate))
        handles.append(
            ProviderHandle(
                name=name,
                adapter=adapter,
                breaker=Breaker(breakers.get(name, BreakerSettings()), concurrency=limits.concurrency),
                gate=Gate(limits.concurrency),
                pace=None if rate is None else provider_pace(rate),
                receipts=limits.receipts,
                idempotent=limits.idempotent,
            ),
        )
    return Providers(handles, {name: rule.providers for name, rule in rules.channels.items()})


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


def _settled(metrics: Metrics, hub: CapturedHub) -> Callable[[Claimed, Settlement], None]:
    def on_settled(claim: Claimed, settlement: Settlement) -> None:
        reason = None if settlement.reason is None else settlement.reason.value
        metrics.delivery(claim.channel, settlement.status.value, reason)
        if settlement.captured is not None:
            hub.announce()

    return on_settled


def _secret(settings: Settings) -> bytes:
    """Find the key that signs links and hides addresses; one is made and kept beside the database if none is given."""
    if settings.secret_key is not None:
        return settings.secret_key.reveal().encode()
    return kept_secret(state_folder(settings) / "secret.key", lambda: secrets.token_urlsafe(48)).encode()


def _sender(settings: Settings) -> str:
    """Name a sender where none is configured, so that a gateway without a file shows whole messages."""
    host = urlsplit(settings.public_url).hostname or "localhost"
    domain = "localhost" if host.replace(".", "").isdigit() or ":" in host else host
    return f"{settings.templates.product} <no-reply@{domain}>"


def _destinations(settings: Settings) -> dict[tuple[str, str], str]:
    """Read what stands behind each configured name: its one address, whatever the adapter calls it."""
    found: dict[tuple[str, str], str] = {}
    for channel, names in settings.destinations.items():
        for name, keys in names.items():
            for value in list(keys.values())[:1]:
                found[channel, name] = value.reveal() if isinstance(value, Secret) else value
    return found


def _senders(settings: Settings) -> list[EmailPattern]:
    email = settings.channels.get("email", ChannelSettings())
    written = [*email.senders]
    if email.sender is not None:
        written.append(parse_mailbox("sender", email.sender).address)
    patterns = [parse_pattern(one) for one in written]
    return [one for one in patterns if isinstance(one, EmailPattern)]


# --- running ---


def serve(settings: Settings, *, host: str, port: int, work: bool, banner: Callable[[int], None] | None = None) -> int:
    """Run the API, and the dispatcher unless `work` is off, until a signal; answers the exit code.

    `banner` is called with the port once requests are answered. The first signal stops gently, the second at once.
    """
    return _run(_serve(settings, host=host, port=port, work=work, banner=banner))


def work(settings: Settings) -> int:
    """Run the dispatcher alone until a signal; answers the exit code."""
    return _run(_work(settings))


def _run(main: Coroutine[Any, Any, int]) -> int:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    work: bool,
    banner: Callable[[int], None] | None,
) -> int:
    configure_logging(settings.logging)
    listener = _listen(host, port)
    async with open_gateway(settings) as gateway:
        _settle_memory()
        server = _Server(_uvicorn(settings, api(gateway, works=work)), banner)

        def stop() -> None:
            server.stop()
            gateway.hub.close()  # who waits for a captured message would use up the time to drain

        with _on_signal(stop):
            async with working(gateway, work=work):
                await server.serve(sockets=[listener])
    return 0


def _settle_memory() -> None:
    """Take what was built at the start out of every later look for garbage: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_AFTER)


async def _work(settings: Settings) -> int:
    configure_logging(settings.logging)
    async with open_gateway(settings) as gateway:
        _settle_memory()
        stopped = asyncio.Event()
        with _on_signal(stopped.set):
            async with working(gateway, work=True):
                gateway.log.info("working", environment=settings.environment.value)
                await stopped.wait()
    return 0


@contextlib.asynccontextmanager
async def working(gateway: Gateway, *, work: bool) -> AsyncGenerator[None]:
    """Run what runs beside the API; on the way out what is in flight is finished or given back."""
    loops: list[Coroutine[Any, Any, None]] = [gateway.room.watch(), _survey(gateway)]
    if not gateway.settings.database.reveal().startswith("sqlite"):
        loops.append(_follow_clock(gateway))
    if work:
        loops.append(gateway.upkeep.run())
    tasks = [asyncio.create_task(one) for one in loops]
    dispatching = asyncio.create_task(gateway.dispatcher.run()) if work else None
    try:
        yield
    finally:
        if dispatching is not None:
            await gateway.dispatcher.stop(gateway.settings.server.drain_s)
            await dispatching
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await gateway.authentication.flush_used()


async def _survey(gateway: Gateway) -> None:
    """Bring slow figures up to date: queue depths, providers' health, when keys were last used."""
    while True:
        try:
            now = gateway.clock()
            gateway.metrics.queue(await gateway.store.depths(now), now)
            await gateway.authentication.flush_used()
        except StoreUnavailable as error:
            gateway.log.warning("survey_failed", error=str(error))
        for handle in gateway.providers.all():
            healthy = handle.breaker.until is None
            gateway.metrics.provider_health(handle.name, handle.adapter.kind, healthy=healthy)
        await asyncio.sleep(_SURVEY_S)


async def _follow_clock(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_CLOCK_S)
        with contextlib.suppress(StoreUnavailable):
            await gateway.clock.follow(gateway.store.now_ms)


def api(gateway: Gateway, *, works: bool = False) -> AsgiApp:
    """Build the API over a gateway; with `works`, it is ready only while the dispatcher runs too."""

    async def ready() -> str | None:
        if works and not gateway.dispatcher.healthy:
            return "the dispatcher is not running"
        return await gateway.store.ready()

    settings = gateway.settings
    return create_app(
        ApiContext(
            settings=settings,
            store=gateway.store,
            authentication=gateway.authentication,
            accepting=gateway.accepting,
            explaining=gateway.explaining,
            changes=gateway.changes,
            renderer=gateway.renderer,
            metrics=gateway.metrics,
            limiter=KeyLimiter(),
            captured_hub=gateway.hub,
            unsubscribe_links=gateway.unsubscribe_links,
            reports=gateway.reports,
            clock=gateway.clock,
            ids=gateway.id_source,
            log=gateway.log,
            ready=ready,
        ),
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would raise the signal again, and a gentle stop must exit with 0."""

    def __init__(self, config: uvicorn.Config, banner: Callable[[int], None] | None) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets)
        if self.started and self._banner is not None and sockets:
            self._banner(sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Finish the requests that are open, and end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the bootstrap."""
        yield


def _uvicorn(settings: Settings, app: AsgiApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.server.trusted_proxies),
        forwarded_allow_ips=settings.server.trusted_proxies,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.server.drain_s,
        backlog=2048,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise NotStarted(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)  # noqa: FBT003 - the socket API's own signature
    return listener


@contextlib.contextmanager
def _on_signal(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)

    def first(which: signal.Signals) -> None:
        for one in caught:
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)
        del which
        stop()

    for one in caught:
        loop.add_signal_handler(one, first, one)
    try:
        yield
    finally:
        for one in caught:
            loop.remove_signal_handler(one)
