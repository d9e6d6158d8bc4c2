"""Composes one e-mail: from a `Message` to the bytes that follow SMTP's DATA.

Owns headers, encodings, multipart structure and the refusal of header injection. Refuses to know about connections,
envelopes on the wire, providers and rules. Everything is a function of the message alone: no clock, no randomness, so
that two attempts at one delivery are the same bytes under the same Message-ID.

Own code because the standard generator folds a long List-Unsubscribe into encoded words (mailbox providers then show
no one-click) and takes milliseconds; the standard parser is this module's judge in the tests.
"""

from __future__ import annotations

import re
import time
from binascii import b2a_base64, b2a_qp
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import Final
from urllib.parse import quote

# inscriptis is typed, but ships no marker that says so:
# pyright: reportMissingTypeStubs=false
import idna
import msgspec

from channels.contract import Attachment, Message

__all__ = [
    "STRUCTURAL_HEADERS",
    "Composed",
    "Mailbox",
    "MimeFault",
    "compose",
    "header_faults",
    "is_structural",
    "parse_mailbox",
    "parse_sender",
]

STRUCTURAL_HEADERS: Final = frozenset(
    {
        "apparently-to",
        "authentication-results",
        "bcc",
        "cc",
        "date",
        "delivered-to",
        "from",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "message-id",
        "received",
        "received-spf",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
        # Relays' own steering headers that can add recipients behind the gateway's back, past every allowlist:
        "x-mc-bccaddress",  # Mandrill
        "x-msys-api",  # SparkPost: "cc" and "bcc" below "options"
        "x-smtpapi",  # SendGrid: its "to" replaces the envelope
    }
)
"""Headers that the gateway writes itself or that change where a message goes, in lower case; no caller sets them."""

_STRUCTURAL_PREFIXES: Final = ("arc-", "content-", "dkim-", "domainkey-", "mime-", "resent-")

LINE_OCTETS: Final = 998  # RFC 5322, 2.1.1: without the CRLF; longer lines are cut or refused on the way
_WORD_LINE: Final = 76  # RFC 2047, 2: a line that holds an encoded word
_SOFT_LINE: Final = 78  # RFC 5322, 2.1.1: what a line SHOULD keep to
_NAME_CHARS: Final = 60  # a longer ASCII display name is written as encoded words, which can be folded anywhere
_ADDRESS_OCTETS: Final = 320  # RFC 5321, 4.5.3.1: 64 for the local part, 255 for the domain, and the @
_HEADER_NAME_CHARS: Final = 70  # ours: leaves room for an encoded word on the same line
_BASE64_LINE: Final = 76  # RFC 2045, 6.8
_QP_PAYS_UNTIL: Final = 5  # one octet in five outside ASCII: above it base64 is shorter than quoted-printable
_PARAMETER_CHARS: Final = 60  # RFC 2231, 3: longer values continue on further lines

# C0 with TAB, DEL, C1 with NEL, the Unicode line ends, and halves of surrogate pairs (which no charset can carry).
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROLS_BUT_TAB: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HEADER_NAME: Final = re.compile(r"[!-9;-~]+")  # RFC 5322, 2.2: printable ASCII without the colon
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")  # RFC 5322, 3.2.5: needs no quotes
_NAMED: Final = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^"<>]*?)\s*<(?P<address>[^<>]+)>')
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL: Final = re.compile(rf'{_ATEXT}(?:\.{_ATEXT})*|"(?:[^"\\]|\\.)+"')
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-fIPv:.]+\]")
_MIME_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]+"
_CONTENT_TYPE: Final = re.compile(
    rf'{_MIME_WORD}/{_MIME_WORD}(?:; ?{_MIME_WORD}=(?:{_MIME_WORD}|"[A-Za-z0-9 !#-\[\]-~]*"))*'
)
_CONTENT_ID: Final = re.compile(r"[!-;=?-~]+")
_WEB_URL: Final = re.compile(r"https?://[!-;=?-~]+")  # no space, no angle bracket: it stands between <>
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")  # fits a Message-ID and, with our prefix, a boundary (70)

_PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"  # what a 7bit body may hold
_ASCII: Final = bytes(range(0x80))

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class MimeFault(ValueError):
    """A message that cannot be written without harm; `field` names the part as the API does (`cc[0]`)."""

    def __init__(self, field: str, message: str) -> None:
        """Keep the field beside the sentence; neither repeats what the caller wrote."""
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Mailbox(msgspec.Struct, frozen=True):
    """A parsed address. `domain` is in A-labels (ASCII); `name` is the display name or empty."""

    name: str
    local: str
    domain: str

    @property
    def address(self) -> str:
        """The addr-spec, as SMTP's MAIL and RCPT take it between angle brackets."""
        return f"{self.local}@{self.domain}"


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """A message ready for DATA, and the envelope that belongs to it.

    `content` ends in CRLF and is not dot-stuffed: that belongs to the wire. `rcpt_to` begins with `to`; then Cc and
    Bcc, each address once.
    """

    content: bytes
    message_id: str
    mail_from: str
    rcpt_to: tuple[str, ...]
    needs_smtputf8: bool = False
    needs_8bitmime: bool = False


class MailOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `Message.options` that this composer reads; other keys are someone else's."""

    cc: list[str] = []
    bcc: list[str] = []
    reply_to: str | None = None
    headers: dict[str, str] = {}
    list_unsubscribe: str | None = None


_NO_OPTIONS: Final = MailOptions()


def is_structural(name: str) -> bool:
    """Say whether a header belongs to the gateway alone, whatever its case."""
    lowered = name.strip().lower()
    return lowered in STRUCTURAL_HEADERS or lowered.startswith(_STRUCTURAL_PREFIXES)


def header_faults(
    *,
    subject: str | None = None,
    sender: str | None = None,
    to: str | None = None,
    to_name: str | None = None,
    reply_to: str | None = None,
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    attachments: Sequence[Attachment] = (),
    list_unsubscribe: str | None = None,
) -> list[tuple[str, str]]:
    """Find everything that `compose` would refuse, as (field, sentence); empty when all is well.

    Pure, for use when a message is accepted. Fields are named as in the API's `overrides.email`: `from`, `cc[0]`,
    `headers.X-Thing`, `attachments[1].filename`.
    """
    faults: list[tuple[str, str]] = []
    mailboxes = [("from", sender), ("to", to), ("reply_to", reply_to)]
    mailboxes += [(f"cc[{index}]", address) for index, address in enumerate(cc)]
    mailboxes += [(f"bcc[{index}]", address) for index, address in enumerate(bcc)]
    for field, address in mailboxes:
        if address is not None:
            try:
                parse_mailbox(field, address)
            except MimeFault as fault:
                faults.append((field, fault.message))
    if subject is not None and _CONTROLS_BUT_TAB.search(subject):
        faults.append(("subject", _CONTROL_FOUND))
    if to_name is not None and _CONTROLS.search(to_name):
        faults.append(("name", _CONTROL_FOUND))
    for name, value in (headers or {}).items():
        faults += [(f"headers.{_shown(name)}", fault) for fault in _custom_header_faults(name, value)]
    for index, attachment in enumerate(attachments):
        faults += [(f"attachments[{index}].{field}", fault) for field, fault in _attachment_faults(attachment)]
    if list_unsubscribe is not None and (fault := _list_unsubscribe_fault(list_unsubscribe)):
        faults.append(("list_unsubscribe", fault))
    return faults


def parse_mailbox(field: str, text: str) -> Mailbox:
    """Read `a@example.com`, `Name <a@example.com>` or `"Name, quoted" <a@example.com>`; one address only.

    An international domain becomes its A-labels (RFC 5891), so that only the local part can ask for SMTPUTF8.
    Raises `MimeFault` with `field` for anything else.
    """
    if _CONTROLS.search(text):
        raise MimeFault(field, _CONTROL_FOUND)
    text = text.strip()
    name = ""
    if "<" in text:
        found = _NAMED.fullmatch(text)
        if found is None:
            raise MimeFault(field, "not one e-mail address")
        name, text = found["name"].strip(), found["address"].strip()
        if name.startswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
    local, at, domain = text.rpartition("@")
    if not at or _LOCAL.fullmatch(local) is None:
        raise MimeFault(field, "not an e-mail address")
    if not local.isascii() and not local.isprintable():
        raise MimeFault(field, "invisible characters before the @")
    if not domain.isascii():
        domain = _a_labels(field, domain)
    if _DOMAIN.fullmatch(domain) is None:
        raise MimeFault(field, "not a domain behind the @")
    if len(local.encode()) + len(domain) >= _ADDRESS_OCTETS:
        raise MimeFault(field, f"longer than {_ADDRESS_OCTETS} octets")
    return Mailbox(" ".join(name.split()), local, domain)


@lru_cache(maxsize=64)  # a gateway has few senders
def parse_sender(text: str) -> Mailbox:
    """Read a sender as `parse_mailbox` does, and remember it. Raises `MimeFault` with the field `from`."""
    return parse_mailbox("from", text)


def compose(message: Message, *, message_id_domain: str | None = None) -> Composed:
    """Write the message. Pure and deterministic; raises `MimeFault` for what `header_faults` would have reported.

    The Message-ID is `<id@domain>` with the sender's domain, or `message_id_domain` where one is configured.
    """
    if message.sender is None:
        raise MimeFault("from", "no sender is configured")
    options = _options(message.options) if message.options else _NO_OPTIONS
    sender = parse_sender(message.sender)
    to = parse_mailbox("to", message.to)
    cc = [parse_mailbox(f"cc[{index}]", text) for index, text in enumerate(options.cc)]
    bcc = [parse_mailbox(f"bcc[{index}]", text) for index, text in enumerate(options.bcc)]
    safe_id = message.id if _SAFE_ID.fullmatch(message.id) else sha256(message.id.encode()).hexdigest()[:48]
    message_id = f"<{safe_id}@{message_id_domain or sender.domain}>"
    to_name = to.name if message.to_name is None else _checked_name("name", message.to_name)
    head = [
        f"Date: {_date(int(message.created_at))}",
        f"Message-ID: {message_id}",
        _mailboxes("From", [sender]),
        _mailboxes("To", [Mailbox(to_name, to.local, to.domain)]),
    ]
    if cc:
        head.append(_mailboxes("Cc", cc))
    if options.reply_to:
        head.append(_mailboxes("Reply-To", [parse_mailbox("reply_to", options.reply_to)]))
    if message.content.subject:
        if _CONTROLS_BUT_TAB.search(message.content.subject):
            raise MimeFault("subject", _CONTROL_FOUND)
        head.append(_unstructured("Subject", message.content.subject))
    head += _optional_headers(options)
    head.append("MIME-Version: 1.0\r\n")
    top = "\r\n".join(head)
    content = top.encode() + _body(message, safe_id)
    everyone = {box.address: None for box in (to, *cc, *bcc)}
    international = not top.isascii() or not "".join(everyone).isascii()
    return Composed(
        content=content if content.endswith(b"\r\n") else content + b"\r\n",
        message_id=message_id,
        mail_from=sender.address,
        rcpt_to=tuple(everyone),
        needs_smtputf8=international,
        # RFC 6531, 3.6: a message with UTF-8 in its headers travels as 8BITMIME; ours has 8-bit octets nowhere else.
        needs_8bitmime=international,
    )


# Headers

_CONTROL_FOUND: Final = "line breaks and control characters are not allowed here"


def _options(options: Mapping[str, object]) -> MailOptions:
    try:
        return msgspec.convert(dict(options), MailOptions)
    except msgspec.ValidationError as error:
        raise MimeFault("overrides", str(error)) from None


def _optional_headers(options: MailOptions) -> list[str]:
    lines: list[str] = []
    if options.list_unsubscribe is not None:
        if fault := _list_unsubscribe_fault(options.list_unsubscribe):
            raise MimeFault("list_unsubscribe", fault)
        # RFC 8058, 3.1; on one line each: folded ones are ignored by mailbox providers.
        lines.append(f"List-Unsubscribe: <{options.list_unsubscribe}>")
        if options.list_unsubscribe.startswith("https://"):  # RFC 8058, 3.1: one-click needs https
            lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
    for name, value in options.headers.items():
        for fault in _custom_header_faults(name, value):
            raise MimeFault(f"headers.{_shown(name)}", fault)
        lines.append(_unstructured(name, value.strip()))
    return lines


def _custom_header_faults(name: str, value: str) -> list[str]:
    faults: list[str] = []
    if _HEADER_NAME.fullmatch(name) is None or len(name) > _HEADER_NAME_CHARS:
        faults.append(f"a header name is 1 to {_HEADER_NAME_CHARS} printable ASCII characters without space and colon")
    if is_structural(name):
        faults.append("this header is written by the gateway and cannot be set")
    if _CONTROLS_BUT_TAB.search(value):
        faults.append(_CONTROL_FOUND)
    return faults


def _attachment_faults(attachment: Attachment) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    if _CONTROLS.search(attachment.filename):
        faults.append(("filename", _CONTROL_FOUND))
    if _CONTENT_TYPE.fullmatch(attachment.content_type) is None or len(attachment.content_type) > LINE_OCTETS // 2:
        faults.append(("content_type", "not a media type such as application/pdf"))
    cid = attachment.content_id
    if cid is not None and (_CONTENT_ID.fullmatch(cid) is None or len(cid) > LINE_OCTETS // 2):
        faults.append(("content_id", "printable ASCII without spaces and angle brackets only"))
    return faults


def _list_unsubscribe_fault(url: str) -> str | None:
    if _WEB_URL.fullmatch(url) is None:
        return "an https URL in ASCII is needed (http only where no one-click is)"
    if len("List-Unsubscribe: <>") + len(url) > LINE_OCTETS:
        return "too long for one header line, and it must not be folded"
    return None


def _shown(name: str) -> str:
    return _CONTROLS.sub("?", name)[:_HEADER_NAME_CHARS]


def _checked_name(field: str, name: str) -> str:
    if _CONTROLS.search(name):
        raise MimeFault(field, _CONTROL_FOUND)
    return " ".join(name.split())


def _a_labels(field: str, domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        raise MimeFault(field, "not a domain behind the @") from None


@lru_cache(maxsize=64)  # under load many are accepted in one second
def _date(created_s: int) -> str:
    at = time.gmtime(created_s)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04}"
        f" {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"
    )


def _mailboxes(header: str, boxes: Sequence[Mailbox]) -> str:
    """Write an address header, one mailbox a line: a mailbox is never cut, so no line can grow too long."""
    shown = [_mailbox(box, len(header) + 2 if index == 0 else 1) for index, box in enumerate(boxes)]
    return f"{header}: " + ",\r\n ".join(shown)


def _mailbox(box: Mailbox, used: int) -> str:
    if not box.name:
        return box.address
    if not box.name.isascii() or "=?" in box.name or len(box.name) > _NAME_CHARS:
        name = _encoded_words(box.name, used)
    elif _PHRASE.fullmatch(box.name):
        name = box.name
    else:
        name = _quoted(box.name)
    address = f"<{box.address}>"
    last = len(name) - name.rfind("\n")
    gap = " " if used + last + len(address) < _SOFT_LINE else "\r\n "
    return name + gap + address


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unstructured(name: str, value: str) -> str:
    """Write a free-text header: plain where it can be, folded at spaces where it is long, else encoded words."""
    plain = value.isascii() and value.isprintable() and "=?" not in value and value == value.strip()
    if plain and len(name) + 2 + len(value) <= _SOFT_LINE:
        return f"{name}: {value}"
    if plain and (folded := _folded(name, value)) is not None:
        return folded
    return f"{name}: {_encoded_words(value, len(name) + 2)}"


def _folded(name: str, value: str) -> str | None:
    """Fold plain text at single spaces (unfolding gives it back); `None` where a word is too long for any line."""
    words = value.split(" ")
    lines: list[str] = []
    line = f"{name}: {words[0]}"
    for before, word in pairwise(words):
        # A run of spaces stays on one line: a folded line of nothing but spaces is obsolete syntax (RFC 5322, 4.2).
        if before and word and len(line) + 1 + len(word) > _SOFT_LINE:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return None if max(map(len, lines)) > LINE_OCTETS else "\r\n".join(lines)


def _encoded_words(text: str, used: int) -> str:
    """Write RFC 2047 encoded words, cut between characters, each on a line of at most 76; `used` is taken already."""
    data = text.encode()
    words: list[str] = []
    start = 0
    room = _word_room(used)
    if room <= 0:  # the header's name fills the line: begin on the next one
        words.append("")
        room = _word_room(1)
    while start < len(data):
        end = min(start + room, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # noqa: PLR2004 - RFC 3629, 3: 10xxxxxx continues
            end -= 1
        words.append("=?utf-8?b?" + b2a_base64(data[start:end], newline=False).decode() + "?=")
        start = end
        room = _word_room(1)
    return "\r\n ".join(words)


def _word_room(used: int) -> int:
    return (_WORD_LINE - used - len("=?utf-8?b??=")) // 4 * 3


# Parts: each is its own headers, an empty line and its body, without a final line break


def _body(message: Message, safe_id: str) -> bytes:
    content = message.content
    inline = [part for part in content.attachments if part.content_id is not None and content.html]
    attached = [part for part in content.attachments if part.content_id is None or not content.html]
    for index, part in enumerate(content.attachments):
        for field, fault in _attachment_faults(part):
            raise MimeFault(f"attachments[{index}].{field}", fault)
    text = content.text
    if content.html:
        html = _text_part(b"html", content.html)
        if inline:
            html = _multipart("related", f"=_r_{safe_id}", [html, *map(_file_part, inline)])
        if not text:
            text = _text_from(content.html)
        body = _multipart("alternative", f"=_a_{safe_id}", [_text_part(b"plain", text), html])
    else:
        body = _text_part(b"plain", text or "")
    return _multipart("mixed", f"=_m_{safe_id}", [body, *map(_file_part, attached)]) if attached else body


def _multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    """Join parts under a boundary that needs no search.

    `=_` occurs in no quoted-printable and no base64 body, and a text that holds `--=_` is never written as 7bit.
    """
    kind = ' type="text/html";' if subtype == "related" else ""
    line = f"--{boundary}\r\n".encode()
    head = f'Content-Type: multipart/{subtype};{kind}\r\n boundary="{boundary}"\r\n\r\n'.encode()
    return head + line + (b"\r\n" + line).join(parts) + f"\r\n--{boundary}--\r\n".encode()


def _text_part(subtype: bytes, text: str) -> bytes:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    data = text.replace("\n", "\r\n").encode("utf-8", "replace")
    if _is_plain(data):
        charset, encoding = b"us-ascii", b"7bit"
    elif len(data.translate(None, _ASCII)) * _QP_PAYS_UNTIL > len(data):
        charset, encoding, data = b"utf-8", b"base64", _base64(data)
    else:
        charset, encoding, data = b"utf-8", b"quoted-printable", _quoted_printable(data)
    return b"Content-Type: text/%b; charset=%b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        subtype,
        charset,
        encoding,
        data,
    )


def _is_plain(data: bytes) -> bool:
    """Say whether 7bit carries it unharmed: no controls, no line too long, nothing a mailbox file would alter."""
    if data.translate(None, _PLAIN) or b"--=_" in data or data.startswith(b"From ") or b"\nFrom " in data:
        return False
    start = 0
    while len(data) - start > LINE_OCTETS:  # the last end of a line that a line may reach: those before it are shorter
        end = data.rfind(b"\r\n", start, start + LINE_OCTETS + 2)
        if end < 0:
            return False
        start = end + 2
    return True


def _quoted_printable(data: bytes) -> bytes:
    encoded = b2a_qp(data, istext=True)
    if b"\r\n" not in data:  # soft breaks copy the data's own line ends, and it has none to copy
        encoded = encoded.replace(b"=\n", b"=\r\n")
    if encoded.startswith(b"From "):
        encoded = b"=46" + encoded[1:]
    return encoded.replace(b"\r\nFrom ", b"\r\n=46rom ")


def _base64(data: bytes) -> bytes:
    encoded = b2a_base64(data, newline=False)
    return b"\r\n".join([encoded[at : at + _BASE64_LINE] for at in range(0, len(encoded), _BASE64_LINE)])


def _file_part(attachment: Attachment) -> bytes:
    content_type = attachment.content_type
    # RFC 2046, 5.1 and 5.2.1: these may not be written as base64, and we never send 8-bit octets.
    if content_type.lower().startswith(("multipart/", "message/")):
        content_type = "application/octet-stream"
    lines = [f"Content-Type: {content_type}", "Content-Transfer-Encoding: base64"]
    place = "attachment" if attachment.content_id is None else "inline"
    lines.append(f"Content-Disposition: {place}{_filename(attachment.filename)}")
    if attachment.content_id is not None:
        lines.append(f"Content-ID: <{attachment.content_id}>")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + _base64(attachment.content)


def _filename(name: str) -> str:
    """Write the parameter: plain where it is short ASCII, else RFC 2231 with continuations."""
    if not name:
        return ""
    if name.isascii() and len(name) <= _PARAMETER_CHARS and not any(letter in name for letter in "\\\"'%*"):
        return f'; filename="{name}"'
    pieces = [""]
    for letter in name:  # never cut within a character: some parsers decode each piece by itself
        escaped = quote(letter, safe="")
        if len(pieces[-1]) + len(escaped) > _PARAMETER_CHARS:
            pieces.append("")
        pieces[-1] += escaped
    if len(pieces) == 1:
        return f";\r\n filename*=utf-8''{pieces[0]}"
    return "".join([_continuation(index, piece) for index, piece in enumerate(pieces)])


def _continuation(index: int, piece: str) -> str:
    charset = "" if index else "utf-8''"  # RFC 2231, 4.1: on the first piece only
    return f";\r\n filename*{index}*={charset}{piece}"


def _text_from(html: str) -> str:
    """Derive the text part: links are kept, since a message without its link is often useless."""
    # Imported here because it costs 40 ms at start and most messages bring their own text.
    from inscriptis import get_text  # noqa: PLC0415
    from inscriptis.model.config import ParserConfig  # noqa: PLC0415

    readable = _CONTROLS_IN_BODY.sub("", html)
    return get_text(readable, ParserConfig(display_links=True)).strip() + "\n" if readable.strip() else ""


_CONTROLS_IN_BODY: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")  # what XML forbids: lxml refuses it
