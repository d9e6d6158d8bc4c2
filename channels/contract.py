"""What an adapter gets and what it gives back.

Owns the words between the gateway and an adapter: messages in, outcomes and status events out. Refuses to know how a
delivery is stored, retried or limited: that is the gateway's middleware, shared by every adapter.

Standard library and msgspec only, so that an adapter in somebody else's package depends on nothing but this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

__all__ = [
    "Accepted",
    "Attachment",
    "Blame",
    "Callback",
    "CallbackRefused",
    "Channel",
    "ChannelKind",
    "Check",
    "Content",
    "EventType",
    "Limits",
    "Message",
    "OptionFault",
    "Outcome",
    "Reason",
    "Rejected",
    "Retry",
    "SettingsFault",
    "StatusEvent",
    "Tools",
    "Unknown",
    "blame_of",
]


class Blame(StrEnum):
    """Whose affair a refusal is; the middleware acts on nothing else."""

    RECIPIENT = "recipient"  # suppress the address where the reason says dead, try the next channel
    MESSAGE = "message"  # fail, never retry: the same bytes would be refused again
    ACCOUNT = "account"  # stop this provider and say so loudly, go on with the next one
    PROVIDER = "provider"  # back off, then the next provider


class Reason(StrEnum):
    """Why an attempt did not simply succeed. A closed list: the provider's own words belong in `detail`."""

    ADDRESS_DEAD = "address_dead"  # this address will never work again: the gateway suppresses it
    INVALID_ADDRESS = "invalid_address"  # refused for its form or place, not known to be dead for ever
    COMPLAINED = "complained"  # the person asked this provider to stop
    OPTED_OUT = "opted_out"  # STOP, unsubscribed at the provider
    MESSAGE_INVALID = "message_invalid"
    TOO_LARGE = "too_large"
    CONTENT_REFUSED = "content_refused"  # judged as spam or forbidden
    POLICY = "policy"  # the receiving side's rule about us or the message: never a reason to suppress
    ACCOUNT_PROBLEM = "account_problem"  # credentials, permissions, unpaid, blocked
    PROVIDER_DOWN = "provider_down"
    RATE_LIMITED = "rate_limited"
    TIMED_OUT = "timed_out"
    RETRY = "retry"  # refused for now, no better word known (greylisting, mailbox busy)


_BLAME: Mapping[Reason, Blame] = {
    Reason.ADDRESS_DEAD: Blame.RECIPIENT,
    Reason.INVALID_ADDRESS: Blame.RECIPIENT,
    Reason.COMPLAINED: Blame.RECIPIENT,
    Reason.OPTED_OUT: Blame.RECIPIENT,
    Reason.MESSAGE_INVALID: Blame.MESSAGE,
    Reason.TOO_LARGE: Blame.MESSAGE,
    Reason.CONTENT_REFUSED: Blame.MESSAGE,
    Reason.POLICY: Blame.MESSAGE,
    Reason.ACCOUNT_PROBLEM: Blame.ACCOUNT,
    Reason.PROVIDER_DOWN: Blame.PROVIDER,
    Reason.RATE_LIMITED: Blame.PROVIDER,
    Reason.TIMED_OUT: Blame.PROVIDER,
    Reason.RETRY: Blame.RECIPIENT,
}


def blame_of(reason: Reason) -> Blame:
    """Say whose affair `reason` is. Total: every reason has exactly one."""
    return _BLAME[reason]


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `content_id` (without angle brackets) makes it an inline part that HTML names as `cid:`."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown, already rendered for this channel.

    `data` is the channel's own structure (Slack blocks, a push payload), JSON-like; `subject` is the title where the
    medium has one.
    """

    subject: str | None = None
    text: str | None = None
    html: str | None = None
    data: Mapping[str, Any] = {}
    attachments: tuple[Attachment, ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one recipient through one provider, ready to send.

    `to` is the address in the channel's own notation; `to_name` the person's name, if known. `sender` likewise
    (e-mail: `Shop <no-reply@example.com>`). `id` is the delivery's id and the same for every attempt, as is
    `idempotency_key`. `attempt` counts from 1. `expires_at` is Unix time in seconds. `options` holds the channel's
    overrides (e-mail: `cc`, `bcc`: lists of addresses; `reply_to`: str; `headers`: dict of str; `list_unsubscribe`:
    an https URL for RFC 8058) and whatever else the gateway hands down: `collapse_key`, and, for an adapter whose
    `limits` say so, `replaces`: the `provider_id` of the message with this key that stands there now.
    """

    id: str
    kind: str
    to: str
    to_name: str | None = None
    sender: str | None = None
    content: Content
    attempt: int = 1
    idempotency_key: str
    created_at: float = 0.0
    expires_at: float | None = None
    category: str = "default"
    tags: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}


class Accepted(msgspec.Struct, frozen=True, tag="accepted", tag_field="outcome"):
    """The provider took it. `detail` says what else is worth knowing (a refused Cc, a queue id)."""

    provider_id: str | None = None
    detail: str | None = None


class Retry(msgspec.Struct, frozen=True, tag="retry", tag_field="outcome"):
    """Certainly not sent, and worth trying again; `after` is the provider's own wish in seconds from now."""

    reason: Reason
    after: float | None = None
    detail: str | None = None


class Rejected(msgspec.Struct, frozen=True, tag="rejected", tag_field="outcome"):
    """Certainly not sent, and the same request would be refused again."""

    reason: Reason
    detail: str | None = None


class Unknown(msgspec.Struct, frozen=True, tag="unknown", tag_field="outcome"):
    """Bytes went out and no readable answer came back: it may have been sent."""

    reason: Reason = Reason.TIMED_OUT
    detail: str | None = None


Outcome = Accepted | Retry | Rejected | Unknown


class EventType(StrEnum):
    """What a provider may tell us later. The first five settle the delivery's status, the others its engagement."""

    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SEEN = "seen"
    READ = "read"
    ACKNOWLEDGED = "acknowledged"
    RESUBSCRIBED = "resubscribed"


class StatusEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a provider reports about one message.

    Found by `message_id` (ours, if the provider echoes it) or by `provider_id`. `at` is Unix time in seconds.
    `reason` says whether a bounce means a dead address. `address` is whom it is about: what is reported of a copy
    changes nothing. `sender` is which of our senders (a number, a service) it is about: an `unsubscribed` (STOP) or
    `resubscribed` (START) with a sender and without a message is what a person wrote to it, and concerns it alone.
    """

    type: EventType
    at: float
    provider_id: str | None = None
    message_id: str | None = None
    address: str | None = None
    sender: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    event_id: str | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's request to us, untouched: `headers` with lower-case names, `body` the raw bytes."""

    url: str
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


class CallbackRefused(Exception):
    """The callback's signature is missing or wrong (401), or its body unreadable (400 when `unreadable`)."""

    def __init__(self, message: str, *, unreadable: bool = False) -> None:
        """Keep the reason; it reaches our log, never the caller."""
        super().__init__(message)
        self.unreadable = unreadable


class SettingsFault(ValueError):
    """An adapter's settings that are well-formed but cannot work; `field` is the key's path below the provider."""

    def __init__(self, field: str, message: str) -> None:
        """Name the field, so that configuration faults can be reported together with their path."""
        super().__init__(message)
        self.field = field


class OptionFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a caller's overrides ask for and the medium cannot do; `field` is its path below the channel."""

    field: str
    code: Literal["invalid", "not_allowed", "out_of_range", "too_long", "too_many"]
    message: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a provider's credentials work, in words for an operator. `ok` is `None` where only sending would tell."""

    ok: bool | None
    detail: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider publishes. Sizes in bytes or characters; `rate` as in configuration (`"50/s"`)."""

    message_bytes: int | None = None
    subject_chars: int | None = None
    text_chars: int | None = None
    attachments: bool = False
    templates: bool = False  # whether the provider keeps templates of its own (`overrides.email.template`)
    rate: str | None = None
    concurrency: int = 8
    receipts: bool = False  # whether the provider confirms arrival later
    idempotent: bool = False  # whether the provider honours `idempotency_key`: a lost answer may then be repeated
    batch: int = 1  # messages in one call of `send_many`
    rate_counts_calls: bool = False  # whether `rate` counts calls and not messages: then a batch costs one
    replaces: bool = False  # whether a message can be changed once it is shown: `send` then finds `options["replaces"]`


def _unseen(event: str, **_: object) -> None:
    """Write nothing."""


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway lends an adapter: the clock, jitter, log functions and the provider's name.

    `now` answers Unix time in seconds. `log(event, **fields)` writes what helps in a search for a fault (level debug),
    `notice` what is seen without asking (level info). Neither ever receives addresses or bodies.
    """

    provider: str
    now: Callable[[], float]
    log: Callable[..., None]
    random: Callable[[], float]
    notice: Callable[..., None] = _unseen


@runtime_checkable
class Channel(Protocol):
    """An adapter. Built once per configured provider; used from one event loop; closed once."""

    kind: ClassVar[str]
    """The channel it serves: `email`, `slack`, `sms`, … The recipient key in requests has the same name.

    An instance may say otherwise, where a setting chooses."""
    Settings: ClassVar[type[msgspec.Struct]]
    """Its own configuration keys, beside the gateway's `use` and `rate`; unknown keys are refused by the gateway."""
    limits: Limits
    """After `__init__`: may depend on the settings (number of connections)."""

    def __init__(self, settings: Any, tools: Tools) -> None:
        """Keep the settings. Opens nothing, does not block. Raises `SettingsFault` for what cannot work."""
        ...

    async def send(self, message: Message) -> Outcome:
        """Try once, within the adapter's own time limits. May be called concurrently, and again for the same message.

        Every expected result is a value; an exception is a bug, and is treated as `Unknown`. Cancellation must
        leave no connection in a half-used state.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open. May be called twice."""
        ...


class ChannelKind(Protocol):
    """The optional abilities of an adapter, each looked up by name; an adapter has those that its provider has."""

    Overrides: ClassVar[type[msgspec.Struct]]
    """What a request's `overrides` may say to this channel, as a frozen struct that refuses unknown keys: with it every
    fault is told when the request is accepted. Without it anything is taken, and `send` makes of it what it can."""

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """List what the types of `Overrides` cannot say about overrides that fit them. Pure."""
        ...

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send a batch with one call; answers one outcome per message, in order.

        Called with two messages or more, and at most `limits.batch`; a single one goes through `send`. Whatever one
        message causes is that message's outcome alone. A lost answer is `Unknown` for all that the call carried.
        """
        ...

    def raw(self, message: Message) -> bytes:
        """Show the exact bytes `send` would put on the wire: for the capture inbox and `explain`. Pure."""
        ...

    def address_fault(self, address: str) -> str | None:
        """Say why nothing can ever be sent to an address, in words that repeat none of it, or `None`. Pure."""
        ...

    def senders(self, chosen: str | None) -> Sequence[str]:
        """Name what a message would go out under (a number, a service), where people opt out of senders. Pure.

        `chosen` is the sender that the caller or the channel's configuration names, if any. A refusal as `opted_out` is
        then about these alone, and so is a STOP whose event names one of them.
        """
        ...

    async def prepare(self, callback: Callback) -> None:
        """Fetch what `verify` needs for this callback, such as a certificate; called before it. Raises as it does."""
        ...

    async def confirm(self, callback: Callback) -> Check:
        """Answer a provider that waits for more than a 200 (to confirm a subscription, to show what a button did).

        Called for a verified callback after its events were applied; ends within 3 s. May be repeated.
        """
        ...

    def verify(self, callback: Callback) -> None:
        """Raise `CallbackRefused` unless the raw bytes carry the provider's valid signature."""
        ...

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a verified callback. Pure; raises `CallbackRefused(unreadable=True)` for what cannot be read."""
        ...

    def segments(self, message: Message) -> int:
        """Count what is paid for: how many parts the network makes of this message. Pure; at least 1."""
        ...

    async def check(self) -> Check:
        """Ask the provider whether the credentials are good. Sends nothing to anyone."""
        ...

    async def check_address(self, address: str) -> Check:
        """Ask whether a configured destination is there, where its address is itself a secret. Sends nothing."""
        ...


SendFunction = Callable[[Message], Awaitable[Outcome]]
