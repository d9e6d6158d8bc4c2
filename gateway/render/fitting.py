"""Whether a rendered message fits its medium: what a service would refuse, and what readers would see cut.

Owns the sizes that services publish, for `gateway templates check`; the adapters hold the real message to them again.
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from channels.contract import Content
from channels.sms_segments import count_segments, text_of

Severity = Literal["error", "warning"]
_Found = Iterator[tuple[Severity, str]]

_SEGMENTS_GOOD: Final = 2
_PUSH_TITLE_CHARS: Final = 65
_PUSH_BODY_CHARS: Final = 180
"""What phones and desktops show of a push before they cut."""
_PUSH_BYTES: Final = 3_900  # of 3,993 (RFC 8291) and 4,096 (FCM): the message's id comes to it
_MAIL_BYTES: Final = 102_000  # Gmail clips what is longer
_SUBJECT_CHARS: Final = 78  # RFC 5322 2.1.1, and more than most mailboxes show
_HOOK_BYTES: Final = 20_000  # Standard Webhooks: "payloads … recommended to be kept under 20kb"
_TEAMS_BYTES: Final = 27_000  # of 28 KiB with its envelope
_TELEGRAM_CHARS: Final = 4_096

# Block Kit and embeds: field, most characters. A refusal where it is exceeded.
_SLACK_TEXTS: Final = {"section": 3_000, "header": 150, "button": 75, "context": 3_000}
_SLACK_BLOCKS: Final = 50
_SLACK_ELEMENTS: Final = {"actions": 25, "context": 10}
_SLACK_FIELDS: Final = (10, 2_000)
_DISCORD_TEXTS: Final = {"title": 256, "description": 4_096}
_DISCORD_CONTENT: Final = 2_000
_DISCORD_EMBEDS: Final = 10
_DISCORD_FIELDS: Final = 25
_DISCORD_FIELD: Final = {"name": 256, "value": 1_024}


def fitting_faults(channel: str, content: Content) -> list[tuple[Severity, str]]:
    """List what does not fit, as (severity, sentence)."""
    nothing = not (content.text or "").strip() and not content.html and not content.data
    found = list(_CHECKS.get(channel, _nothing)(content))
    return [("error", "there is nothing to show"), *found] if nothing else found


def _nothing(content: Content) -> _Found:
    del content
    yield from ()


def _email(content: Content) -> _Found:
    if not (content.subject or "").strip():
        yield "error", "the subject is empty"
    yield from _chars("warning", "the subject", content.subject, _SUBJECT_CHARS)
    size = len((content.html or "").encode())
    if size > _MAIL_BYTES:
        yield "warning", f"the HTML has {size} bytes; mailboxes clip what is over {_MAIL_BYTES}"


def _sms(content: Content) -> _Found:
    if content.data.get("content_sid") is None:
        counted = count_segments(text_of(content).strip())
        if counted.segments > _SEGMENTS_GOOD:
            yield "warning", f"{counted}, each of them paid for"


def _push(content: Content) -> _Found:
    shown: Mapping[str, Any] = content.data.get("notification") or content.data
    yield from _chars("warning", "the title", shown.get("title") or content.subject, _PUSH_TITLE_CHARS)
    body = shown.get("body") if "notification" in content.data else content.text
    yield from _chars("warning", "the body", _plain(body, content.data), _PUSH_BODY_CHARS)
    yield from _bytes("error", content.data, _PUSH_BYTES)


def _plain(body: Any, data: Mapping[str, Any]) -> str:
    text = body if isinstance(body, str) else ""
    url = data.get("url")
    return text.removesuffix(url).strip() if isinstance(url, str) else text


def _slack(content: Content) -> _Found:
    blocks = _objects(content.data.get("blocks"))
    if len(blocks) > _SLACK_BLOCKS:
        yield "error", f"{len(blocks)} blocks; Slack shows at most {_SLACK_BLOCKS}"
    for block in blocks:
        kind = str(block.get("type"))
        elements = _objects(block.get("elements"))
        if len(elements) > _SLACK_ELEMENTS.get(kind, len(elements)):
            yield "error", f"a block {kind!r} with {len(elements)} elements; at most {_SLACK_ELEMENTS[kind]}"
        for each in (block, *elements):
            whose = str(each.get("type"))
            yield from _chars("error", f"a text in {whose!r}", _text(each), _SLACK_TEXTS.get(whose))
        fields = _objects(block.get("fields"))
        if len(fields) > _SLACK_FIELDS[0]:
            yield "error", f"a section with {len(fields)} fields; at most {_SLACK_FIELDS[0]}"
        for each in fields:
            yield from _chars("error", "a field", each.get("text"), _SLACK_FIELDS[1])


def _text(element: Mapping[str, Any]) -> Any:
    found = element.get("text")
    return cast("Mapping[str, Any]", found).get("text") if isinstance(found, Mapping) else found


def _discord(content: Content) -> _Found:
    yield from _chars("error", "content", content.data.get("content"), _DISCORD_CONTENT)
    embeds = _objects(content.data.get("embeds"))
    if len(embeds) > _DISCORD_EMBEDS:
        yield "error", f"{len(embeds)} embeds; at most {_DISCORD_EMBEDS}"
    for embed in embeds:
        fields = _objects(embed.get("fields"))
        if len(fields) > _DISCORD_FIELDS:
            yield "error", f"an embed with {len(fields)} fields; at most {_DISCORD_FIELDS}"
        for place, limits in [(embed, _DISCORD_TEXTS), *((each, _DISCORD_FIELD) for each in fields)]:
            for name, most in limits.items():
                yield from _chars("error", f"an embed's {name}", place.get(name), most)


def _teams(content: Content) -> _Found:
    yield from _bytes("error", content.data, _TEAMS_BYTES)


def _telegram(content: Content) -> _Found:
    text = content.data.get("text") or content.html or content.text
    yield from _chars("error", "the text", text, _TELEGRAM_CHARS)


def _hook(content: Content) -> _Found:
    yield from _bytes("warning", content.data, _HOOK_BYTES)


def _chars(severity: Severity, what: str, text: Any, most: int | None) -> _Found:
    if most is not None and isinstance(text, str) and len(text) > most:
        yield severity, f"{what} has {len(text)} characters; {most} are shown"


def _bytes(severity: Severity, data: Mapping[str, Any], most: int) -> _Found:
    size = len(msgspec.json.encode(data))
    if size > most:
        yield severity, f"{size} bytes; {most} are carried"


def _objects(found: Any) -> Sequence[Mapping[str, Any]]:
    several = cast("list[Any]", found) if isinstance(found, list) else []
    return [cast("Mapping[str, Any]", each) for each in several if isinstance(each, Mapping)]


_CHECKS: Final[Mapping[str, Callable[[Content], _Found]]] = {
    "email": _email,
    "sms": _sms,
    "web_push": _push,
    "mobile_push": _push,
    "slack": _slack,
    "discord": _discord,
    "teams": _teams,
    "telegram": _telegram,
    "webhook": _hook,
}
