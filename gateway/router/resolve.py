"""From a request as written to one without open questions, or every fault of it at once.

Owns the checks that types cannot say: exactly one of template and content, known names, a template's variables,
addresses, overrides, header injection. Refuses to know people's preferences and storage. `accept` and `explain` run
this same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from channels.contract import Attachment
from channels.mime import header_faults, parse_mailbox
from gateway.config.settings import LimitSettings
from gateway.errors import Code, Fault, invalid
from gateway.model.addresses import (
    AddressFault,
    address_of,
    locale_fault,
    match_key,
    normalise_email,
    normalise_phone,
    recipient_key,
    timezone_fault,
)
from gateway.model.patterns import EmailPattern, cut_email
from gateway.model.requests import EmailOverrides, Recipient, SendRequest, TemplateChoice, recipients
from gateway.model.simulator import outcome_of
from gateway.model.states import Mode, Strategy
from gateway.render.markdown import content_faults
from gateway.render.template import Template
from gateway.router.catalogue import Catalogue
from gateway.router.compose import Addressee
from gateway.router.plan import Ask, Target
from gateway.router.rules import DEFAULT_CATEGORY, CategoryRule, Rules

_ENCODE: Final = msgspec.json.Encoder().encode
_SORTED: Final = msgspec.json.Encoder(order="sorted").encode
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond these a time, or one that is reckoned from it, cannot be written as RFC 3339 in UTC."""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A request that can be planned: `targets` in the order of recipients, then channels."""

    ask: Ask
    template: Template
    targets: tuple[Target, ...]
    addressees: tuple[Addressee, ...]


class Resolver:
    """Checks requests against the configuration and the templates as they are now."""

    def __init__(
        self,
        *,
        rules: Rules,
        catalogue: Catalogue,
        limits: LimitSettings,
        senders: Sequence[EmailPattern],
    ) -> None:
        self._rules = rules
        self._catalogue = catalogue
        self._limits = limits
        self._senders = senders

    async def prepare(self, project: str, *requests: SendRequest) -> None:
        """Fetch what `resolve` will need of the store. Most requests need nothing."""
        await self._catalogue.prepare(project, *requests)

    def resolve(self, request: SendRequest, mode: Mode, project: str) -> Resolved:
        """Answer the question-free form of a request that is prepared; raises `Problem` (422) with every fault."""
        faults: list[Fault] = []
        people = recipients(request)
        template = self._template(request, mode, project, faults)
        category = self._category(request, template, faults)
        channels = self._channels(request, category, mode, faults)
        self._times(request, faults)
        self._recipients(people, faults)
        if template is not None:
            _variables(request, people, template, faults)
        if request.content is not None:
            for field, message in content_faults(request.content):
                faults.append(Fault(f"content.{field}", Code.INVALID, message))
        self._email(request, faults)
        self._own_senders(request, faults)
        targets = self._targets(people, channels, explicit=_explicit(request, category), faults=faults)
        _in_turn(request, category, targets, faults)
        if faults or template is None or category is None:
            raise invalid(faults)
        return Resolved(
            ask=Ask(
                category=category,
                priority=request.priority or category.priority,
                send_at=None if request.send_at is None else int(request.send_at.timestamp() * 1000),
                expires_at=None if request.expires_at is None else int(request.expires_at.timestamp() * 1000),
            ),
            template=template,
            targets=targets,
            addressees=tuple(
                Addressee(user=one.user, name=one.name, locale=one.locale, timezone=one.timezone, data=one.data)
                for one in people
            ),
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
        return self._rules.usable(mode)

    def _times(self, request: SendRequest, faults: list[Fault]) -> None:
        for field, time in (("send_at", request.send_at), ("expires_at", request.expires_at)):
            if time is not None and not _EARLIEST <= time <= _LATEST:
                faults.append(Fault(field, Code.OUT_OF_RANGE, "write a time between the years 1971 and 9000"))
        if request.send_at is not None and request.expires_at is not None and request.expires_at <= request.send_at:
            faults.append(Fault("expires_at", Code.OUT_OF_RANGE, "it expires before it may be sent"))

    def _recipients(self, people: list[Recipient], faults: list[Fault]) -> None:
        if len(people) > self._limits.recipients:
            faults.append(Fault("to", Code.TOO_MANY, f"at most {self._limits.recipients} recipients in one request"))
            return
        for index, one in enumerate(people):
            where = f"to[{index}]"
            if one.user is not None:
                faults.append(Fault(f"{where}.user", Code.UNKNOWN_USER, f"there is no user {one.user!r}"))
            elif one.topic is not None:
                faults.append(Fault(f"{where}.topic", Code.INVALID, f"there is no topic {one.topic!r}"))
            elif all(getattr(one, key) is None for key in one.address_keys):
                faults.append(Fault(where, Code.REQUIRED, "a recipient needs a user, a topic or an address"))
            if one.name is not None:
                for _, message in header_faults(to_name=one.name):
                    faults.append(Fault(f"{where}.name", Code.HEADER_INJECTION, message))
            if one.locale is not None and (message := locale_fault(one.locale)):
                faults.append(Fault(f"{where}.locale", Code.INVALID, message))
            if one.timezone is not None and (message := timezone_fault(one.timezone)):
                faults.append(Fault(f"{where}.timezone", Code.INVALID, message))

    def _targets(
        self,
        people: list[Recipient],
        channels: tuple[str, ...],
        *,
        explicit: bool,
        faults: list[Fault],
    ) -> tuple[Target, ...]:
        targets: list[Target] = []
        for position, one in enumerate(people):
            own = _ENCODE(one.data) if one.data else b""
            before = len(targets)
            for channel in channels:
                address = _address(channel, one, f"to[{position}]", faults)
                if address is None and not explicit:
                    continue
                targets.append(_target(position, channel, address, own))
            if len(targets) == before and channels:
                targets.append(_target(position, channels[0], None, own))
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
        for channel, rule in self._rules.channels.items():
            own: dict[str, Any] | None = None if channel == "email" else getattr(request.overrides, channel, None)
            wanted = None if own is None else own.get("from")
            if wanted is not None and wanted not in (rule.sender, *rule.settings.senders):
                message = "this sender is not among the channel's sender and senders"
                faults.append(Fault(f"overrides.{channel}.from", Code.NOT_ALLOWED, message))


def _in_turn(
    request: SendRequest, category: CategoryRule | None, targets: Sequence[Target], faults: list[Fault]
) -> None:
    """Refuse what this version cannot do: writing to all channels at once is not what was asked for."""
    strategy = request.strategy or (Strategy.ALL if category is None else category.strategy)
    reached = [one.position for one in targets if one.address is not None]
    if strategy is not Strategy.ALL and len(reached) > len(set(reached)):
        message = f"{strategy.value} over several channels is not supported yet; use all, or name one channel"
        faults.append(Fault("strategy", Code.NOT_ALLOWED, message))


def _explicit(request: SendRequest, category: CategoryRule | None) -> bool:
    return request.channels is not None or (category is not None and category.channels is not None)


def _address(channel: str, one: Recipient, where: str, faults: list[Fault]) -> str | None:
    """Read and normalise a recipient's address on a channel. A browser's subscription becomes its JSON, sorted."""
    given = address_of(channel, one)
    if given is None:
        return None
    if not isinstance(given, str):
        return _SORTED(given).decode()
    try:
        return _normalised(channel, given)
    except AddressFault as fault:
        faults.append(Fault(f"{where}.{recipient_key(channel)}", fault.code, str(fault)))
        return None


def _normalised(channel: str, given: str) -> str:
    if outcome_of(channel, given) is not None:
        return given.strip().lower()
    match channel:
        case "email":
            return normalise_email(given)
        case "sms":
            return normalise_phone(given)
        case _ if not given.isprintable():
            raise AddressFault("An address must not contain control characters.", Code.HEADER_INJECTION)
        case _:
            return given


def _target(position: int, channel: str, address: str | None, own: bytes) -> Target:
    if address is None:
        return Target(position=position, channel=channel, address=None, key="")
    return Target(
        position=position,
        channel=channel,
        address=address,
        key=match_key(address) if channel == "email" else address,
        simulated=outcome_of(channel, address) is not None,
        twin=own,
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
