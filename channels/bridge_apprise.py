"""Any of Apprise's services, by a URL from the configuration: the adapter `bridge_apprise`.

Owns the thread that Apprise's blocking code runs in, its time limit, and the place of the recipient in the URL. Refuses
to know any service, and to take a URL from anybody but the operator: a caller's address may only fill in `{to}`.

    [providers.matrix]
    use = "bridge_apprise"
    channel = "slack"
    url = { env = "APPRISE_URL" }            # matrixs://user:password@example.com/{to}
    schemas = ["matrixs"]

Apprise (https://github.com/caronc/apprise) answers true or false and nothing else. False may mean that a name did not
resolve, that the service refused, or that the answer to a message which arrived was lost: so every failure of its is
`Unknown`, never "not sent", and nothing fails over from it. What never reached Apprise is told apart and tried again.

It is an extra, as it brings a dozen packages: `pip install 'notification-gateway[apprise]'`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from msgspec import Meta

from channels.contract import (
    Accepted,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Tools,
    Unknown,
)

__all__ = ["AppriseChannel", "AppriseSettings"]

_TO: Final = "{to}"
_ADDRESS: Final = re.compile(r"[#!@+]?[A-Za-z0-9_-][A-Za-z0-9@+._:-]{0,318}").fullmatch
"""What may stand in for `{to}`. No slash, comma, question mark, ampersand or per cent, and no dot in front: each of
them would begin another target, another option or another folder."""
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]+)", re.IGNORECASE).match
_MISSING: Final = "the package apprise is not installed: pip install 'notification-gateway[apprise]'"
_PROBE: Final = "probe"
_LOGGERS: Final = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")
"""Who would write URLs, and with them tokens, into our log. The outcome says what is worth knowing."""


class AppriseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place, or one service whose recipients fill in `{to}`."""

    url: str
    """As Apprise writes it. `{to}` behind the host stands for the recipient's address; without it every message of the
    channel goes to the one place the URL names, whoever it was addressed to."""
    schemas: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]
    """Which of Apprise's schemas `url` may have: a secret that was mixed up must not open another door (`file`, a
    desktop's message bus, somebody else's service)."""
    channel: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=40)] = "slack"
    """Which channel it serves."""
    connections: Annotated[int, Meta(ge=1, le=64)] = 4
    """Messages at once; each takes a thread."""
    connect_timeout_s: Annotated[float, Meta(gt=0, le=120)] = 5.0
    read_timeout_s: Annotated[float, Meta(gt=0, le=300)] = 15.0
    total_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """After this the answer counts as lost. The thread is left to end by itself, and keeps its place until it does."""

    def __repr__(self) -> str:
        """Leave the URL out: it holds tokens."""
        return f"AppriseSettings(channel={self.channel!r}, schemas={self.schemas!r}, url='****')"

    __str__ = __repr__


class AppriseOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Apprise takes nothing beside title, text and files: any override is a fault."""


class AppriseChannel:
    """Hands messages to Apprise, a thread each."""

    kind: str = "slack"
    Settings: ClassVar[type[msgspec.Struct]] = AppriseSettings
    Overrides: ClassVar[type[msgspec.Struct]] = AppriseOverrides

    def __init__(self, settings: AppriseSettings, tools: Tools) -> None:
        self._apprise = library()
        _refuse_what_cannot_work(settings)
        self._settings = settings
        self._asset = _quiet_asset(self._apprise)
        probe = self._service(_PROBE)
        if probe is None:
            raise SettingsFault("url", "Apprise cannot read it, or lacks what this service needs")
        self.kind = settings.channel
        self._takes_files = bool(probe.attachment_support)
        self.limits = Limits(attachments=self._takes_files, concurrency=settings.connections)
        self._places = threading.BoundedSemaphore(settings.connections)
        self._log = tools.log

    async def send(self, message: Message) -> Outcome:
        """Let Apprise try once. Never raises for what it does; safe to call concurrently.

        A cancelled call leaves its thread behind, which ends by its own time limits: Python cannot stop a thread.
        """
        if _TO in self._settings.url and not _ADDRESS(message.to):
            return Rejected(Reason.INVALID_ADDRESS, "this address cannot stand in a URL of Apprise's")
        if not _body(message):
            return Rejected(Reason.MESSAGE_INVALID, "there is nothing to say: no text and no title")
        if not await self._enter():
            return Retry(Reason.PROVIDER_DOWN, detail="every place is taken by a call that has not ended")
        done = _start(lambda: self._notify(message), self._places.release)
        try:
            async with asyncio.timeout(self._settings.total_timeout_s):
                return await done
        except TimeoutError:
            return Unknown(Reason.TIMED_OUT, f"Apprise has not ended within {self._settings.total_timeout_s:g} s")

    async def aclose(self) -> None:
        """Do nothing: nothing stays open between two messages."""

    async def _enter(self) -> bool:
        """Take a place. The gateway gives no more messages than places, so this waits only for abandoned threads."""
        waited_s, step_s = 0.0, 0.02
        while not self._places.acquire(blocking=False):
            if waited_s >= self._settings.connect_timeout_s:
                return False
            await asyncio.sleep(step_s)
            waited_s += step_s
        return True

    def _notify(self, message: Message) -> Outcome:
        """Run in a thread of its own."""
        try:
            service = self._service(message.to)
            if service is None:
                return Rejected(Reason.INVALID_ADDRESS, "Apprise makes no service of this address")
            files = [
                self._apprise.attachment.memory.AttachMemory(
                    content=one.content, name=one.filename, mimetype=one.content_type
                )
                for one in message.content.attachments
                if self._takes_files
            ]
            sender = self._apprise.Apprise(asset=self._asset)
            sender.add(service)
        except Exception as error:  # noqa: BLE001 - nothing was sent yet, whatever a hundred services may raise
            return Retry(Reason.RETRY, detail=f"Apprise could not begin: {type(error).__name__}")
        try:
            taken = bool(
                sender.notify(
                    body=_body(message),
                    title=message.content.subject or "",
                    body_format=self._apprise.NotifyFormat.HTML if message.content.html else None,
                    attach=files or None,
                )
            )
        except Exception as error:  # noqa: BLE001 - as above, but now it may be out
            return Unknown(Reason.TIMED_OUT, f"Apprise raised {type(error).__name__}")
        if taken:
            return Accepted(detail="Apprise says it was sent")
        return Unknown(Reason.TIMED_OUT, "Apprise says that it failed, and not whether anything was sent")

    def _service(self, to: str) -> Any | None:
        """Make a service for one message: one that is shared would sleep between two messages to throttle itself."""
        settings = self._settings
        url = settings.url.replace(_TO, quote(to, safe=""))
        service = self._apprise.Apprise.instantiate(url, asset=self._asset)
        if service is not None:
            service.request_rate_per_sec = 0.0  # `rate` of the gateway's own settings does that, without a sleep
            service.retry = 0
            service.redirects = False
            service.socket_connect_timeout = settings.connect_timeout_s
            service.socket_read_timeout = settings.read_timeout_s
        return service


def _body(message: Message) -> str:
    content = message.content
    return content.html or content.text or content.subject or ""


def _start(work: Callable[[], Outcome], leave: Callable[[], None]) -> asyncio.Future[Outcome]:
    """Run `work` in a thread that keeps no process from ending, and call `leave` when it is over."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome) -> None:
        if not done.done():  # nobody waits any more: timed out or cancelled
            done.set_result(outcome)

    def run() -> None:
        try:
            outcome = work()
        finally:
            leave()
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:
            return  # the loop has ended before the thread

    threading.Thread(target=run, name="apprise", daemon=True).start()
    return done


def library(load: Callable[[str], Any] = importlib.import_module) -> Any:
    """Import Apprise when somebody uses it, and silence it. Raises `SettingsFault` where it is not installed."""
    try:
        load("apprise.attachment.memory")
        found = load("apprise")
    except ImportError:
        raise SettingsFault("", _MISSING) from None
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    return found


def _quiet_asset(apprise: Any) -> Any:
    """Take away what Apprise would do beside sending: files, keys, retries, redirects, threads and escapes."""
    asset = apprise.AppriseAsset(storage_mode=apprise.PersistentStoreMode.MEMORY, secure_logging=True)
    asset.async_mode = False
    asset.http_redirects = False
    asset.interpret_emojis = False
    asset.interpret_escapes = False  # a caller's `\n` stays what it is
    asset.pgp_autogen = False
    asset.pem_autogen = False
    asset.default_service_retry = 0
    return asset


def _refuse_what_cannot_work(settings: AppriseSettings) -> None:
    found = _SCHEME(settings.url)
    if found is None:
        raise SettingsFault("url", "write schema://…, as Apprise's pages show it")
    scheme = found[1].lower()
    if scheme not in {one.lower().removesuffix("://") for one in settings.schemas}:
        raise SettingsFault("url", f"its schema {scheme} is not among `schemas`")
    if _TO in found[0]:
        raise SettingsFault("url", "{to} may stand behind the host only: no caller chooses where we sign in")
