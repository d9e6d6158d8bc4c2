"""Telegram, by bot: the adapter `chat_telegram`.

Owns the message in Telegram's HTML made from words, and the reading of the Bot API's errors. Refuses to receive: a
bot's updates are somebody else's affair.

Where it is written: https://core.telegram.org/bots/api#sendmessage ("1-4096 characters after entities parsing"),
https://core.telegram.org/bots/api#html-style, https://core.telegram.org/bots/api#making-requests ("error_code …
contents are subject to change", "parameters" with `retry_after` and `migrate_to_chat_id`) and
https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this: one message a second in a chat, 20 a
minute in a group, about 30 a second in all.

Errors are told apart by their English descriptions, since several causes share a number; what is not known is tried
again. A recipient is a chat's number or the `@name` of a channel; the person must have started the bot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from channels.chat_markup import Dialect, Words, blocks_of, chosen, cut, words_of
from channels.contract import (
    Accepted,
    Check,
    Limits,
    Message,
    OptionFault,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Tools,
)
from channels.http import Answer, Wire, WireSettings, judge, words

__all__ = ["TelegramChannel", "TelegramSettings"]

_TEXT_CHARS: Final = 4096
_BUTTON_CHARS: Final = 64  # ours; longer ones are cut by clients
_BUTTONS_MOST: Final = 20  # ours, one below the other
_RATE: Final = "30/s"

_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,100}").fullmatch
_CHAT: Final = re.compile(r"-?[0-9]{1,20}").fullmatch
_NAME: Final = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,63}").fullmatch
_UNITS: Final = 2  # UTF-16 counts a character beyond the basic plane twice, and so does Telegram

_OWN_FIELDS: Final = (
    "disable_notification", "protect_content", "message_thread_id", "reply_parameters", "link_preview_options",
    "reply_markup", "message_effect_id", "business_connection_id",
)  # fmt: skip
_OF_AN_UPDATE: Final = frozenset(
    {"chat_id", "text", "parse_mode", "link_preview_options", "reply_markup", "business_connection_id"}
)


class TelegramSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bot."""

    token: str
    """As BotFather gives it: `123456:ABC-DEF…`. It stands in every URL, so URLs are told to nobody."""
    base_url: str = "https://api.telegram.org"

    __repr__ = WireSettings.__repr__


class TelegramOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say in Telegram's own terms."""

    text: Annotated[str, Meta(max_length=4 * _TEXT_CHARS)] | None = None
    """In the place of what would be made from title and body. Its marks are not counted; see `option_faults`."""
    parse_mode: Literal["HTML", "MarkdownV2", "Markdown"] | None = None
    entities: list[dict[str, Any]] | None = None
    disable_notification: bool | None = None
    protect_content: bool | None = None
    message_thread_id: int | None = None
    reply_parameters: dict[str, Any] | None = None
    link_preview_options: dict[str, Any] | None = None
    reply_markup: dict[str, Any] | None = None
    message_effect_id: Annotated[str, Meta(max_length=100)] | None = None
    business_connection_id: Annotated[str, Meta(max_length=100)] | None = None
    update_message_id: Annotated[str, Meta(max_length=100)] | int | None = None
    """Replaces this message: its number, or `chat:number`."""


class TelegramChannel:
    """Sends as one bot."""

    kind: ClassVar[str] = "telegram"
    Settings: ClassVar[type[msgspec.Struct]] = TelegramSettings
    Overrides: ClassVar[type[msgspec.Struct]] = TelegramOverrides

    def __init__(self, settings: TelegramSettings, tools: Tools) -> None:
        if not _TOKEN(settings.token):
            raise SettingsFault("token", "write the token as BotFather gives it: digits, a colon, letters")
        self.limits = Limits(text_chars=_TEXT_CHARS, rate=_RATE, concurrency=settings.connections)
        self._wire = Wire(settings, tools, base_url=settings.base_url)
        self._path = f"/bot{settings.token}/"

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what Telegram does; safe to call concurrently."""
        if not _CHAT(message.to) and not _NAME(message.to):
            return Rejected(Reason.INVALID_ADDRESS, "write a chat's number or a channel's @name")
        payload = _payload(message)
        if isinstance(payload, Rejected):
            return payload
        method = "editMessageText" if "message_id" in payload else "sendMessage"
        result = await self._wire.post(self._path + method, json=payload)
        moved = _moved_to(result) if isinstance(result, Answer) else None
        if moved is None:
            return judge(result, _read)
        # A group that became a supergroup has another number. Nothing was sent, and Telegram says where it is now.
        outcome = judge(await self._wire.post(self._path + method, json={**payload, "chat_id": moved}), _read)
        if isinstance(outcome, Accepted):
            return Accepted(outcome.provider_id, f"the group has moved: its number is now {moved}")
        return outcome

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """Count the text as Telegram does, in UTF-16 units without its marks."""
        length = _length(options)
        if length <= _TEXT_CHARS:
            return []
        sentence = f"{length} characters; Telegram takes at most {_TEXT_CHARS}"
        return [OptionFault(field="text", code="too_long", message=sentence)]

    def raw(self, message: Message) -> bytes:
        """Show the request's JSON. Empty where `send` would reject it."""
        payload = _payload(message)
        return b"" if isinstance(payload, Rejected) else msgspec.json.encode(payload)

    async def check(self) -> Check:
        """Ask Telegram which bot it is (getMe). Sends nothing."""
        result = await self._wire.get(self._path + "getMe")
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        said = result.decode(_Said)
        return Check(ok=said is not None and said.ok, detail=words(result, said and said.description))

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# Reading answers. Pure.


class _Parameters(msgspec.Struct, frozen=True):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class _Said(msgspec.Struct, frozen=True):
    ok: bool
    description: str = ""
    error_code: int = 0
    parameters: _Parameters = _Parameters()


class _Chat(msgspec.Struct, frozen=True):
    id: int


class _Sent(msgspec.Struct, frozen=True):
    message_id: int
    chat: _Chat


class _Done(msgspec.Struct, frozen=True):
    result: _Sent


_FORBIDDEN: Final = 403
_TOO_MANY: Final = 429
_NO_SUCH_BOT: Final = frozenset({401, 404})  # 404 answers a token of no known form

# Words of the descriptions, in lower case; the first that is found decides.
_REFUSALS: Final[tuple[tuple[str, Reason], ...]] = (
    ("blocked by the user", Reason.ADDRESS_DEAD),
    ("user is deactivated", Reason.ADDRESS_DEAD),
    ("was kicked", Reason.ADDRESS_DEAD),
    ("chat not found", Reason.ADDRESS_DEAD),
    ("group chat was deleted", Reason.ADDRESS_DEAD),
    # "bot can't send messages to the user" has been seen for minutes, by mistake; the others may be put right.
    ("can't initiate conversation", Reason.INVALID_ADDRESS),
    ("can't send messages", Reason.INVALID_ADDRESS),
    ("not a member", Reason.INVALID_ADDRESS),
    ("user not found", Reason.INVALID_ADDRESS),
    ("peer_id_invalid", Reason.INVALID_ADDRESS),
    ("not enough rights", Reason.INVALID_ADDRESS),
    ("have no rights", Reason.INVALID_ADDRESS),
    ("need administrator rights", Reason.INVALID_ADDRESS),
    ("chat_write_forbidden", Reason.INVALID_ADDRESS),
    ("topic_closed", Reason.INVALID_ADDRESS),
    ("message is too long", Reason.TOO_LARGE),
    ("message_too_long", Reason.TOO_LARGE),
    ("message text is empty", Reason.MESSAGE_INVALID),
    ("can't parse", Reason.MESSAGE_INVALID),
    ("button_", Reason.MESSAGE_INVALID),
    ("inline keyboard", Reason.MESSAGE_INVALID),
    ("thread not found", Reason.MESSAGE_INVALID),
    ("to be replied not found", Reason.MESSAGE_INVALID),
    ("to edit not found", Reason.MESSAGE_INVALID),
    ("can't be edited", Reason.MESSAGE_INVALID),
    ("wrong http url", Reason.MESSAGE_INVALID),
)


def _read(answer: Answer) -> Outcome | None:
    if answer.ok:
        done = answer.decode(_Done)
        return Accepted(f"{done.result.chat.id}:{done.result.message_id}") if done else None
    said = answer.decode(_Said)
    if said is None:
        return None
    detail = words(answer, said.description)
    if answer.status == _TOO_MANY:
        own = said.parameters.retry_after
        return Retry(Reason.RATE_LIMITED, own if own is not None and own >= 0 else answer.retry_after, detail)
    if answer.status in _NO_SUCH_BOT:
        return Rejected(Reason.ACCOUNT_PROBLEM, detail)
    return _refusal(answer.status, said.description.lower(), detail)


def _refusal(status: int, description: str, detail: str) -> Outcome | None:
    if "message is not modified" in description:
        return Accepted(detail=detail)  # the update says what the message says already
    for found, reason in _REFUSALS:
        if found in description:
            return Rejected(reason, detail)
    # A chat that forbids something says nothing about the bot as such.
    return Rejected(Reason.INVALID_ADDRESS, detail) if status == _FORBIDDEN else None


def _moved_to(answer: Answer) -> int | None:
    said = None if answer.ok else answer.decode(_Said)
    return said.parameters.migrate_to_chat_id if said else None


# What is sent. Pure.


def _text(text: str) -> str:
    return escape(text, quote=False)


_QUOTE: Final = re.compile(r"</?blockquote>")

_HTML: Final = Dialect(
    text=_text,
    strong=("<b>", "</b>"),
    em=("<i>", "</i>"),
    strike=("<s>", "</s>"),
    code=lambda text: f"<code>{_text(text)}</code>",
    pre=lambda text: f"<pre>{_text(text)}</pre>",
    link=lambda shown, address: f'<a href="{escape(address)}">{_LINKS.sub("", shown)}</a>',
    heading=lambda text: f"<b>{text}</b>",
    quote=lambda text: f"<blockquote>{_QUOTE.sub('', text)}</blockquote>",  # "can't be nested"
    bullet="• ",
    rule="———",
)
_LINKS: Final = re.compile(r"</?a\b[^>]*>")
_TAGS: Final = re.compile(r"<[^>]*>")


def _payload(message: Message) -> dict[str, Any] | Rejected:
    """Make the request: the caller's own text and fields, the template's HTML, or a text made from words."""
    data, options = message.content.data, message.options
    said = words_of(message.content)
    own = chosen(data, options, ("text", "parse_mode", "entities")) if "text" in data or "text" in options else None
    said_fields = own or {"text": (message.content.html or "").strip() or _written(said), "parse_mode": "HTML"}
    length = _length(said_fields)
    if not length:
        return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title and no text")
    if length > _TEXT_CHARS:
        return Rejected(Reason.TOO_LARGE, f"{length} characters; Telegram takes at most {_TEXT_CHARS}")
    chat: int | str = int(message.to) if _CHAT(message.to) else message.to
    payload = {"chat_id": chat, **said_fields, **_around(said), **chosen(data, options, _OWN_FIELDS)}
    update = _update_of(options)
    if update is None:
        return payload
    return {"message_id": update, **{name: value for name, value in payload.items() if name in _OF_AN_UPDATE}}


def _length(fields: Mapping[str, Any]) -> int:
    text = str(fields.get("text") or "")
    if fields.get("parse_mode") == "HTML":
        text = _TAGS.sub("", text).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return len(text.strip().encode("utf-16-le", "surrogatepass")) // _UNITS


def _written(said: Words) -> str:
    title = [f"<b>{_text(said.title)}</b>"] if said.title else []
    url = [_text(said.url)] if said.url and said.url not in {action.url for action in said.actions} else []
    return "\n\n".join([*title, *blocks_of(said, _HTML), *url])


def _around(said: Words) -> dict[str, Any]:
    """Show the image above the text, as the preview of a link, and actions as buttons below it."""
    found: dict[str, Any] = {"link_preview_options": {"is_disabled": True}}
    if said.image_url:
        found["link_preview_options"] = {
            "url": said.image_url,
            "prefer_large_media": True,
            "show_above_text": True,
        }
    if said.actions:
        rows = [[{"text": cut(each.label, _BUTTON_CHARS), "url": each.url}] for each in said.actions[:_BUTTONS_MOST]]
        found["reply_markup"] = {"inline_keyboard": rows}
    return found


def _update_of(options: Mapping[str, Any]) -> int | None:
    """Say which message to replace: its number, or `chat:number` as in `Accepted.provider_id`."""
    found = str(options.get("update_message_id") or "").rpartition(":")[2]
    return int(found) if found.isascii() and found.isdigit() else None
