"""The patterns of `[staging] allow` and of further senders: which addresses a line of configuration names.

Owns the notation and the matching. Refuses to know environments, modes and what becomes of a message that may not
leave: `gateway.middleware.staging` decides that.

The notation, closed by default: what is not understood as one of these is refused when the configuration is read.

- `qa@example.com`, `qa-*@example.com`, `*@example.com`, `*@*.example.com`: e-mail addresses. One `*` of the domain is
  one label (`*@*.example.com` is neither `example.com` nor `a.b.example.com`); the last two labels stand literally,
  but for names that no registry sells (`*@*.test`). `qa@…` is not `qa+x@…`; `qa+*@…` is.
- `+15550100001`, `+1555010*`: phone numbers (channel `sms`); at least four digits stand before the `*`.
- `user:qa-*`: the stored addresses of such users, in their own spelling; never an address given on the spot.
- `slack:qa-*`, `discord:ops`, …: a channel, a colon, and its destination's name or id; `*` crosses neither `@`, `/`
  nor `:`.
- `mobile_push:TOKEN`, `web_push:https://…`: one device, by its whole token or its subscription's whole endpoint. No
  star: what stands before a device's own part is the same for strangers. Those of some people are named by `user:`.
- `webhook:https://hooks.example.com/qa/*`: a URL; scheme, host and port as written (`*.example.com` for one label),
  and in path and query one `*` is one segment.

Matching cuts strings and uses no regular expressions made of configuration: it is linear, and there is no syntax to
smuggle. Pattern and address are compared in lower case; user ids are not, as two of them may differ by case alone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

import msgspec

from gateway.model.addresses import RESERVED_TOPS, AddressFault, match_key, normalise_email, normalise_phone

STAR: Final = "*"

_PHONE_PREFIX: Final = 5  # characters: the plus sign and four digits, so that no pattern names a whole country
_LITERAL_LABELS: Final = 2
_FILLER: Final = "x"  # stands for a star while the rest of a pattern is checked for its form

BROWSERS: Final = "web_push"
_DEVICES: Final = frozenset({BROWSERS, "mobile_push"})

_CHANNEL: Final = re.compile(r"([a-z][a-z0-9_]*):(.*)", re.DOTALL).fullmatch
_PHONE_PATTERN: Final = re.compile(r"\+[1-9][0-9*]{1,20}").fullmatch
_URL: Final = re.compile(
    r"(https?)://"
    r"([a-z0-9*-]+(?:\.[a-z0-9*-]+)*)"  # host; userinfo (`https://good@evil`) has no place
    r"(?::([0-9]{1,5}))?"
    r"((?:[/?][a-z0-9/?&=+$,;:@!'()*._~%-]*)?)",  # path and query; no fragment, backslash, blank
).fullmatch
_DOT_SEGMENT: Final = re.compile(r"/\.{1,2}(?:[/?;]|\Z)|%2[ef]|%5c").search
"""What a server may resolve into another path than the one that was compared."""
_SEGMENT_MARKS: Final = re.compile(r"([/?&])").split
_DEFAULT_PORT: Final = {"https": "443", "http": "80"}
_NAME_MARKS: Final = re.compile(r"([@/:])").split


class Glob:
    """Literal pieces around stars; a star is any number of characters, none included.

    What a star must not cross is settled before: the text is cut there, and each piece has its own glob.
    """

    __slots__ = ("_first", "_last", "_least", "_middle", "starred")

    def __init__(self, written: str) -> None:
        first, *rest = written.split(STAR)
        self.starred: Final = bool(rest)
        self._first: Final = first
        self._last: Final = rest.pop() if rest else ""
        self._middle: Final = tuple(piece for piece in rest if piece)
        self._least: Final = len(written) - written.count(STAR)

    def matches(self, text: str) -> bool:
        """Say whether the whole text fits."""
        if not self.starred:
            return text == self._first
        if len(text) < self._least or not (text.startswith(self._first) and text.endswith(self._last)):
            return False
        # Leftmost is best: whatever fits behind a later find also fits behind an earlier one.
        at, end = len(self._first), len(text) - len(self._last)
        for piece in self._middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


class EmailPattern(msgspec.Struct, frozen=True):
    """One mailbox, a group of mailboxes, or a domain."""

    local: Glob
    labels: tuple[Glob, ...]


class PhonePattern(msgspec.Struct, frozen=True):
    """A number, or the numbers of a range."""

    number: Glob


class UserPattern(msgspec.Struct, frozen=True):
    """Stored users, by their id."""

    user: tuple[Glob, ...]


class DestinationPattern(msgspec.Struct, frozen=True):
    """Destinations of a channel: names and ids (no host), or URLs; cut where no star may cross."""

    channel: str
    host: tuple[Glob, ...]
    pieces: tuple[Glob, ...]


Pattern = EmailPattern | PhonePattern | UserPattern | DestinationPattern


def parse_pattern(text: str) -> Pattern:
    """Read one pattern; raises `ValueError` with a sentence for one not understood or that would let all through."""
    if not text.strip("* @.+:"):
        raise ValueError(f"{text!r} would let everything through: name a domain, a range of numbers or a channel")
    prefixed = _CHANNEL(text)
    if prefixed is not None:
        return _parse_prefixed(text, prefixed[1], prefixed[2])
    if "@" in text:
        return _parse_email(text)
    if text.startswith("+"):
        return _parse_phone(text)
    raise ValueError(
        f"{text!r} is no address pattern: write an e-mail address, a phone number beginning with +, "
        "or a channel and a colon before a name, such as slack:qa-*",
    )


def _parse_prefixed(text: str, channel: str, rest: str) -> Pattern:
    match channel:
        case "email":
            return _parse_email(rest)
        case "sms" | "phone":
            return _parse_phone(rest)
        case "http" | "https":
            raise ValueError(f"{text!r}: write the channel before a URL, such as webhook:{text}")
        case _:
            pass
    if not rest.strip("* @/:."):
        raise ValueError(f"{text!r} would let every {channel} through: name at least its beginning")
    if channel == "user":
        return UserPattern(tuple(map(Glob, _NAME_MARKS(rest))))
    if channel in _DEVICES and STAR in rest:
        raise ValueError(
            f"{text!r} would let strangers' devices through: name a whole token or endpoint, "
            "or the users whose stored devices these are, such as user:qa-*",
        )
    cut = cut_destination(rest, pattern=True)
    if channel == BROWSERS and (cut is None or not cut.host):
        raise ValueError(
            f"{text!r} can never match: write the endpoint of a browser's subscription (https://…), "
            "or the users whose stored browsers these are, such as user:qa-*",
        )
    if cut is None:
        raise ValueError(f"{text!r} can never match: blanks, control characters, or a URL that is not whole and plain")
    if cut.host and not _host_is_literal(cut.host):
        raise ValueError(f"{text!r} would let strangers' hosts through: a star stands left of the last two labels")
    return DestinationPattern(channel, tuple(map(Glob, cut.host)), tuple(map(Glob, cut.pieces)))


def _host_is_literal(labels: list[str]) -> bool:
    literal = 1 if labels[-1] in RESERVED_TOPS else _LITERAL_LABELS
    return not any(STAR in label for label in labels[-literal:])


def _parse_email(text: str) -> EmailPattern:
    local, _, domain = text.rpartition("@")
    written = domain.split(".")
    try:
        formed = normalise_email(f"{local.replace(STAR, _FILLER)}@{domain.replace(STAR, _FILLER)}")
    except AddressFault as fault:
        raise ValueError(f"{text!r} is no pattern for e-mail addresses. {fault.message}") from None
    normal = formed.rpartition("@")[2].split(".")
    if len(normal) != len(written) or any(STAR in label and not label.isascii() for label in written):
        raise ValueError(f"{text!r}: write a domain that holds a star in plain ASCII (xn--… for other letters)")
    labels = [label.lower() if STAR in label else plain for label, plain in zip(written, normal, strict=True)]
    if not _host_is_literal(labels):
        raise ValueError(
            f"{text!r} would let strangers' domains through: a star stands left of the last two labels, "
            "such as *@*.example.com",
        )
    return EmailPattern(Glob(match_key(local)), tuple(map(Glob, labels)))


def _parse_phone(text: str) -> PhonePattern:
    if _PHONE_PATTERN(text) is None:
        raise ValueError(f"{text!r} is no pattern for phone numbers: write +, digits and stars, such as +1555010*")
    if STAR in text[:_PHONE_PREFIX]:
        raise ValueError(f"{text!r} would let a whole country through: at least four digits stand before a star")
    if STAR in text:
        return PhonePattern(Glob(text))
    try:
        return PhonePattern(Glob(normalise_phone(text)))
    except AddressFault as fault:
        raise ValueError(f"{text!r} is no phone number. {fault.message}") from None


class EmailCut(msgspec.Struct, frozen=True):
    """An e-mail address ready to be compared; `tricky` when no star may match its local part."""

    local: str
    labels: list[str]
    tricky: bool

    def fits(self, pattern: EmailPattern) -> bool:
        """Say whether the pattern names this address."""
        if len(self.labels) != len(pattern.labels) or (self.tricky and pattern.local.starred):
            return False
        return pattern.local.matches(self.local) and _all_match(pattern.labels, self.labels)


class DestinationCut(msgspec.Struct, frozen=True):
    """A destination ready to be compared: the labels of a URL's host, if it is one, and the other pieces."""

    host: list[str]
    pieces: list[str]

    def fits(self, pattern: DestinationPattern, channel: str) -> bool:
        """Say whether the pattern names this destination of `channel`."""
        return (
            pattern.channel == channel
            and len(pattern.host) == len(self.host)
            and len(pattern.pieces) == len(self.pieces)
            and _all_match(pattern.host, self.host)
            and _all_match(pattern.pieces, self.pieces)
        )


def user_fits(pattern: UserPattern, user: str) -> bool:
    """Say whether the pattern names this stored user."""
    pieces = _NAME_MARKS(user)
    return len(pieces) == len(pattern.user) and _all_match(pattern.user, pieces)


def _all_match(globs: tuple[Glob, ...], texts: list[str]) -> bool:
    return all(map(Glob.matches, globs, texts))


def cut_email(address: str) -> EmailCut | None:
    """Cut an address that is in its normal form (but for the case of ASCII letters); `None` for any other.

    What was compared must be what leaves: an address that somebody else might read differently fits no pattern.
    """
    try:
        key = match_key(normalise_email(address))
    except AddressFault:
        return None
    if key != match_key(address) or not _is_normal("NFC", address):
        return None
    local, _, domain = key.rpartition("@")
    # `a%other.test@example.com` and `other.test!a@example.com` ask an old relay to pass the mail on; a full-width `@`
    # in the local part may become a real one at the next hop.
    tricky = "%" in local or "!" in local or not _is_normal("NFKC", local)
    return EmailCut(local, domain.split("."), tricky)


def _is_normal(form: Literal["NFC", "NFKC"], text: str) -> bool:
    return text.isascii() or unicodedata.is_normalized(form, text)


class _Subscription(msgspec.Struct, frozen=True):
    """What of a browser's subscription says where a message goes."""

    endpoint: str


_SUBSCRIPTION: Final = msgspec.json.Decoder(_Subscription).decode


def cut_browser(address: str) -> DestinationCut | None:
    """Cut the endpoint of a browser's subscription, which is JSON; `None` for what nothing may match.

    Read as the adapter reads it: of a key that stands there twice, the last one counts.
    """
    try:
        endpoint = _SUBSCRIPTION(address).endpoint
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    cut = cut_destination(endpoint)
    return cut if cut is not None and cut.host else None


def cut_destination(address: str, *, pattern: bool = False) -> DestinationCut | None:
    """Cut a destination's name, id or URL where no star may cross; `None` for what nothing may match.

    The pieces of a URL are scheme, port and the segments of path and query with the marks between them; a default port
    and an empty path are written out, so that two spellings of one URL are one.
    """
    key = match_key(address)
    if not key or key != key.strip() or not key.isprintable() or (STAR in key and not pattern):
        return None
    if not _is_normal("NFKC", address):
        return None
    if "://" not in key:
        return DestinationCut([], _NAME_MARKS(key))
    found = _URL(key)
    if found is None or _DOT_SEGMENT(found[4]):
        return None
    scheme, host, port, rest = found.groups()
    path = rest if rest.startswith("/") else f"/{rest}"
    return DestinationCut(host.split("."), [scheme, port or _DEFAULT_PORT[scheme], *_SEGMENT_MARKS(path)])
