"""The last thing before the wire: whether a message may leave, and to whom.

Owns the decision for one message about to be sent, and what a redirected message shows. Refuses to know why the message
exists, who wrote it and how it is sent. Closed by default: outside production, and for `team` keys everywhere, only
what `[staging] allow` names may leave, and what cannot be read without doubt is named by nothing. There is no way
around it in configuration: it takes the environment, the key's mode and the list, and nothing else.

Simulator addresses (`gateway.model.simulator`) are answered before a message comes here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from channels.contract import Message
from gateway.config.settings import Environment, Otherwise, StagingSettings
from gateway.model.addresses import AddressFault, normalise_email, normalise_phone, parse_mailbox, recipient_key
from gateway.model.inbox import INBOX
from gateway.model.patterns import (
    BROWSERS,
    DestinationPattern,
    EmailPattern,
    PhonePattern,
    UserPattern,
    cut_browser,
    cut_destination,
    cut_email,
    parse_pattern,
    user_fits,
)
from gateway.model.states import Mode, Why

__all__ = [
    "Allowed",
    "Capture",
    "Decision",
    "Redirect",
    "Skip",
    "Staging",
    "parse_pattern",
    "redirect_note",
    "redirect_target",
    "redirected",
    "without_copies",
]

ORIGINAL_TO_HEADER: Final = "X-Gateway-Original-To"

_MAIL_CHANNEL: Final = "email"
_PHONE_CHANNEL: Final = "sms"
_NAMES_RECIPIENTS: Final = frozenset({"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc", "apparently-to"})
"""Headers from which a relay that reads recipients out of the message (`sendmail -t`) would take some."""
_BODY_TAG: Final = re.compile(r"""<body(?=[\s>])(?:"[^"]*"|'[^']*'|[^>"'])*>""", re.IGNORECASE).search


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """It may leave, but without these copies (as they were given); record them."""

    dropped_cc: tuple[str, ...] = ()
    dropped_bcc: tuple[str, ...] = ()


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """Keep it in the capture inbox."""

    reason: Why = Why.NOT_ALLOWED
    detail: str


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """Neither send nor keep it: the delivery ends `skipped`."""

    reason: Why = Why.NOT_ALLOWED
    detail: str


class Redirect(msgspec.Struct, frozen=True, kw_only=True):
    """Send `redirected(message, to)` instead: `to` is the only recipient, every copy is dropped."""

    to: str
    dropped_cc: tuple[str, ...] = ()
    dropped_bcc: tuple[str, ...] = ()


Decision = Allowed | Capture | Skip | Redirect

_ALLOWED: Final = Allowed()
_TEST_KEY: Final = Capture(detail="test keys send nothing")


class Staging:
    """The allowlist of one gateway. Immutable; raises `ValueError` for a pattern or target it cannot understand."""

    def __init__(self, environment: Environment, settings: StagingSettings) -> None:
        self._open = environment is Environment.PRODUCTION
        self._where = environment.value
        self._otherwise = settings.otherwise
        self._targets: Mapping[str, str] = {
            key: redirect_target(key, target) for key, target in settings.redirect.items()
        }
        patterns = [parse_pattern(text) for text in settings.allow]
        self._emails = [pattern for pattern in patterns if isinstance(pattern, EmailPattern)]
        self._phones = [pattern for pattern in patterns if isinstance(pattern, PhonePattern)]
        self._users = [pattern for pattern in patterns if isinstance(pattern, UserPattern)]
        self._destinations = [pattern for pattern in patterns if isinstance(pattern, DestinationPattern)]

    def decide(
        self,
        *,
        mode: Mode,
        channel: str,
        to: str,
        cc: Sequence[str] = (),
        bcc: Sequence[str] = (),
        stored_user: str | None = None,
    ) -> Decision:
        """Decide about one message, with the addresses exactly as the adapter is going to use them.

        `stored_user` is the user's id only if `to` is an address stored for that user: one given on the spot, a user's
        replaced one included, comes without it.
        """
        if mode is Mode.TEST:
            return _TEST_KEY
        if mode is Mode.LIVE and (self._open or channel == INBOX):
            return _ALLOWED  # what lies in an inbox has not left: only who holds this gateway's token reads it
        if channel == INBOX:
            return _ALLOWED if self._names_user(to) else self._refused(mode, channel, cc, bcc)
        if not (self._names_user(stored_user) or self.allows(channel, to)):
            return self._refused(mode, channel, cc, bcc)
        if not cc and not bcc:
            return _ALLOWED
        return Allowed(
            dropped_cc=tuple(copy for copy in cc if not self._allows_copy(channel, copy)),
            dropped_bcc=tuple(copy for copy in bcc if not self._allows_copy(channel, copy)),
        )

    def allows(self, channel: str, address: str) -> bool:
        """Say whether the list names this address of `channel`, whoever has it."""
        if channel == _MAIL_CHANNEL:
            email = cut_email(address)
            return email is not None and any(map(email.fits, self._emails))
        if channel == _PHONE_CHANNEL:
            return _is_e164(address) and any(pattern.number.matches(address) for pattern in self._phones)
        destination = cut_browser(address) if channel == BROWSERS else cut_destination(address)
        return destination is not None and any(destination.fits(pattern, channel) for pattern in self._destinations)

    def _allows_copy(self, channel: str, copy: str) -> bool:
        """Say it for a Cc or Bcc, which may carry a name; what has two readings is not allowed."""
        if not copy.endswith(">"):
            return self.allows(channel, copy)
        try:
            parse_mailbox(copy)
        except AddressFault:
            return False
        return self.allows(channel, copy[copy.rindex("<") + 1 : -1])

    def _names_user(self, user: str | None) -> bool:
        return user is not None and any(user_fits(pattern, user) for pattern in self._users)

    def _refused(self, mode: Mode, channel: str, cc: Sequence[str], bcc: Sequence[str]) -> Decision:
        who = "a team key reaches only what" if mode is Mode.TEAM else f"in {self._where} only that leaves which"
        detail = f"{who} [staging] allow names"
        match self._otherwise:
            case Otherwise.SKIP:
                return Skip(detail=detail)
            case Otherwise.REDIRECT:
                target = None if channel == INBOX else self._targets.get(recipient_key(channel))
                if target is not None:
                    return Redirect(to=target, dropped_cc=tuple(cc), dropped_bcc=tuple(bcc))
                return Capture(detail=f"{detail}, and {recipient_key(channel)} has no [staging.redirect]")
            case Otherwise.CAPTURE:
                return Capture(detail=detail)


def _is_e164(number: str) -> bool:
    return number.startswith("+") and number[1:].isdigit() and number.isascii()


def redirect_target(key: str, text: str) -> str:
    """Read one line of `[staging.redirect]` (key `email`, `phone` or a channel); raises `ValueError`."""
    try:
        match key:
            case "email":
                return normalise_email(text)
            case "phone":
                return normalise_phone(text)
            case _:
                pass
    except AddressFault as fault:
        raise ValueError(f"the redirect target for {key} is not usable. {fault.message}") from None
    if cut_destination(text) is None:
        raise ValueError(f"the redirect target for {key} is not usable: write a plain name, id or URL")
    return text


def redirect_note(original_to: str) -> str:
    """Say for whom a redirected message was meant: `[to jane@example.com]`."""
    return f"[to {_shown(original_to)}]"


def _shown(address: str) -> str:
    """Write an address so that it can stand in a header: one that never left is not trusted to be well-formed."""
    return "".join(letter if letter.isprintable() else "?" for letter in address)


_NOT_REDIRECTED: Final = frozenset({"cc", "bcc", "list_unsubscribe"})


def redirected(message: Message, to: str) -> Message:
    """Address the message to `to` alone, and let it show for whom it was meant.

    In the header `X-Gateway-Original-To`, at the end of the subject (so that it still begins as it was written), and in
    the first line of text and HTML. Structured content (`data`) stays as it is. Without an unsubscribe header, since no
    mailbox provider shall act on a test.
    """
    note = redirect_note(message.to)
    content = message.content
    headers = {
        name: value
        for name, value in _headers(message).items()
        if name.strip().lower() not in _NAMES_RECIPIENTS and name.lower() != ORIGINAL_TO_HEADER.lower()
    }
    options = {name: value for name, value in message.options.items() if name not in _NOT_REDIRECTED}
    return msgspec.structs.replace(
        message,
        to=to,
        to_name=None,
        content=msgspec.structs.replace(
            content,
            subject=None if content.subject is None else f"{content.subject} {note}".lstrip(),
            text=None if content.text is None else f"{note}\n\n{content.text}",
            html=None if content.html is None else _with_first_line(content.html, note),
        ),
        options={**options, "headers": {**headers, ORIGINAL_TO_HEADER: _shown(message.to)}},
    )


def _headers(message: Message) -> Mapping[str, str]:
    return message.options.get("headers") or {}


def _with_first_line(page: str, note: str) -> str:
    line = (
        f'<p style="font:12px monospace;margin:0;padding:8px;background:#fff3cd;color:#533f03">{html.escape(note)}</p>'
    )
    body = _BODY_TAG(page)
    at = body.end() if body else 0
    return f"{page[:at]}{line}{page[at:]}"


def without_copies(message: Message, dropped_cc: Iterable[str] = (), dropped_bcc: Iterable[str] = ()) -> Message:
    """Take copies out of the message, named as they were given."""
    dropped = {"cc": frozenset(dropped_cc), "bcc": frozenset(dropped_bcc)}
    options = dict(message.options)
    for name, gone in dropped.items():
        if gone and name in options:
            options[name] = [copy for copy in options[name] if copy not in gone]
    return msgspec.structs.replace(message, options=options)
