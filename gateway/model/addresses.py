"""Addresses in their one normal form: e-mail, mailbox, phone, locale and time zone, and whose key they come under.

Owns what counts as an address and when two are the same. Refuses to know whether anyone reads there, whether it may be
written to (`gateway.middleware.staging`, `.consent`), and every channel's own notation beyond e-mail and phone.

The normal form of an e-mail address: the local part as given (Unicode in NFC), the domain in lower case and in the
form DNS carries (A-labels, `xn--…`, by UTS 46). So two spellings of one domain are one string, two look-alike domains
are two, and a relay without SMTPUTF8 can take it. `match_key` goes one step further, for lists of addresses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.errors import Code, GatewayError
from gateway.model.requests import Recipient
from gateway.model.simulator import outcome_of

ADDRESS_MOST: Final = 254  # octets, RFC 5321 4.5.3.1.3 with RFC 3696 erratum 1690
LOCAL_MOST: Final = 64  # octets, RFC 5321 4.5.3.1.1
_READ_MOST: Final = 998  # characters: a line of mail (RFC 5322 2.1.1); what is longer is not looked at

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL: Final = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_TOP: Final = r"(?!..--)(?!(?i:arpa|onion)\Z)(?:[A-Za-z0-9][A-Za-z0-9-]{0,61})?[A-Za-z]"
_PLAIN: Final = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@(?:{_LABEL}\.)+{_TOP}").fullmatch
"""Addresses of plain ASCII that need no judge. Stricter than email-validator: what it lets through, the judge does too
(a property test holds that). Labels such as `xn--…` go the long way."""

RESERVED_TOPS: Final = frozenset({"test", "invalid", "localhost", "local", "internal", "example"})
"""Top-level names that no registry sells (RFC 6761, 6762): real inside a company and in tests, so they are accepted
where email-validator refuses some of them. It still refuses `arpa` and `onion`, which carry no mail."""
_STAND_IN: Final = ".co"

_LINE_BREAKERS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]").search
"""Controls and everything that some reader takes for a line's end."""
_NAME_TRICKS: Final = re.compile("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]").search
"""Direction overrides and embeddings (a name that displays as another one) and halves of surrogate pairs."""
_NEEDS_QUOTES: Final = re.compile(r'[<>@,;"\\]').search
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"').fullmatch

_PHONE: Final = re.compile(r"\+[0-9][0-9 ().\-]{2,30}").fullmatch
_LOCALE: Final = re.compile(
    r"[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}"  # language, extended language
    r"(?:-[A-Za-z]{4})?"  # script
    r"(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"  # variants
    r"(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8})+)*"  # extensions
    r"(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?",  # private use
).fullmatch
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+){0,2}").fullmatch

_MAIL_CHANNEL: Final = "email"
_PHONE_CHANNEL: Final = "sms"
NOT_ADDRESSES: Final = frozenset({"user", "topic", "name", "phone", "locale", "timezone", "data"})
"""Keys of a recipient that are no channel's own: an adapter that called its channel `name` must not read names."""


_SORTED: Final = msgspec.json.Encoder(order="sorted").encode


class AddressFault(GatewayError):
    """Not an address. `code` is `header_injection` for controls and line ends, else `invalid`; never quotes it."""

    def __init__(self, message: str, code: Code) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """A name, if there is one, and a normalised address."""

    name: str | None = None
    address: str


def normalise_email(text: str) -> str:
    """Give the normal form of a plain e-mail address (no name, no angle brackets); raises `AddressFault`.

    Takes under a microsecond for plain ASCII; everything else goes to email-validator.
    """
    if len(text) <= ADDRESS_MOST:
        found = _PLAIN(text)
        if found is not None:
            at = found.end(1)
            if at <= LOCAL_MOST:
                domain = text[at:]
                return text if domain.islower() else text[:at] + domain.lower()
    return _judged(text)


def _judged(text: str) -> str:
    # Imported on the first unusual address: the judge and IDNA's tables cost a start 50 ms.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - see above

    if _LINE_BREAKERS(text):
        raise AddressFault("An address must not contain line breaks or control characters.", Code.HEADER_INJECTION)
    if len(text) > _READ_MOST:
        raise AddressFault(f"An address is at most {ADDRESS_MOST} characters long.", Code.INVALID)
    local, _, domain = text.rpartition("@")
    above, _, top = domain.lower().rpartition(".")
    # The judge refuses reserved names as a matter of taste, and only after every check of form. So it is shown the
    # address below a name that it has nothing against.
    stand_in = _STAND_IN if top in RESERVED_TOPS and (above or top == "localhost") else ""
    try:
        found = validate_email(text + stand_in, check_deliverability=False, strict=True)
    except (EmailNotValidError, UnicodeError) as fault:
        message = str(fault) if isinstance(fault, EmailNotValidError) else "The address has unreadable characters."
        raise AddressFault(message, Code.INVALID) from None
    # The judge writes `Info@` as `info@`; the local part is its owner's, so ASCII stays as it was given.
    kept = local if local.isascii() else found.local_part
    return f"{kept}@{found.ascii_domain.removesuffix(stand_in)}"


def match_key(address: str) -> str:
    """Give the form under which a normalised address is looked up in lists (suppressions, allowlists).

    Lower case, not case-folded: folding makes `ß` into `ss` and would let one mailbox stand for another.
    """
    return address.lower() if address.isascii() else unicodedata.normalize("NFC", address.lower())


def list_key(channel: str, address: str) -> str:
    """Give the form under which a channel's normalised address is looked up in lists: only mailboxes ignore case."""
    return match_key(address) if channel == "email" else address


def parse_mailbox(text: str) -> Mailbox:
    """Read `no-reply@example.com`, `Shop <no-reply@example.com>`, a quoted or an encoded name; raises `AddressFault`.

    One mailbox only. A name with a comma or another mark that separates addresses must be quoted, so that no reader
    can take one mailbox for two. Comments, groups and source routes are refused.
    """
    if _LINE_BREAKERS(text):
        raise AddressFault("A mailbox must not contain line breaks or control characters.", Code.HEADER_INJECTION)
    if len(text) > _READ_MOST:
        raise AddressFault(f"A mailbox is at most {_READ_MOST} characters long.", Code.INVALID)
    if not text.endswith(">"):
        return Mailbox(address=normalise_email(text))
    before, _, address = text[:-1].rpartition("<")
    return Mailbox(name=_read_name(before.strip()), address=normalise_email(address))


def _read_name(written: str) -> str | None:
    quoted = _QUOTED(written)
    if quoted is not None:
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _NEEDS_QUOTES(written):
        raise AddressFault('A name with one of < > @ , ; \\ or " must stand in double quotes.', Code.INVALID)
    else:
        name = _decoded(written) if "=?" in written else written
    if _LINE_BREAKERS(name):
        raise AddressFault("A name must not contain line breaks or control characters.", Code.HEADER_INJECTION)
    if _NAME_TRICKS(name):
        raise AddressFault("A name must not contain characters that turn the direction of text.", Code.INVALID)
    return unicodedata.normalize("NFC", name).strip() or None


def _decoded(written: str) -> str:
    """Read a name in encoded words (RFC 2047), as a caller who composes headers by hand sends it."""
    try:
        return str(make_header(decode_header(written)))
    except (HeaderParseError, LookupError, ValueError):
        raise AddressFault("The name's encoded words cannot be read.", Code.INVALID) from None


def normalise_phone(text: str) -> str:
    """Give the E.164 form (`+15550100001`) of an international number; raises `AddressFault`.

    Possible numbers are enough: whether one is assigned is the provider's to know, and test ranges are not.
    """
    if _LINE_BREAKERS(text):
        raise AddressFault(
            "A phone number must not contain line breaks or control characters.",
            Code.HEADER_INJECTION,
        )
    if _PHONE(text) is None:
        raise AddressFault("A phone number begins with + and the country code: +15550100001.", Code.INVALID)
    # Its tables take 30 ms and some megabytes: only for those who send to phones.
    import phonenumbers  # noqa: PLC0415 - see above

    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        raise AddressFault("This is not a phone number of any country.", Code.INVALID) from None
    if not phonenumbers.is_possible_number(number):
        raise AddressFault("A phone number of that country has another length.", Code.INVALID)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def locale_fault(text: str) -> str | None:
    """Say what is wrong with a locale's form (BCP 47, RFC 5646 2.1), or `None`."""
    if _LOCALE(text):
        return None
    return "A locale is a language tag such as de or de-AT (with a hyphen)."


def timezone_fault(text: str) -> str | None:
    """Say what is wrong with a time zone's name (IANA), or `None`."""
    try:
        if _ZONE(text) and ZoneInfo(text).key:
            return None
    except (LookupError, ValueError, OSError):  # unknown; not a zone file; a folder such as `Europe`
        pass
    return "A time zone is an IANA name such as Europe/Vienna."


def normalise(channel: str, given: str | Mapping[str, Any]) -> str:
    """Give the one form of an address on a channel; raises `AddressFault`.

    A browser's subscription becomes JSON with sorted keys. Other channels have notations of their own, which only their
    adapters judge.
    """
    if not isinstance(given, str):
        return _SORTED(given).decode()
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


def recipient_key(channel: str) -> str:
    """Name the key under which a recipient carries the address for `channel`: its own name, `phone` for `sms`."""
    return "phone" if channel == _PHONE_CHANNEL else channel


def address_of(channel: str, recipient: Recipient) -> str | dict[str, Any] | None:
    """Read the recipient's address for `channel` as it was given, or `None`; a browser subscription is a dict."""
    if channel in NOT_ADDRESSES:
        return None
    return getattr(recipient, recipient_key(channel), None)
