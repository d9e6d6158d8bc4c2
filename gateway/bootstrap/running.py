"""From a gateway that is put together to one that runs, and back down: the order of starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
import uvloop

from gateway.api.exchange import AsgiApp
from gateway.bootstrap.assemble import Gateway, api, open_gateway, open_store, signing_secret
from gateway.bootstrap.connections import Connection, house_of
from gateway.bootstrap.family import Family, Life, NotStarted, Place
from gateway.config.settings import Settings
from gateway.observe.logging import configure as configure_logging
from gateway.observe.logging import get_logger
from gateway.observe.siblings import Siblings
from gateway.router.standing import ProviderStatus
from gateway.storage.contract import StoreUnavailable

_SWITCH_INTERVAL_S: Final = 0.0007
"""How long a thread may keep the interpreter while another waits. With the default of 5 ms the database's thread waited
for the event loop after every statement (64 single rows took 177 ms under load); with a very short one the two threads
take turns instead of working. On a quiet machine of two cores 0.7, 1.5 and 3 ms delivered alike, within a noise of
15 %; 0.3 ms accepted more and delivered less."""

_GARBAGE_AFTER: Final = (20_000, 20, 50)
"""When cycles are looked for. Requests make few, and each look costs milliseconds in which nobody is answered."""

_CLOCK_S: Final = 30.0
_SURVEY_S: Final = 10.0
_ATTEND_S: Final = 1.0


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    work: bool,
    processes: int = 1,
    banner: Callable[[int], None] | None = None,
) -> int:
    """Run the API, and the dispatcher unless `work` is off, until a signal; answers the exit code.

    `banner` is called with the port once requests are answered. The first signal stops gently, the second at once.
    Several `processes` share the port and the database.
    """
    announce = banner or _unheard
    listener = _listen(host, port)
    if processes == 1:
        return _run(_serve(settings, listener=listener, work=work, banner=announce))
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:

        def life(place: Place) -> int:
            siblings = Siblings(Path(folder), number=place.number, count=processes)
            process = _serve(settings, listener=listener, work=work, banner=place.is_ready, kin=(place, siblings))
            return _run(process)

        return _family(settings, life, processes, announce)


def work(settings: Settings, *, processes: int = 1) -> int:
    """Run the dispatcher alone until a signal, in as many processes; answers the exit code."""
    if processes == 1:
        return _run(_work(settings))

    def life(place: Place) -> int:
        return _run(_work(settings, place))

    return _family(settings, life, processes, _unheard)


def _unheard(_port: int) -> None:
    """Announce nothing."""


def _family(settings: Settings, life: Life, processes: int, on_ready: Callable[[int], None]) -> int:
    configure_logging(settings.logging)
    # What a first start makes is made before the others look for it.
    asyncio.run(_prepare(settings))
    return Family(life, processes, on_ready=on_ready, log=get_logger("gateway")).run()


async def _prepare(settings: Settings) -> None:
    async with open_store(settings):
        signing_secret(settings)


def _run(main: Coroutine[Any, Any, int]) -> int:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _serve(
    settings: Settings,
    *,
    listener: socket.socket,
    work: bool,
    banner: Callable[[int], None],
    kin: tuple[Place, Siblings] | None = None,
) -> int:
    configure_logging(settings.logging)
    async with open_gateway(settings) as gateway:
        _settle_memory()
        siblings = None if kin is None else kin[1]
        server = _Server(_uvicorn(settings, gateway, api(gateway, works=work, siblings=siblings)), banner)

        def stop() -> None:
            server.stop()
            gateway.hub.close()  # who waits for a captured message would use up the time to drain
            gateway.live_inboxes.close()

        with _on_signal(stop), _on_orphaned(None if kin is None else kin[0], stop):
            async with working(gateway, work=work), _telling(siblings, gateway):
                await server.serve(sockets=[listener])
    return 0


@contextlib.asynccontextmanager
async def _telling(siblings: Siblings | None, gateway: Gateway) -> AsyncGenerator[None]:
    """Tell this process's figures to the others while it serves."""
    if siblings is None:
        yield
        return
    async with siblings.tell(lambda: gateway.metrics.render()[0]):
        yield


@contextlib.contextmanager
def _on_orphaned(place: Place | None, stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` when the parent is gone without having said so."""
    if place is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(place.lifeline)
        stop()

    loop.add_reader(place.lifeline, ended)
    try:
        yield
    finally:
        loop.remove_reader(place.lifeline)


def _settle_memory() -> None:
    """Take what was built at the start out of every later look for garbage: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.enable()  # the command line turned it off for the start
    gc.set_threshold(*_GARBAGE_AFTER)


async def _work(settings: Settings, place: Place | None = None) -> int:
    configure_logging(settings.logging)
    async with open_gateway(settings) as gateway:
        _settle_memory()
        stopped = asyncio.Event()
        with _on_signal(stopped.set), _on_orphaned(place, stopped.set):
            async with working(gateway, work=True):
                gateway.log.info("working", environment=settings.environment.value)
                if place is not None:
                    place.is_ready(0)
                await stopped.wait()
    return 0


@contextlib.asynccontextmanager
async def working(gateway: Gateway, *, work: bool) -> AsyncGenerator[None]:
    """Run what runs beside the API; on the way out what is in flight is finished or given back."""
    with contextlib.suppress(StoreUnavailable):
        await gateway.attending.refresh()  # before anything is delivered: a pause survives a restart
    loops: list[Coroutine[Any, Any, None]] = [
        gateway.room.watch(),
        _survey(gateway),
        _attend(gateway),
        gateway.catalogue.follow(),
        gateway.live_inboxes.run(),
    ]
    if not gateway.settings.database.reveal().startswith("sqlite"):
        loops += [_follow_clock(gateway), gateway.waker.tell()]
        if work:
            loops.append(gateway.waker.hear(gateway.dispatcher.heard))
    if work:
        loops += [gateway.upkeep.run(), gateway.relay.run(), gateway.expander.run()]
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
            for handle, status in await gateway.attending.statuses():
                gateway.metrics.provider_status(handle.name, handle.adapter.kind, status, ProviderStatus)
            await gateway.authentication.flush_used()
        except StoreUnavailable as error:
            gateway.log.warning("survey_failed", error=str(error))
        await asyncio.sleep(_SURVEY_S)


async def _attend(gateway: Gateway) -> None:
    """Hear of pauses and resumptions, and say how the providers fare here."""
    while True:
        try:
            await gateway.attending.refresh()
            await gateway.attending.report()
        except StoreUnavailable as error:
            gateway.log.warning("attending_failed", error=str(error))
        await asyncio.sleep(_ATTEND_S)


async def _follow_clock(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_CLOCK_S)
        with contextlib.suppress(StoreUnavailable):
            await gateway.clock.follow(gateway.store.now_ms)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: it would raise the signal again, and a gentle stop must exit with 0."""

    def __init__(self, config: uvicorn.Config, banner: Callable[[int], None]) -> None:
        super().__init__(config)
        self._banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets)
        if self.started and sockets:
            self._banner(sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Finish the requests that are open, and end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the bootstrap."""
        yield


def _uvicorn(settings: Settings, gateway: Gateway, app: AsgiApp) -> uvicorn.Config:
    connection = partial(
        Connection, house=house_of(settings.limits.connections), request_id=lambda: f"req_{gateway.id_source.token()}"
    )
    return uvicorn.Config(
        app,
        loop="none",
        http=cast("type[Connection]", connection),
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
