"""Discord, by webhook: the adapter `chat_discord`.

Owns the embed made from words, files, and the reading of Discord's errors and rate limits. Refuses to know any bot:
whoever has a webhook's URL may post to its channel, so the URL is the address, and a secret.

Where it is written: https://discord.com/developers/docs/resources/webhook#execute-webhook,
https://discord.com/developers/docs/resources/message#embed-object-embed-limits,
https://discord.com/developers/docs/topics/rate-limits ("IP addresses that make too many invalid HTTP requests are
automatically and temporarily restricted … 10,000 per 10 minutes": 401, 403 and 429 count) and
https://discord.com/developers/docs/topics/opcodes-and-status-codes#json.

Without `wait=true` a message that was not saved "does not return an error": it is always asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, cast
from urllib.parse import parse_qs

import msgspec
from msgspec import Meta

from channels.chat_escapes import bracketed_address, discord, discord_marks
from channels.chat_markup import Dialect, HookHosts, Words, blocks_of, chosen, cut, words_of
from channels.contract import Accepted, Check, Limits, Message, OptionFault, Outcome, Reason, Rejected, Retry, Tools
from channels.http import Answer, Part, Wire, WireSettings, judge, words

__all__ = ["DiscordChannel", "DiscordSettings", "embed"]

_CONTENT_CHARS: Final = 2000
_EMBEDS_MOST: Final = 10
_EMBED_CHARS: Final = 6000  # "the combined sum of characters in all title, description, field … must not exceed 6000"
_TITLE_CHARS: Final = 256
_DESCRIPTION_CHARS: Final = 4096
_FILES_MOST: Final = 10
_BODY_OCTETS: Final = 25 * 1024 * 1024  # "the file upload size limit applies to all files in a request"; servers differ
_BUSY_MOST: Final = 10_000  # webhooks remembered as out of turns

_OWN_FIELDS: Final = (
    "content", "embeds", "username", "avatar_url", "tts", "flags", "thread_name", "applied_tags", "components", "poll",
)  # fmt: skip
_SAID: Final = ("content", "embeds", "components", "poll")
_THREAD: Final = re.compile(r"[0-9]{1,20}").fullmatch


class DiscordSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How webhooks are called; there is no account of ours."""

    webhook_origins: tuple[str, ...] = (
        "https://discord.com",
        "https://discordapp.com",
        "https://canary.discord.com",
        "https://ptb.discord.com",
    )
    """Where callers' webhook URLs may lead."""

    __repr__ = WireSettings.__repr__


class DiscordOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say in Discord's own terms."""

    content: Annotated[str, Meta(max_length=_CONTENT_CHARS)] | None = None
    embeds: Annotated[list[dict[str, Any]], Meta(max_length=_EMBEDS_MOST)] | None = None
    """In the place of what would be made from title and body."""
    allowed_mentions: dict[str, Any] | None = None
    """Without it nobody is pinged, whatever the text says."""
    thread_id: Annotated[str, Meta(pattern="^[0-9]{1,20}$")] | Annotated[int, Meta(ge=0)] | None = None
    thread_name: Annotated[str, Meta(max_length=100)] | None = None
    applied_tags: list[str] | None = None
    username: Annotated[str, Meta(max_length=80)] | None = None
    avatar_url: Annotated[str, Meta(max_length=2048)] | None = None
    tts: bool | None = None
    flags: int | None = None
    components: list[dict[str, Any]] | None = None
    poll: dict[str, Any] | None = None


class DiscordChannel:
    """Posts through the webhooks that callers name."""

    kind: ClassVar[str] = "discord"
    Settings: ClassVar[type[msgspec.Struct]] = DiscordSettings
    Overrides: ClassVar[type[msgspec.Struct]] = DiscordOverrides

    def __init__(self, settings: DiscordSettings, tools: Tools) -> None:
        self.limits = Limits(
            message_bytes=_BODY_OCTETS,
            subject_chars=_TITLE_CHARS,
            text_chars=_DESCRIPTION_CHARS,
            attachments=True,
            concurrency=settings.connections,
        )
        self._wire = Wire(settings, tools)
        self._hosts = HookHosts(settings.webhook_origins)
        self._now = tools.now
        self._busy: dict[str, float] = {}  # webhook: until when it has no turn left, in Unix seconds

    async def send(self, message: Message) -> Outcome:
        """Post one message. Never raises for what Discord does; safe to call concurrently."""
        if (fault := self._hosts.fault(message.to)) is not None:
            return Rejected(Reason.INVALID_ADDRESS, fault)
        payload = _payload(message)
        if isinstance(payload, Rejected):
            return payload
        webhook = message.to.partition("?")[0]
        if (wait := self._busy.get(webhook, 0.0) - self._now()) > 0:
            return Retry(Reason.RETRY, wait, "this webhook's limit is used up for now")
        self._busy.pop(webhook, None)
        target = _target(message)
        if message.content.attachments:
            result = await self._wire.post(target, parts=_parts(payload, message))
        else:
            result = await self._wire.post(target, json=payload)
        if isinstance(result, Answer):
            self._note(webhook, result)
        return judge(result, _read, callers_endpoint=True)

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """Count an embed's characters as Discord does."""
        fault = _embeds_fault(options.get("embeds") or [])
        return [OptionFault(field="embeds", code="too_long", message=fault)] if fault else []

    def raw(self, message: Message) -> bytes:
        """Show the message's JSON, without files. Empty where `send` would reject it."""
        payload = _payload(message)
        return b"" if isinstance(payload, Rejected) else msgspec.json.encode(payload)

    async def check(self) -> Check:
        """Say that there is no account of ours to ask about."""
        return Check(ok=None, detail="there is no account: each webhook is its own")

    async def check_address(self, address: str) -> Check:
        """Ask whether a webhook is there. Posts nothing.

        https://discord.com/developers/docs/resources/webhook#get-webhook-with-token: "does not require authentication".
        """
        if (fault := self._hosts.fault(address)) is not None:
            return Check(ok=False, detail=fault)
        result = await self._wire.get(address.partition("?")[0])
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        fault = result.decode(_Fault) or _Fault()
        there = result.ok and result.decode(_Webhook) is not None
        return Check(ok=there, detail=words(result, fault.code or None, fault.message or None))

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    def _note(self, webhook: str, answer: Answer) -> None:
        """Remember that a webhook has no turn left, so that nobody is told 429 who need not ask: too many are a ban."""
        if answer.headers.get("x-ratelimit-remaining") != "0":
            return
        seconds = _seconds(answer.headers.get("x-ratelimit-reset-after"))
        if seconds:
            if len(self._busy) >= _BUSY_MOST:
                self._busy.clear()
            self._busy[webhook] = self._now() + seconds


def _seconds(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None


# Reading answers. Pure.


class _Posted(msgspec.Struct, frozen=True):
    id: str
    channel_id: str = ""


class _Webhook(msgspec.Struct, frozen=True):
    id: str


class _Fault(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    retry_after: float | None = None
    is_global: bool = msgspec.field(name="global", default=False)
    errors: Mapping[str, Any] = {}


_REFUSALS: Final[Mapping[int, Reason]] = {
    10003: Reason.ADDRESS_DEAD,  # unknown channel
    10015: Reason.ADDRESS_DEAD,  # unknown webhook
    50027: Reason.ADDRESS_DEAD,  # invalid webhook token: the URL's own secret, never to be valid again
    30046: Reason.RETRY,
    40005: Reason.TOO_LARGE,  # request entity too large
    50001: Reason.INVALID_ADDRESS,  # missing access
    50013: Reason.INVALID_ADDRESS,  # missing permissions
    50083: Reason.INVALID_ADDRESS,  # the thread is archived
    160005: Reason.INVALID_ADDRESS,  # the thread is locked
    50006: Reason.MESSAGE_INVALID,  # empty message
    50035: Reason.MESSAGE_INVALID,  # invalid form body
    50109: Reason.MESSAGE_INVALID,  # invalid JSON
    220001: Reason.MESSAGE_INVALID,  # a forum's webhook needs thread_name or thread_id
    220002: Reason.MESSAGE_INVALID,
    220003: Reason.MESSAGE_INVALID,
    220004: Reason.MESSAGE_INVALID,
    20009: Reason.CONTENT_REFUSED,  # explicit content
    200000: Reason.CONTENT_REFUSED,  # blocked by AutoMod
    200001: Reason.CONTENT_REFUSED,
    240000: Reason.CONTENT_REFUSED,  # harmful links
}
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429


def _read(answer: Answer) -> Outcome | None:
    if answer.ok:
        posted = answer.decode(_Posted)
        return Accepted(f"{posted.channel_id}:{posted.id}" if posted.channel_id else posted.id) if posted else None
    fault = answer.decode(_Fault) or _Fault()
    detail = words(answer, fault.code or None, fault.message, *_fields(fault.errors))
    if answer.status == _TOO_MANY:
        return _limited(answer, fault, detail)
    if (reason := _REFUSALS.get(fault.code)) is not None:
        return Retry(reason, answer.retry_after, detail) if reason is Reason.RETRY else Rejected(reason, detail)
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, detail)
    return None


def _limited(answer: Answer, fault: _Fault, detail: str) -> Outcome:
    """Read a 429. Its body counts in fractions, its header in whole seconds.

    A webhook's own limit (scope `user` or `shared`) is that delivery's affair; a global one concerns our network
    address, and every other webhook would be refused too.
    """
    own = fault.retry_after if fault.retry_after is not None and fault.retry_after >= 0 else None
    everybody = fault.is_global or answer.headers.get("x-ratelimit-scope") == "global"
    return Retry(
        Reason.RATE_LIMITED if everybody else Reason.RETRY, own if own is not None else answer.retry_after, detail
    )


def _fields(errors: Mapping[str, Any]) -> list[str]:
    """Name the fields that Discord found fault with, without their contents."""
    return [name for name in errors if name.isidentifier()][:5]


# What is posted. Pure.


def _link(shown: str, address: str) -> str:
    plain = bracketed_address(address)
    return plain if shown == address else f"[{shown}]({plain})"


_DISCORD: Final = Dialect(
    text=discord,
    strong=("**", "**"),
    em=("*", "*"),
    strike=("~~", "~~"),
    code=lambda text: "`" + text.replace("`", "'") + "`",
    pre=lambda text: "```\n" + text.replace("```", "'''") + "\n```",
    link=_link,
    heading=lambda text: f"### {text}",
    quote=lambda text: "> " + text.replace("\n", "\n> "),
    bullet="- ",
    rule="———",
)


def _payload(message: Message) -> dict[str, Any] | Rejected:
    """Make the message: the caller's own content and embeds, or an embed made from words."""
    fields = chosen(message.content.data, message.options, _OWN_FIELDS)
    if not any(name in fields for name in _SAID):
        fields |= _native(words_of(message.content))
    fault = _fault(fields, message)
    if fault is not None:
        return fault
    # No ping comes from data: only who writes the template or the request may allow one.
    wish = message.options.get("allowed_mentions", message.content.data.get("allowed_mentions"))
    fields["allowed_mentions"] = wish if isinstance(wish, Mapping) else {"parse": []}
    return fields


def _native(said: Words) -> dict[str, Any]:
    found = embed(said)
    if set(found) == {"description"} and len(found["description"]) <= _CONTENT_CHARS:
        return {"content": found["description"]}
    return {"embeds": [found]} if found else {}


def embed(said: Words) -> dict[str, Any]:
    """Make an embed. Webhooks without an application have no buttons: actions are links below the text."""
    lines = [_link(discord(action.label), action.url) for action in said.actions]
    title = cut(said.title, _TITLE_CHARS) if said.title else None
    found = {
        "title": discord_marks(title) if title else None,
        "description": "\n\n".join([*blocks_of(said, _DISCORD), *(["\n".join(lines)] if lines else [])]),
        "url": said.url if said.title else None,
        "image": {"url": said.image_url} if said.image_url else None,
    }
    if said.url and not said.title:
        found["description"] = f"{found['description']}\n\n{said.url}".strip()
    return {name: value for name, value in found.items() if value}


def _fault(fields: Mapping[str, Any], message: Message) -> Rejected | None:
    if not any(fields.get(name) for name in _SAID) and not message.content.attachments:
        return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title, no text, no embed and no file")
    content, embeds = fields.get("content"), fields.get("embeds")
    if isinstance(content, str) and len(content) > _CONTENT_CHARS:
        return Rejected(Reason.TOO_LARGE, f"content: {len(content)} characters; at most {_CONTENT_CHARS}")
    if isinstance(embeds, list):
        found = cast("list[Any]", embeds)
        if len(found) > _EMBEDS_MOST:
            return Rejected(Reason.TOO_LARGE, f"{len(found)} embeds; at most {_EMBEDS_MOST}")
        if (fault := _embeds_fault(found)) is not None:
            return Rejected(Reason.TOO_LARGE, fault)
    files = message.content.attachments
    if len(files) > _FILES_MOST or sum(len(each.content) for each in files) > _BODY_OCTETS:
        return Rejected(Reason.TOO_LARGE, f"at most {_FILES_MOST} files with {_BODY_OCTETS} bytes together")
    return None


_EMBED_LIMITS: Final = {"title": _TITLE_CHARS, "description": _DESCRIPTION_CHARS}
_FIELDS_MOST: Final = 25
_FIELD_LIMITS: Final = {"name": 256, "value": 1024}


def _embeds_fault(embeds: list[Any]) -> str | None:
    total = 0
    for each in embeds:
        if not isinstance(each, Mapping):
            continue  # Discord says what it thinks of it
        shown = cast("Mapping[str, Any]", each)
        given = shown.get("fields")
        fields = cast("list[Any]", given) if isinstance(given, list) else []
        if len(fields) > _FIELDS_MOST:
            return f"an embed has {len(fields)} fields; at most {_FIELDS_MOST}"
        places = [(shown, _EMBED_LIMITS)]
        if fields:
            places += [(cast("Mapping[str, Any]", each), _FIELD_LIMITS) for each in fields if isinstance(each, Mapping)]
        for place, limits in places:
            for name, most in limits.items():
                length = len(str(place.get(name) or ""))
                total += length
                if length > most:
                    return f"an embed's {name} has {length} characters; at most {most}"
        for outer, inner in (("footer", "text"), ("author", "name")):
            if outer in shown:
                total += len(str(_inside(shown, outer, inner) or ""))
    return f"embeds: {total} characters together; at most {_EMBED_CHARS}" if total > _EMBED_CHARS else None


def _inside(found: Mapping[str, Any], outer: str, inner: str) -> Any:
    part = found.get(outer)
    return cast("Mapping[str, Any]", part).get(inner) if isinstance(part, Mapping) else None


def _target(message: Message) -> str:
    """Write the URL: `wait` always, the thread that the caller or the URL names."""
    base, _, query = message.to.partition("?")
    named = parse_qs(query).get("thread_id", [""])[-1] if query else ""
    thread = str(message.options.get("thread_id") or named)
    threads = f"&thread_id={thread}" if _THREAD(thread) else ""
    components = "&with_components=true" if _own_components(message) else ""
    return f"{base}?wait=true{threads}{components}"


def _own_components(message: Message) -> bool:
    return "components" in message.options or "components" in message.content.data


def _parts(payload: Mapping[str, Any], message: Message) -> list[Part]:
    files = [
        Part(
            name=f"files[{number}]",
            content=each.content,
            filename=each.filename,
            content_type=each.content_type,
        )
        for number, each in enumerate(message.content.attachments)
    ]
    encoded = msgspec.json.encode(payload)
    return [Part(name="payload_json", content=encoded, content_type="application/json"), *files]
