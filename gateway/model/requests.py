"""What callers write: the bodies of `API.md`, as types.

The decoder refuses unknown fields by itself; what types cannot say (exactly one of two, a limit that is configured) is
said by `gateway.router.accept`. Lengths that no configuration changes are written here as constraints.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from gateway.model.states import Priority, Strategy

ShortText = Annotated[str, Meta(max_length=255)]
Key = Annotated[str, Meta(min_length=1, max_length=100)]
Line = Annotated[str, Meta(max_length=998)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The shape every request body shares: strict, immutable."""


class Action(Request, frozen=True, kw_only=True):
    """A button."""

    label: Annotated[str, Meta(min_length=1, max_length=80)]
    url: Url


class ContentRequest(Request, frozen=True, kw_only=True):
    """A message without a template, shown natively on every channel. `body` is Markdown."""

    title: Annotated[str, Meta(min_length=1, max_length=500)]
    body: Annotated[str, Meta(max_length=20_000)] = ""
    """Bounded because Markdown is read on the event loop: at this length the worst of it takes milliseconds."""
    url: Url | None = None
    image_url: Url | None = None
    actions: Annotated[list[Action], Meta(max_length=5)] = []


class TemplateChoice(Request, frozen=True, kw_only=True):
    """A template by key, and a version of it: an integer (edited through the API) or `sha256:…` (a folder's)."""

    key: Key
    version: int | str | None = None


class Recipient(Request, frozen=True, kw_only=True):
    """Who: a stored user, a topic, or addresses given on the spot. Keys named as channels are their addresses."""

    user: Key | None = None
    topic: Key | None = None
    email: Annotated[str, Meta(max_length=320)] | None = None
    name: ShortText | None = None
    phone: Annotated[str, Meta(max_length=32)] | None = None
    slack: Url | None = None
    discord: Url | None = None
    teams: Url | None = None
    telegram: ShortText | None = None
    web_push: dict[str, Any] | None = None
    mobile_push: Annotated[str, Meta(max_length=4096)] | None = None
    webhook: Url | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    timezone: Annotated[str, Meta(max_length=64)] | None = None
    data: dict[str, Any] | None = None

    address_keys: ClassVar[tuple[str, ...]] = (
        "email", "phone", "slack", "discord", "teams", "telegram", "web_push", "mobile_push", "webhook",
    )  # fmt: skip
    """Which of these carry addresses; `gateway.model.bodies` adds those of adapters from elsewhere."""


class AttachmentRequest(Request, frozen=True, kw_only=True):
    """A file, base64-coded; `content_id` makes it an inline image."""

    filename: Annotated[str, Meta(min_length=1, max_length=255)]
    content_type: Annotated[str, Meta(min_length=3, max_length=255)]
    content: bytes
    content_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class ProviderTemplate(Request, frozen=True, kw_only=True):
    """A template kept by the e-mail provider: its id or alias there, and what it is filled with.

    The provider's words then take the place of ours. A provider that keeps no templates (SMTP) sends ours, so the
    request's own `template` or `content` is still needed: it is also what the capture inbox and `explain` show.
    """

    id: Annotated[str, Meta(min_length=1, max_length=255)] | int
    variables: Annotated[dict[str, Any], Meta(max_length=200)] = {}


class EmailOverrides(Request, frozen=True, kw_only=True):
    """E-mail's own terms. Structural headers are refused in `headers`."""

    subject: Line | None = None
    from_: Annotated[str, Meta(max_length=998)] | None = msgspec.field(name="from", default=None)
    reply_to: Annotated[str, Meta(max_length=998)] | None = None
    cc: Annotated[list[Annotated[str, Meta(max_length=998)]], Meta(max_length=50)] = []
    bcc: Annotated[list[Annotated[str, Meta(max_length=998)]], Meta(max_length=50)] = []
    headers: Annotated[dict[str, str], Meta(max_length=50)] = {}
    template: ProviderTemplate | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,100}$")], Annotated[str, Meta(max_length=500)]],
        Meta(max_length=10),
    ] = {}
    """Told to the provider, which shows it in its own log and events; the request's `metadata` never leaves."""


ChannelOverrides = Annotated[dict[Annotated[str, Meta(max_length=100)], Any], Meta(max_length=50)]
"""A channel's own terms, read by its adapter, which also says what it takes."""


class Overrides(Request, frozen=True, kw_only=True):
    """Per channel, in that channel's own terms; checked when the request is accepted."""

    email: EmailOverrides | None = None
    slack: ChannelOverrides | None = None
    discord: ChannelOverrides | None = None
    teams: ChannelOverrides | None = None
    telegram: ChannelOverrides | None = None
    sms: ChannelOverrides | None = None
    web_push: ChannelOverrides | None = None
    mobile_push: ChannelOverrides | None = None
    webhook: ChannelOverrides | None = None


class SendRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /v1/notifications`."""

    to: Recipient | Annotated[list[Recipient], Meta(min_length=1)]
    template: Key | TemplateChoice | None = None
    content: ContentRequest | None = None
    data: dict[str, Any] = {}
    category: Key | None = None
    channels: Annotated[list[Key], Meta(min_length=1, max_length=20)] | None = None
    strategy: Strategy | None = None
    priority: Priority | None = None
    send_at: Annotated[datetime, Meta(tz=True)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    collapse_key: ShortText | None = None
    digest_key: ShortText | None = None
    overrides: Overrides | None = None
    escalate_after_s: Annotated[int, Meta(ge=1, le=604_800)] | None = None
    attachments: Annotated[list[AttachmentRequest], Meta(max_length=50)] = []
    reference: ShortText | None = None
    metadata: Annotated[dict[Annotated[str, Meta(max_length=100)], Any], Meta(max_length=50)] = {}
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=20)] = []


class BatchItem(SendRequest, frozen=True, kw_only=True):
    """One of a batch: a send with its own idempotency key."""

    idempotency_key: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


def recipients(request: SendRequest) -> list[Recipient]:
    """List the recipients, however they were written."""
    return request.to if isinstance(request.to, list) else [request.to]
