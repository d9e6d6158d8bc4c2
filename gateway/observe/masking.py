"""Addresses and keys, made unreadable but still tellable apart: for logs, and for callers without the scope `read`.

Pure. Owns which characters are shown; better one too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

STARS: Final = "***"
_PHONE_HEAD: Final = 5
_PHONE_TAIL: Final = 4
_PHONE_LONG: Final = 11
"""Characters (with the plus sign) from which a number may show head and tail and still hide some digits."""
_PHONE_SHORT_HEAD: Final = 3
_NAME_LONG: Final = 8
_NAME_HEAD: Final = 4

_SEPARATORS: Final = re.compile(r"[ ().\-/]")
_PHONE: Final = re.compile(r"\+[0-9]{4,15}").fullmatch
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*://)(?:[^/?#\s]*@)?([^/?#\s]*)").match

# What is looked for inside longer text.
_EMAIL_IN: Final = re.compile(r"""[^\s@<>"'`,;:()\[\]{}|\\=/]+@[^\s@<>"'`,;:()\[\]{}|\\=/?#&]+""")
_QUOTED_EMAIL_IN: Final = re.compile(r'"[^"\r\n]{1,64}"@[^\s@<>"\',;]+')
_PHONE_IN: Final = re.compile(r"(?<![\w+])\+[1-9][0-9 ().\-]{5,20}[0-9](?![0-9])")
_BEARER_IN: Final = re.compile(r"(?i)\b(bearer|basic|apikey|token)(\s+)[A-Za-z0-9._~+/=-]{8,}")
_KEY_IN: Final = re.compile(r"\b(ntfg_(?:live|team|test)_)[0-9A-Za-z]+")
_USERINFO_IN: Final = re.compile(r"(://[^:/@\s]*):[^\s]*@")
_SECRET_URL_IN: Final = re.compile(
    # Whoever knows these may post: the path is the password.
    r"(?i)(https?://(?:hooks\.slack\.com|(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks|[a-z0-9.-]*\.webhook\.office\.com))"
    r"/[^\s\"'<>]*",
)


def mask_address(text: str) -> str:
    """Hide most of an address: `j***@example.com`, `+1555***0001`, `https://hooks.slack.com/***`, `#ops***`."""
    if (url := _URL(text)) is not None:
        return f"{url[1]}{url[2]}/{STARS}"
    local, at, domain = text.rpartition("@")
    if at:
        return f"{local[:1]}{STARS}@{domain}"
    number = _SEPARATORS.sub("", text)
    if _PHONE(number):
        if len(number) >= _PHONE_LONG:
            return f"{number[:_PHONE_HEAD]}{STARS}{number[-_PHONE_TAIL:]}"
        return f"{number[:_PHONE_SHORT_HEAD]}{STARS}"
    return f"{text[:_NAME_HEAD]}{STARS}" if len(text) >= _NAME_LONG else STARS


def mask_text(text: str) -> str:
    """Hide every address, phone number, key and password that can be recognised within a longer text."""
    if "://" in text:
        text = _SECRET_URL_IN.sub(rf"\1/{STARS}", _USERINFO_IN.sub(rf"\1:{STARS}@", text))
    if "@" in text:
        text = _EMAIL_IN.sub(_masked_email, _QUOTED_EMAIL_IN.sub(_masked_email, text))
    if "+" in text:
        text = _PHONE_IN.sub(lambda found: mask_address(found[0]), text)
    if "ntfg_" in text:
        text = _KEY_IN.sub(rf"\1{STARS}", text)
    return _BEARER_IN.sub(rf"\1\2{STARS}", text)


def without(text: str, words: Iterable[str]) -> str:
    """Put stars for words that must not be repeated, whoever repeats them: longer ones before those they contain."""
    for word in words:
        if word in text:
            text = text.replace(word, STARS)
    return text


def _masked_email(found: re.Match[str]) -> str:
    local, _, domain = found[0].rpartition("@")
    return found[0] if local.endswith(STARS) else f"{local[:1]}{STARS}@{domain}"
