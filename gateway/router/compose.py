"""From a claimed delivery to a message an adapter can send.

Owns how request, recipient, template and overrides become one `Message`. `deliver` and `explain` run this same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from channels.contract import Attachment, Content, Message
from gateway.model import ids
from gateway.model.inbox import INBOX
from gateway.model.requests import ContentRequest, EmailOverrides
from gateway.render.digest import Item
from gateway.render.renderer import Person, Renderer
from gateway.render.source import decode as decode_template
from gateway.render.template import Template
from gateway.router.answers import utc
from gateway.router.rules import CategoryRule, Rules, said_in
from gateway.storage.contract import AttachmentRow, Claimed, DigestItem, Gathered, Store

CONTENT_KEY: Final = "_content"
"""The key under which the layouts of `content` requests are pinned, as if they were a template."""


_SEVERAL: Final = 2


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What of a stored request the message needs. Reads more leniently than the API: old rows must stay readable."""

    content: ContentRequest | None = None
    data: dict[str, Any] = {}
    overrides: dict[str, dict[str, Any] | None] | None = None
    """By channel, as they were written: the adapter that brought a channel may be gone by now."""
    tags: tuple[str, ...] = ()
    collapse_key: str | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    digest_key: str | None = None


class Addressee(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a delivery is for: the part of a recipient that is not the address. Stored on the delivery."""

    user: str | None = None
    name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    data: dict[str, Any] | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a message is made from; `explain` makes one without a stored delivery."""

    delivery_id: UUID
    channel: str
    address: str
    addressee: Addressee
    request: Stored
    template: Template
    category: CategoryRule
    reference: str | None
    created_at: int
    deadline_at: int
    attachments: tuple[AttachmentRow, ...] = ()
    items: tuple[Item, ...] = ()
    """The messages that it carries, itself included, where it is a digest: the newest of `count`."""
    count: int = 1


class MessageLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where the reader of a message can leave its category, and choose what they get: whole URLs."""

    unsubscribe: str
    preferences: str


class Composer:
    """Builds messages. Holds the renderer and the store (for pinned templates and attachments).

    `destinations`: by channel and configured name, the address that stands behind it; often a secret.
    """

    def __init__(
        self,
        *,
        renderer: Renderer,
        rules: Rules,
        store: Store,
        links: MakeLinks,
        sender: str,
        destinations: Mapping[tuple[str, str], str],
    ) -> None:
        self._renderer = renderer
        self._rules = rules
        self._store = store
        self._links = links
        self._sender = sender
        self._destinations = destinations
        self._requests = _Recent(_DECODE_STORED)
        self._files = _Files(store.attachments)
        self._addressees = msgspec.json.Decoder(Addressee)

    async def subject(self, claim: Claimed, category: CategoryRule) -> Subject:
        """Read a claimed delivery; loads what is not in the claim (a template's old version, attachments)."""
        files = await self._files.of(claim.notification_id) if claim.has_attachments else ()
        return Subject(
            delivery_id=claim.id,
            channel=claim.channel,
            address=claim.address,
            addressee=self._addressees.decode(claim.recipient),
            request=self._requests.get(claim.notification_id, claim.request),
            template=await self.template(claim.template_version or ""),
            category=category,
            reference=claim.reference,
            created_at=claim.notification_created_at,
            deadline_at=claim.deadline_at,
            attachments=files,
        )

    def request(self, claim: Claimed) -> Stored:
        """Read what was asked for."""
        return self._requests.get(claim.notification_id, claim.request)

    def addressee(self, claim: Claimed) -> Addressee:
        """Read whom it is for."""
        return self._addressees.decode(claim.recipient)

    async def gathered(self, subject: Subject, found: Gathered) -> Subject:
        """Make one message's subject that of a digest. What retention has taken, or no template knows, is left out."""
        made = [await self._item(subject, one) for one in found.items]
        return msgspec.structs.replace(subject, items=tuple(one for one in made if one is not None), count=found.count)

    async def _item(self, subject: Subject, one: DigestItem) -> Item | None:
        try:
            template = await self.template(one.template_version or "")
        except LookupError:
            return None
        if one.request is None:
            return None
        request, who = self._requests.get(one.notification_id, one.request), self._addressees.decode(one.recipient)
        return self._renderer.item(
            template=template,
            content=request.content,
            channel=subject.channel,
            data=_merged(request.data, who.data),
            person=Person(name=who.name, locale=who.locale, timezone=who.timezone),
            category=subject.category.name,
            reference=one.reference,
            created_at=utc(one.created_at),
        )

    async def template(self, version: str) -> Template:
        """Find a pinned version in memory or in the store; raises `LookupError` when neither has it."""
        found = self._renderer.find(version)
        if found is not None:
            return found
        source = await self._store.template(version)
        if source is None:
            raise LookupError(f"template version {version} is not kept any more")
        return self._renderer.add(decode_template(source))

    def chosen_sender(self, subject: Subject) -> str | None:
        """Say which sender the caller or the channel's configuration names, for channels other than e-mail."""
        own = _own_terms(subject).get("from")
        return own if isinstance(own, str) and own else self._rules.channels[subject.channel].sender

    def message(self, subject: Subject, *, attempt: int, links_for: str | None = None) -> Message:
        """Render and address one message, its try number `attempt`. Pure but for caches; raises `RenderFailed`.

        `links_for`: the address whose links it carries instead of the recipient's, where it is redirected there.
        """
        who = subject.addressee
        own = _own_terms(subject)
        email = msgspec.convert(own, EmailOverrides) if subject.channel == "email" and own else None
        links = self._links_in(subject, links_for)
        content = self._digest(subject, links) or self._renderer.render(
            template=subject.template,
            content=subject.request.content,
            channel=subject.channel,
            data=_merged(subject.request.data, who.data),
            person=Person(name=who.name, locale=who.locale, timezone=who.timezone),
            category=subject.category.name,
            reference=subject.reference,
            unsubscribe_url=None if links is None else links.unsubscribe,
            preferences_url=None if links is None else links.preferences,
            subject=None if email is None else email.subject,
        )
        if subject.channel == INBOX:
            content = self._renderer.for_inbox(content)
        options = _options(subject, own)
        sender = self._rules.channels[subject.channel].sender
        if email is not None:
            options = _mail_terms(email)
            sender = email.from_ or sender
        if sender is None and subject.channel == "email":
            sender = self._sender
        if links is not None:
            options["list_unsubscribe"] = links.unsubscribe
        name = ids.show(ids.DELIVERY, subject.delivery_id)
        return Message(
            id=name,
            kind=subject.channel,
            to=self._destinations.get((subject.channel, subject.address), subject.address),
            to_name=who.name,
            sender=sender,
            content=_with_files(content, subject.attachments),
            attempt=attempt,
            idempotency_key=name,
            created_at=subject.created_at / 1000,
            expires_at=subject.deadline_at / 1000,
            category=subject.category.name,
            tags=subject.request.tags,
            options=options,
        )

    def _links_in(self, subject: Subject, links_for: str | None) -> MessageLinks | None:
        """Write the links of a message whose category can be left; none may promise what `required` would break."""
        settings = subject.category.settings
        if not settings.unsubscribe or settings.required:
            return None
        if links_for is not None:
            nobody = msgspec.structs.replace(subject.addressee, user=None)
            subject = msgspec.structs.replace(subject, address=links_for, addressee=nobody)
        return self._links(subject)

    def _digest(self, subject: Subject, links: MessageLinks | None) -> Content | None:
        """Render several messages as one; `None` where it is only itself."""
        who, category = subject.addressee, subject.category
        if len(subject.items) < _SEVERAL:
            return None
        return self._renderer.digest(
            items=subject.items,
            count=subject.count,
            channel=subject.channel,
            person=Person(name=who.name, locale=who.locale, timezone=who.timezone),
            category=category.name,
            described=said_in(who.locale or "", category.settings.description),
            unsubscribe_url=None if links is None else links.unsubscribe,
            preferences_url=None if links is None else links.preferences,
        )


def shown_until(subject: Subject) -> int | None:
    """Say after which moment (Unix ms) a message means nothing any more, as its request or its category says."""
    request, after_ms = subject.request, subject.category.expires_after_ms
    start = max(subject.created_at, 0 if request.send_at is None else int(request.send_at.timestamp() * 1000))
    ends = [] if request.expires_at is None else [int(request.expires_at.timestamp() * 1000)]
    return min([*ends, *([] if after_ms is None else [start + after_ms])], default=None)


MakeLinks = Callable[[Subject], MessageLinks]

_DECODE_STORED: Final = msgspec.json.Decoder(Stored).decode


def _own_terms(subject: Subject) -> dict[str, Any]:
    """Read what the caller said in the channel's own terms."""
    return (subject.request.overrides or {}).get(subject.channel) or {}


def _options(subject: Subject, own: dict[str, Any]) -> dict[str, Any]:
    """Make one message's options of its channel's own terms: a copy, as the terms are shared by all recipients."""
    if subject.channel == "email":
        return {}  # e-mail's have types and are read by name
    alone = len(subject.items) < _SEVERAL  # a digest replaces nothing that one of its messages would have replaced
    return (
        {"collapse_key": subject.request.collapse_key, **own} if subject.request.collapse_key and alone else dict(own)
    )


def _mail_terms(email: EmailOverrides) -> dict[str, Any]:
    terms: dict[str, Any] = {
        "cc": email.cc,
        "bcc": email.bcc,
        "reply_to": email.reply_to,
        "headers": email.headers,
    }
    if email.template is not None:
        terms["template"] = {"id": email.template.id, "variables": email.template.variables}
    return {**terms, "metadata": email.metadata} if email.metadata else terms


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return shared if not own else {**shared, **own}


def _with_files(content: Content, files: tuple[AttachmentRow, ...]) -> Content:
    if not files:
        return content
    return msgspec.structs.replace(
        content,
        attachments=tuple(
            Attachment(
                filename=one.filename,
                content_type=one.content_type,
                content=one.content,
                content_id=one.content_id,
            )
            for one in files
        ),
    )


class _Recent:
    """The last few stored requests, decoded: a thousand recipients share one request."""

    _MOST: Final = 256
    _LARGEST_BYTES: Final = 65_536
    """A larger one is decoded each time: together they stay below 16 MiB."""

    def __init__(self, decode: Callable[[bytes], Stored]) -> None:
        self._decode = decode
        self._known: dict[UUID, Stored] = {}

    def get(self, id_: UUID, raw: bytes) -> Stored:
        found = self._known.get(id_)
        if found is None:
            found = self._decode(raw)
            if len(raw) > self._LARGEST_BYTES:
                return found
            if len(self._known) >= self._MOST:
                del self._known[next(iter(self._known))]
            self._known[id_] = found
        return found


class _Files:
    """The files of the notifications sent last: a thousand recipients share one copy, and it is loaded once."""

    _MOST_BYTES: Final = 33_554_432
    """Together; the latest is kept whatever its size, and one request carries at most `attachment_body_bytes`."""

    def __init__(self, load: Callable[[UUID], Coroutine[Any, Any, tuple[AttachmentRow, ...]]]) -> None:
        self._load = load
        self._loading: dict[UUID, asyncio.Task[tuple[AttachmentRow, ...]]] = {}
        self._known: dict[UUID, tuple[AttachmentRow, ...]] = {}

    async def of(self, id_: UUID) -> tuple[AttachmentRow, ...]:
        found = self._known.get(id_)
        if found is not None:
            return found
        loading = self._loading.get(id_)
        if loading is None:
            loading = self._loading[id_] = asyncio.create_task(self._load(id_))
            loading.add_done_callback(lambda task: self._loaded(id_, task))
        # Whoever is cancelled leaves the others their answer.
        return await asyncio.shield(loading)

    def _loaded(self, id_: UUID, task: asyncio.Task[tuple[AttachmentRow, ...]]) -> None:
        del self._loading[id_]
        if task.cancelled() or task.exception() is not None:
            return
        self._known[id_] = task.result()
        while len(self._known) > 1 and sum(map(_bytes_of, self._known.values())) > self._MOST_BYTES:
            del self._known[next(iter(self._known))]


def _bytes_of(files: tuple[AttachmentRow, ...]) -> int:
    return sum(len(one.content) for one in files)
