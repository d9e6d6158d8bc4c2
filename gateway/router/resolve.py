"""From a request as written to one without open questions, or every fault of it at once.

Owns the checks that types cannot say: exactly one of template and content, known names, a template's variables,
addresses, overrides, header injection. Stored people come in ready-made. Refuses to know storage. `accept` and
`explain` run this same code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from channels.contract import Attachment
from channels.mime import header_faults, parse_mailbox
from gateway.config.settings import LimitSettings
from gateway.errors import Code, Fault, Problem, invalid
from gateway.model.addresses import (
    AddressFault,
    address_of,
    list_key,
    normalise,
    recipient_key,
)
from gateway.model.inbox import INBOX
from gateway.model.patterns import EmailPattern, cut_email
from gateway.model.people import topic_fault
from gateway.model.preferences import NO_CHOICES, Choices
from gateway.model.requests import EmailOverrides, Recipient, SendRequest, TemplateChoice, recipients
from gateway.model.simulator import outcome_of
from gateway.model.states import Mode, Strategy
from gateway.render.markdown import content_faults
from gateway.render.renderer import Renderer
from gateway.render.template import Template
from gateway.router.carry import Adapters, misfits
from gateway.router.catalogue import Catalogue
from gateway.router.compose import Addressee
from gateway.router.people import profile_faults
from gateway.router.plan import Ask, Target
from gateway.router.rules import DEFAULT_CATEGORY, CategoryRule, Rules
from gateway.storage.contract import AddressRow, UserRow

_ENCODE: Final = msgspec.json.Encoder().encode
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond these a time, or one that is reckoned from it, cannot be written as RFC 3339 in UTC."""
_TARGETS_MOST: Final = 20_000
"""Deliveries of one request: a thousand people with every device they own, and a transaction of a second at most."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Who can be planned, by which rules: `targets` by recipients, then channels; users' `choices` by id."""

    ask: Ask
    targets: tuple[Target, ...]
    addressees: tuple[Addressee, ...]
    choices: Mapping[str, Choices]


class Resolved(Reached, frozen=True, kw_only=True):
    """A request that can be planned. `topics`, with their places in `to`, name whom the store is still to tell."""

    template: Template
    topics: tuple[tuple[int, str], ...] = ()


class Resolver:
    """Checks requests against the configuration and the templates as they are now."""

    def __init__(
        self,
        *,
        rules: Rules,
        catalogue: Catalogue,
        renderer: Renderer,
        limits: LimitSettings,
        senders: Sequence[EmailPattern],
        adapters: Adapters = lambda _: (),
    ) -> None:
        self._rules = rules
        self._catalogue = catalogue
        self._renderer = renderer
        self._limits = limits
        self._senders = senders
        self._adapters = adapters
        self._usable = {mode: rules.usable(mode) for mode in Mode}

    async def prepare(self, project: str, *requests: SendRequest) -> None:
        """Fetch what `resolve` will need of the templates. Most requests need nothing."""
        await self._catalogue.prepare(project, *requests)

    def resolve(self, request: SendRequest, mode: Mode, project: str, stored: Mapping[str, UserRow]) -> Resolved:
        """Answer the question-free form of a request that is prepared; raises `Problem` (422) with every fault.

        `stored` has every user of `named_users` that there is.
        """
        faults: list[Fault] = []
        people = recipients(request)
        template = self._template(request, mode, project, faults)
        category = self._category(request, template, faults)
        channels = self._channels(request, category, mode, faults)
        self._times(request, faults)
        self._recipients(people, stored, faults)
        if template is not None:
            _variables(request, people, template, faults)
        if request.content is not None:
            for field, message in content_faults(request.content):
                faults.append(Fault(f"content.{field}", Code.INVALID, message))
        self._email(request, faults)
        self._own_senders(request, faults)
        targets = self._targets(people, stored, channels, explicit=_explicit(request, category), faults=faults)
        ask = _ask(request, category, faults)
        faults += misfits(request, targets, self._adapters, self._renderer)
        if faults or template is None or ask is None:
            raise invalid(faults)
        return Resolved(
            ask=ask,
            template=template,
            targets=targets,
            addressees=tuple(_addressee(one, stored.get(one.user or "")) for one in people),
            choices=_choices(people, stored) if stored else {},
            topics=_topics(people),
        )

    def subscribers(
        self, ask: Ask, request: SendRequest, topic: Recipient, mode: Mode, users: Sequence[UserRow]
    ) -> Reached:
        """Find where some of a topic's subscribers are reached, as if `to` had named each of them.

        What the request says of the topic (`locale`, `timezone`, `data`) holds for all of them. Raises nothing: what
        was configured when the request was accepted may be gone, and is then left out.
        """
        people = [
            Recipient(user=one.id, locale=topic.locale, timezone=topic.timezone, data=topic.data) for one in users
        ]
        stored = {one.id: one for one in users}
        channels = self._channels(request, ask.category, mode, [])
        explicit = _explicit(request, ask.category)
        return Reached(
            ask=ask,
            targets=self._targets(people, stored, channels, explicit=explicit, faults=[]),
            addressees=tuple(_addressee(one, stored[one.user or ""]) for one in people),
            choices=_choices(people, stored),
        )

    def _template(self, request: SendRequest, mode: Mode, project: str, faults: list[Fault]) -> Template | None:
        if (request.template is None) is (request.content is None):
            if request.template is None:
                faults.append(Fault("template", Code.REQUIRED, "one of template and content is needed"))
            else:
                faults.append(Fault("content", Code.EXCLUSIVE, "give either a template or content, not both"))
            return None
        if request.template is None:
            return self._catalogue.content
        wanted = request.template if isinstance(request.template, TemplateChoice) else None
        key = request.template.key if isinstance(request.template, TemplateChoice) else request.template
        current = self._catalogue.current(project, key)
        if wanted is not None and wanted.version is not None:
            version = self._catalogue.version(project, key, wanted.version, mode)
            if version is not None or current is None:
                return version or self._unknown(key, wanted, faults)
            faults.append(Fault("template.version", Code.UNKNOWN_TEMPLATE, f"{key} has no version {wanted.version!r}"))
            return None
        return current or self._unknown(key, wanted, faults)

    def _unknown(self, key: str, wanted: TemplateChoice | None, faults: list[Fault]) -> None:
        field = "template" if wanted is None else "template.key"
        faults.append(Fault(field, Code.UNKNOWN_TEMPLATE, f"there is no template {key!r}"))

    def _category(self, request: SendRequest, template: Template | None, faults: list[Fault]) -> CategoryRule | None:
        if request.category is not None:
            found = self._rules.categories.get(request.category)
            if found is None:
                faults.append(
                    Fault("category", Code.UNKNOWN_CATEGORY, f"no category {request.category!r} is configured"),
                )
            return found
        name = None if template is None else template.category
        return self._rules.categories.get(name or DEFAULT_CATEGORY) or self._rules.categories[DEFAULT_CATEGORY]

    def _channels(
        self,
        request: SendRequest,
        category: CategoryRule | None,
        mode: Mode,
        faults: list[Fault],
    ) -> tuple[str, ...]:
        if request.channels is not None:
            for index, name in enumerate(request.channels):
                if name not in self._rules.channels:
                    faults.append(Fault(f"channels[{index}]", Code.UNKNOWN_CHANNEL, f"there is no channel {name!r}"))
            return tuple(dict.fromkeys(name for name in request.channels if name in self._rules.channels))
        if category is not None and category.channels is not None:
            return category.channels
        return self._usable[mode]

    def _times(self, request: SendRequest, faults: list[Fault]) -> None:
        if request.send_at is None and request.expires_at is None:
            return
        for field, time in (("send_at", request.send_at), ("expires_at", request.expires_at)):
            if time is not None and not _EARLIEST <= time <= _LATEST:
                faults.append(Fault(field, Code.OUT_OF_RANGE, "write a time between the years 1971 and 9000"))
        if request.send_at is not None and request.expires_at is not None and request.expires_at <= request.send_at:
            faults.append(Fault("expires_at", Code.OUT_OF_RANGE, "it expires before it may be sent"))

    def _recipients(self, people: list[Recipient], stored: Mapping[str, UserRow], faults: list[Fault]) -> None:
        if len(people) > self._limits.recipients:
            faults.append(Fault("to", Code.TOO_MANY, f"at most {self._limits.recipients} recipients in one request"))
            return
        for index, one in enumerate(people):
            where = f"to[{index}]"
            if one.user is not None or one.topic is not None or not _has_address(one):
                faults.extend(_whom_faults(where, one, stored))
            if one.name is not None or one.locale is not None or one.timezone is not None:
                faults.extend(profile_faults(f"{where}.", one.name, one.locale, one.timezone))

    def _targets(
        self,
        people: list[Recipient],
        stored: Mapping[str, UserRow],
        channels: tuple[str, ...],
        *,
        explicit: bool,
        faults: list[Fault],
    ) -> tuple[Target, ...]:
        """Find where each recipient is reached on each channel: as the request says, else as it is stored.

        A person may be stored with several addresses on one channel (devices); each is a target.
        """
        targets: list[Target] = []
        for position, one in enumerate(people):
            if one.topic is not None:
                continue
            own = _ENCODE(one.data) if one.data else b""
            person = None if one.user is None else stored.get(one.user)
            zone = one.timezone or (None if person is None else person.timezone)
            before = len(targets)
            for channel in channels:
                if channel == INBOX and person is not None:
                    targets.append(_target(position, channel, person.id, own, person.id, zone))
                    continue
                address = _address(channel, one, f"to[{position}]", faults)
                known = () if address is not None or person is None else _stored_on(channel, person)
                targets.extend(_target(position, channel, kept.address, own, one.user, zone, kept.id) for kept in known)
                if not known and (address is not None or explicit):
                    targets.append(_target(position, channel, address, own, one.user, zone))
            if len(targets) == before and channels:
                targets.append(_target(position, channels[0], None, own, one.user, zone))
        if len(targets) > _TARGETS_MOST:
            message = f"these recipients have more than {_TARGETS_MOST} addresses together; send to fewer at once"
            faults.append(Fault("to", Code.TOO_MANY, message))
        return tuple(targets)

    def _email(self, request: SendRequest, faults: list[Fault]) -> None:
        email = None if request.overrides is None else request.overrides.email
        if request.attachments:
            faults.extend(_attachment_faults(request))
        if email is None:
            return
        for field, message in header_faults(
            subject=email.subject,
            sender=email.from_,
            reply_to=email.reply_to,
            cc=email.cc,
            bcc=email.bcc,
            headers=email.headers,
        ):
            faults.append(Fault(f"overrides.email.{field}", _code(field, message), message))
        self._sender(email, faults)

    def _sender(self, email: EmailOverrides, faults: list[Fault]) -> None:
        if email.from_ is None or header_faults(sender=email.from_):
            return
        address = cut_email(parse_mailbox("from", email.from_).address)
        if address is None or not any(address.fits(pattern) for pattern in self._senders):
            message = "this sender is not among the channel's sender and senders"
            faults.append(Fault("overrides.email.from", Code.NOT_ALLOWED, message))

    def _own_senders(self, request: SendRequest, faults: list[Fault]) -> None:
        """Check `from` in every channel's overrides: only the configured senders may be named."""
        if request.overrides is None:
            return
        for channel, rule in self._rules.channels.items():
            own: dict[str, Any] | None = None if channel == "email" else getattr(request.overrides, channel, None)
            wanted = None if own is None else own.get("from")
            if wanted is not None and wanted not in (rule.sender, *rule.settings.senders):
                message = "this sender is not among the channel's sender and senders"
                faults.append(Fault(f"overrides.{channel}.from", Code.NOT_ALLOWED, message))


def _ask(request: SendRequest, category: CategoryRule | None, faults: list[Fault]) -> Ask | None:
    """Fill in what the request leaves to its category; `None` where that is unknown."""
    strategy = request.strategy or (Strategy.ALL if category is None else category.strategy)
    escalate_after_ms = _escalate_after_ms(request, category, strategy, faults)
    if category is None:
        return None
    return Ask(
        category=category,
        priority=request.priority or category.priority,
        send_at=None if request.send_at is None else int(request.send_at.timestamp() * 1000),
        expires_at=None if request.expires_at is None else int(request.expires_at.timestamp() * 1000),
        strategy=strategy,
        escalate_after_ms=escalate_after_ms,
        files=bool(request.attachments),
        own_terms=_own_terms(request),
        digest_key=request.digest_key,
    )


def _own_terms(request: SendRequest) -> tuple[str, ...]:
    """List the channels in whose own terms the request says something."""
    own = request.overrides
    if own is None:
        return ()
    return tuple(name for name in own.__struct_fields__ if getattr(own, name) is not None)


def _escalate_after_ms(
    request: SendRequest, category: CategoryRule | None, strategy: Strategy, faults: list[Fault]
) -> int | None:
    """Find how long each step waits for the one before it, where the strategy asks for it."""
    if strategy is not Strategy.ESCALATE:
        return None
    after_s = request.escalate_after_s
    if after_s is None and category is not None:
        after_s = category.settings.escalate_after_s
    if after_s is None:
        message = "say after how many seconds the next channel is tried, here or in the category"
        faults.append(Fault("escalate_after_s", Code.REQUIRED, message))
        return None
    return after_s * 1000


def _whom_faults(where: str, one: Recipient, stored: Mapping[str, UserRow]) -> Iterator[Fault]:
    if one.user is not None:
        if one.user not in stored:
            yield _unknown_user(where, one.user)
        if one.topic is not None:
            yield Fault(f"{where}.topic", Code.EXCLUSIVE, "give either a user or a topic, not both")
    elif one.topic is not None:
        yield from _topic_faults(where, one, one.topic)
    elif not _has_address(one):
        yield Fault(where, Code.REQUIRED, "a recipient needs a user, a topic or an address")


def _has_address(one: Recipient) -> bool:
    for key in one.address_keys:  # noqa: SIM110 - twice as fast as `any`, and each request comes by
        if getattr(one, key) is not None:
            return True
    return False


def _topic_faults(where: str, one: Recipient, topic: str) -> Iterator[Fault]:
    """Judge a topic. One that nobody subscribed to is none the worse: somebody may before it is sent."""
    if (wrong := topic_fault(topic)) is not None:
        yield Fault(f"{where}.topic", *wrong)
    for key in ("name", *one.address_keys):
        if getattr(one, key) is not None:
            message = "the subscribers of a topic are reached at their stored addresses, in their own names"
            yield Fault(f"{where}.{key}", Code.EXCLUSIVE, message)


def _topics(people: Sequence[Recipient]) -> tuple[tuple[int, str], ...]:
    """List the topics with their places; one that is named again adds nobody."""
    found: dict[str, int] = {}
    for place, one in enumerate(people):
        if one.topic is not None:
            found.setdefault(one.topic, place)
    return tuple((place, topic) for topic, place in found.items())


def named_users(requests: Iterable[SendRequest]) -> set[str]:
    """List the stored users whom these requests name."""
    return {one.user for request in requests for one in recipients(request) if one.user is not None}


def unknown_users(request: SendRequest, gone: Collection[str]) -> Problem:
    """Refuse a request for users who are gone since they were looked up."""
    people = enumerate(recipients(request))
    return invalid([_unknown_user(f"to[{index}]", one.user) for index, one in people if one.user in gone])


def _unknown_user(where: str, id_: str | None) -> Fault:
    return Fault(f"{where}.user", Code.UNKNOWN_USER, f"there is no user {id_!r}")


def _stored_on(channel: str, person: UserRow) -> list[AddressRow]:
    return [one for one in person.addresses if one.channel == channel and one.retired_at is None]


def _explicit(request: SendRequest, category: CategoryRule | None) -> bool:
    return request.channels is not None or (category is not None and category.channels is not None)


def _address(channel: str, one: Recipient, where: str, faults: list[Fault]) -> str | None:
    """Read and normalise the address that a recipient brings for a channel."""
    given = address_of(channel, one)
    if given is None:
        return None
    try:
        return normalise(channel, given)
    except AddressFault as fault:
        faults.append(Fault(f"{where}.{recipient_key(channel)}", fault.code, str(fault)))
        return None


def _target(
    position: int,
    channel: str,
    address: str | None,
    own: bytes,
    user_id: str | None,
    timezone: str | None,
    address_id: UUID | None = None,
) -> Target:
    if address is None:
        return Target(position=position, channel=channel, address=None, key="", user_id=user_id)
    return Target(
        position=position,
        channel=channel,
        address=address,
        key=list_key(channel, address),
        user_id=user_id,
        address_id=address_id,
        simulated=outcome_of(channel, address) is not None,
        twin=own,
        timezone=timezone,
    )


def _choices(people: Iterable[Recipient], stored: Mapping[str, UserRow]) -> dict[str, Choices]:
    """List the choices of those among the recipients who made any; `stored` may know others, too."""
    known = [stored[one.user] for one in people if one.user is not None and one.user in stored]
    return {one.id: one.choices for one in known if one.choices is not NO_CHOICES}


def _addressee(one: Recipient, stored: UserRow | None) -> Addressee:
    """Say who a recipient is: what the request says lies over what is stored."""
    if stored is None:
        return Addressee(name=one.name, locale=one.locale, timezone=one.timezone, data=one.data)
    return Addressee(
        user=stored.id,
        name=stored.name if one.name is None else one.name,
        locale=stored.locale if one.locale is None else one.locale,
        timezone=stored.timezone if one.timezone is None else one.timezone,
        data=one.data,
    )


def _variables(request: SendRequest, people: list[Recipient], template: Template, faults: list[Fault]) -> None:
    if request.template is None:
        return
    if not any(one.data for one in people):
        found = template.data_faults(request.data)
        faults.extend(Fault(field, Code(code), message) for code, field, message in found)
        return
    shared = request.data.keys()
    for index, one in enumerate(people):
        found = template.data_faults({**request.data, **(one.data or {})})
        for code, field, message in found:
            # What the shared data says too much is one fault, whoever it is laid under; the rest is this recipient's.
            common = code == Code.UNDECLARED_VARIABLE and field.removeprefix("data.") in shared
            if not common or index == 0:
                faults.append(Fault(field if common else f"to[{index}].{field}", Code(code), message))


def _attachment_faults(request: SendRequest) -> list[Fault]:
    files = [
        Attachment(
            filename=one.filename,
            content_type=one.content_type,
            content=b"",
            content_id=one.content_id,
        )
        for one in request.attachments
    ]
    return [Fault(field, _code(field, message), message) for field, message in header_faults(attachments=files)]


def _code(field: str, message: str) -> Code:
    if "control character" in message:
        return Code.HEADER_INJECTION
    if field.startswith("headers.") and "gateway" in message:
        return Code.NOT_ALLOWED
    return Code.INVALID
