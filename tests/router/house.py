"""The router put together over a real store, with adapters that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from channels.contract import Accepted, Limits, Message, Outcome
from gateway.config.load import load
from gateway.config.settings import LimitSettings, Settings
from gateway.middleware.breaker import Breaker
from gateway.middleware.rate_limit import Pace
from gateway.middleware.staging import Staging
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.requests import SendRequest
from gateway.model.states import Mode, Priority, Scope, lane_of
from gateway.observe.logging import get_logger
from gateway.registry import Registry
from gateway.render import source
from gateway.render.renderer import Renderer
from gateway.router.accept import Accepting
from gateway.router.batches import MOST, Batches
from gateway.router.caller import Caller
from gateway.router.catalogue import Catalogue
from gateway.router.compose import Composer, MessageLinks
from gateway.router.consenting import Consenting
from gateway.router.deliver import Deliver, Envelope
from gateway.router.dispatch import Callers, Dispatcher
from gateway.router.events import EventComposer
from gateway.router.gate import Gate
from gateway.router.often import NotTooOften
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.resolve import Resolver
from gateway.router.rules import Rules
from gateway.router.simulate import Simulator
from gateway.router.spending import Spending
from gateway.router.vault import Vault
from gateway.storage.contract import Claimed, DeliveryView, Lease, Settlement
from gateway.storage.store import SqlStore
from tests.support.clock import StandingClock
from tests.support.gateway import merged, write_config
from tests.support.patience import PATIENCE_S

CALLER = Caller(key_id=UUID(int=9), name="test", project="default", mode=Mode.LIVE, scopes=frozenset(Scope))


class Between:
    """A store with something between it and its caller: what a subclass does not say goes to the real one."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Scripted:
    """An adapter that answers by script (the last answer stays), as soon as `open` is set."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, *script: Outcome | Exception, concurrency: int = 8, idempotent: bool = False) -> None:
        self.script = script or (Accepted("ok"),)
        self.limits = Limits(concurrency=concurrency, idempotent=idempotent)
        self.seen: list[Message] = []
        self.now_in = 0
        self.most_in = 0
        self.open = asyncio.Event()
        self.open.set()
        self.watch: Callable[[], None] = lambda: None

    async def send(self, message: Message) -> Outcome:
        answer = self.script[min(len(self.seen), len(self.script) - 1)]
        self.seen.append(message)
        self.now_in += 1
        self.most_in = max(self.most_in, self.now_in)
        self.watch()
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.now_in -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        pass

    def counts(self) -> Counter[str]:
        return Counter(message.id for message in self.seen)


@dataclass
class House:
    """All the parts."""

    store: Any
    clock: Any
    rules: Rules
    providers: Providers
    deliver: Deliver
    dispatcher: Dispatcher
    accepting: Accepting
    settled: list[Settlement] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    async def send(self, address: str = "ada@example.com", **more: Any) -> str:
        """Accept one; answers the delivery's id."""
        [id_] = await self.send_many([address], **more)
        return id_

    async def send_many(self, addresses: Sequence[str], **more: Any) -> list[str]:
        """Accept a list; answers the deliveries' ids."""
        wanted = {"to": [{"email": one} for one in addresses], "content": {"title": "Hello"}, **more}
        raw = msgspec.json.encode(wanted)
        request = msgspec.json.decode(raw, type=SendRequest)
        answer = await self.accepting.send(CALLER, request, idempotency_key=None, body=raw)
        return [one["id"] for one in msgspec.json.decode(answer.body)["deliveries"]]

    async def claim(
        self, *, worker: str = "w", lease_ms: int = 60_000, priority: Priority = Priority.NORMAL
    ) -> Claimed:
        """Claim the one delivery that is due."""
        lease = Lease(worker=worker, until=self.clock() + lease_ms)
        [claim] = await self.store.claim({lane_of("email", priority): 5}, lease, self.clock())
        return claim

    def envelope(self, claim: Claimed, *, lease_ms: int = 60_000) -> Envelope:
        """Put a claim in an envelope."""
        until = self.clock() + lease_ms
        return self.deliver.envelope(claim, lease_until=lambda: until)

    async def view(self, id_: str) -> DeliveryView:
        """Read a delivery."""
        found = await self.store.delivery(None, ids.read(ids.DELIVERY, id_))
        assert found is not None
        return found


async def at_once(_: float) -> None:
    """Pause for no time at all."""


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    *adapters: Scripted,
    clock: Any = None,
    pace: Pace | None = None,
    lease_ms: int = 60_000,
    poll_ms: int = 20,
    wrap: Callable[[SqlStore], Any] = lambda store: store,
    database: str | None = None,
    pausing: Callable[[float], Awaitable[None]] = at_once,
    **settings: Any,
) -> AsyncIterator[House]:
    """Put the router together. Providers are `p1`, `p2`, … in the order of the adapters."""
    clock = clock or StandingClock()
    names = [f"p{number}" for number in range(1, len(adapters) + 1)]
    config = merged({"environment": "production", "channels": {"email": {}}}, settings)
    made = load(write_config(folder / "gateway.toml", config), {}, Registry.load())
    channel = msgspec.structs.replace(made.channels["email"], providers=names, sender="Shop <shop@example.com>")
    made = msgspec.structs.replace(made, channels={"email": channel})
    real = SqlStore(database or f"sqlite:///{folder}/gateway.db", clock, IdSource())
    await real.open()
    store = wrap(real)
    try:
        yield await _assemble(folder, made, names, adapters, store, clock, pace, lease_ms, poll_ms, pausing)
    finally:
        await real.close()


async def _assemble(
    folder: Path,
    settings: Settings,
    names: list[str],
    adapters: Sequence[Scripted],
    store: Any,
    clock: Any,
    pace: Pace | None,
    lease_ms: int,
    poll_ms: int,
    pausing: Callable[[float], Awaitable[None]],
) -> House:
    log = get_logger("test")
    rules = Rules.build(settings)
    nothing = folder / "no-templates"
    nothing.mkdir(exist_ok=True)
    renderer = Renderer(nothing, default_locale="en", public_url="http://localhost", product="Test")
    renderer.load()
    await store.keep_template(
        renderer.content_source.version, renderer.content_source.key, source.encode(renderer.content_source), clock()
    )
    handles = [
        ProviderHandle(
            name=name,
            adapter=adapter,
            breaker=Breaker(rules.channels["email"].settings.breaker, concurrency=adapter.limits.concurrency),
            gate=Gate(max(adapter.limits.concurrency, min(adapter.limits.batch, MOST))),
            pace=pace,
            batches=_batches(name, adapter, clock, log),
            receipts=False,
            idempotent=adapter.limits.idempotent,
        )
        for name, adapter in zip(names, adapters, strict=True)
    ]
    providers = Providers(handles, {"email": names})
    pauses: list[float] = []
    settled: list[Settlement] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await pausing(seconds)

    composer = Composer(
        renderer=renderer,
        rules=rules,
        store=store,
        links=lambda _: MessageLinks(unsubscribe="https://example.com/u", preferences="https://example.com/p"),
        sender="Shop <shop@example.com>",
        destinations={},
    )
    deliver = Deliver(
        often=NotTooOften(store=store, composer=composer, clock=clock, secret=b"secret"),
        spending=Spending(store=store, clock=clock, observe=lambda *_: None, log=log),
        store=store,
        rules=rules,
        providers=providers,
        composer=composer,
        events=EventComposer(store=store, vault=Vault([b"secret"]), clock=clock, random=lambda: 0.0),
        staging=Staging(settings.environment, settings.staging),
        consenting=Consenting(store=store, rules=rules, clock=clock),
        simulator=Simulator(store, clock, IdSource()),
        clock=clock,
        random=lambda: 0.0,
        secret=b"secret",
        pause=pause,
        observe=lambda *_: None,
        log=log,
    )
    callers = Callers()
    dispatcher = Dispatcher(
        worker="worker-1",
        store=store,
        deliver=deliver,
        providers=providers,
        rules=rules,
        raw=lambda _: b"raw",
        clock=clock,
        id_source=IdSource(),
        lease_ms=lease_ms,
        poll_ms=poll_ms,
        on_settled=lambda _, settlement: settled.append(settlement),
        on_due=lambda _lane: None,
        callers=callers,
        log=log,
    )
    accepting = Accepting(
        store=store,
        resolver=Resolver(
            rules=rules,
            catalogue=Catalogue(renderer=renderer, store=store, log=log),
            renderer=renderer,
            limits=LimitSettings(),
            senders=[],
        ),
        rules=rules,
        dispatcher=dispatcher,
        clock=clock,
        id_source=IdSource(),
        public_url="http://localhost",
        idempotency_ms=86_400_000,
        callers=callers,
        pending_most=2000,
        has_room=lambda: True,
        on_accepted=lambda *_: None,
        on_expansion=lambda: None,
    )
    return House(
        store=store,
        clock=clock,
        rules=rules,
        providers=providers,
        deliver=deliver,
        dispatcher=dispatcher,
        accepting=accepting,
        settled=settled,
        pauses=pauses,
    )


def _batches(name: str, adapter: Scripted, clock: Any, log: Any) -> Batches | None:
    limits = adapter.limits
    if limits.batch == 1:
        return None
    most, parallel = limits.batch, limits.concurrency
    return Batches(adapter, provider=name, most=most, parallel=parallel, clock=clock, log=log)  # type: ignore[arg-type] # those that say `batch` have `send_many`


@contextlib.asynccontextmanager
async def dispatching(place: House, *, drain_s: float = 5) -> AsyncIterator[None]:
    """Run the dispatcher for the time of the context, and stop it gently."""
    running = asyncio.create_task(place.dispatcher.run())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        await place.dispatcher.stop(drain_s)
        await running


async def soon(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to that"
        await asyncio.sleep(0.005)
