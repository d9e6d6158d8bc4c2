"""A template's own structure for a channel (blocks, embeds, cards), with data put in so that it stays data.

Owns which strings of a structure a medium reads as marked-up text, which lead somewhere and which decide what a thing
is, and how data is written in each. Refuses to know templates: it gets a tree whose strings say which of their pieces
are data. A channel it does not know has plain strings, where data is written as it stands.

What is written here is read by the service, and by no adapter: adapters pass a template's structure on untouched, so
nothing is escaped twice. The words beside it (`title`, `body`, `actions`) are the adapter's to escape, as always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from html import escape as escape_html
from typing import Any, Final, cast

import msgspec

from channels import chat_escapes
from channels.chat_markup import reads_as_address
from channels.markdown import is_link

__all__ = ["Data", "GivenObject", "Unfit", "Woven", "weave"]


class Unfit(ValueError):
    """Data that cannot stand where the template puts it. The message names the place and repeats nothing of it."""


class Data(str):
    """A piece of a string that is data; every other piece is the template's own."""

    __slots__ = ()


class Woven(msgspec.Struct, frozen=True):
    """A string as the template wrote it and data filled it: its pieces in order."""

    pieces: tuple[str, ...]

    @property
    def has_data(self) -> bool:
        """Say whether any of it is data."""
        return any(type(piece) is Data for piece in self.pieces)


class GivenObject(dict[str, Any]):
    """An object that is data as a whole: its keys are the caller's too."""


class _Kind(Enum):
    PLAIN = auto()
    """Shown as it is."""
    MARKED = auto()
    """The medium's own marks mean something in it."""
    MARKDOWN = auto()
    """Words for the adapter, which reads them as Markdown."""
    ADDRESS = auto()
    """Leads somewhere."""
    FIXED = auto()
    """Says what a thing is or whom it calls: the template's affair alone."""


_Path = tuple[str, ...]
_Fill = Callable[[Sequence[str]], str]


class _Medium(msgspec.Struct, frozen=True, kw_only=True):
    """How one medium reads its structure. `marked` may depend on the object that holds the string."""

    kind: Callable[[_Path, Mapping[str, Any]], _Kind]
    marked: Callable[[Mapping[str, Any]], _Fill]
    plain: Callable[[str], str] = str
    objects: bool = False
    finish: Callable[[dict[str, Any]], None] = lambda holder: None  # noqa: ARG005 - most have nothing to do
    """Called for every object in which data went into marked-up text."""


def weave(channel: str, tree: Any) -> Any:
    """Put data into a structure: `Woven` strings become text that `channel` shows as meant. Raises `Unfit`. Pure."""
    return _woven(_MEDIA.get(channel, _PLAIN_MEDIUM), tree, (), {})


def _woven(medium: _Medium, node: Any, path: _Path, holder: Mapping[str, Any]) -> Any:
    match node:
        case Woven():
            return _filled(medium, node, path, holder)
        case dict():
            found = cast("dict[str, Any]", node)
            if isinstance(node, GivenObject) and not medium.objects:
                raise Unfit(f"{_name(path)}: an object from data has no place here; write its fields out")
            made = {name: _woven(medium, each, (*path, name), found) for name, each in found.items()}
            if any(
                isinstance(each, Woven) and each.has_data and medium.kind((*path, name), found) is _Kind.MARKED
                for name, each in found.items()
            ):
                medium.finish(made)
            return made
        case list():
            return [_woven(medium, each, path, holder) for each in cast("list[Any]", node)]
        case _:
            return node


def _filled(medium: _Medium, woven: Woven, path: _Path, holder: Mapping[str, Any]) -> str:
    if not woven.has_data:
        return "".join(woven.pieces)
    try:
        match medium.kind(path, holder):
            case _Kind.PLAIN:
                return _each(woven.pieces, medium.plain)
            case _Kind.MARKED:
                return medium.marked(holder)(woven.pieces)
            case _Kind.MARKDOWN:
                return _each(woven.pieces, chat_escapes.markdown)
            case _Kind.ADDRESS:
                return _address(woven.pieces)
            case _Kind.FIXED:
                raise Unfit("data cannot decide this")  # noqa: TRY301 - one place adds where it stands
    except Unfit as fault:
        raise Unfit(f"{_name(path)}: {fault}") from None


def _name(path: _Path) -> str:
    return ".".join(path) or "the whole"


# Strings with data. The template's own text is searched with each piece of data held by a mark, so that nothing in data
# can look like the template's.

_MARK: Final = re.compile("\ue000(\\d+)\ue001")


def _held(pieces: Sequence[str]) -> tuple[str, list[str]]:
    text: list[str] = []
    data: list[str] = []
    for piece in pieces:
        if type(piece) is Data:
            text.append(f"\ue000{len(data)}\ue001")
            data.append(str(piece))
        else:
            text.append(piece.replace("\ue000", "").replace("\ue001", ""))
    return "".join(text), data


def _put(text: str, data: Sequence[str], write: Callable[[str], str]) -> str:
    return _MARK.sub(lambda mark: write(data[int(mark[1])]), text)


def _each(pieces: Sequence[str], write: Callable[[str], str]) -> str:
    return "".join(write(str(piece)) if type(piece) is Data else piece for piece in pieces)


def _around(
    pieces: Sequence[str],
    special: re.Pattern[str],
    write: Callable[[str], str],
    write_special: Callable[[re.Match[str], Sequence[str]], str],
) -> str:
    """Write data by `write`, but as `write_special` says within what `special` finds in the template's own text."""
    text, data = _held(pieces)
    written: list[str] = []
    at = 0
    for found in special.finditer(text):
        if _MARK.search(found[0]):
            written += [_put(text[at : found.start()], data, write), write_special(found, data)]
            at = found.end()
    return "".join([*written, _put(text[at:], data, write)])


_DECIDED: Final = re.compile(r"[:/?#]")
_UNBROKEN: Final = re.compile(r"[^\s<>\"\x00-\x1f\x7f]+").fullmatch


def _address(pieces: Sequence[str]) -> str:
    """Write an address. Data may complete one that the template began, or be http, https, mailto or tel itself."""
    text, data = _held(pieces)
    whole = _put(text, data, str).strip()
    begun = _DECIDED.search(text[: text.index("\ue000")]) is not None
    known = is_link(whole) or whole.lower().startswith("tel:")
    if not (begun or known) or not _UNBROKEN(whole):
        raise Unfit("a link must start with http://, https://, mailto: or tel:, and have no spaces")
    return whole


def _target(text: str, data: Sequence[str], write: Callable[[str], str]) -> str:
    """Write the address of a link within text; only http, https and mailto are links there."""
    if not is_link(_put(text, data, str)):
        raise Unfit("a link must start with http://, https:// or mailto:, and have no spaces")
    return _put(text, data, write)


def _label(text: str, data: Sequence[str], write: Callable[[str], str], target: str) -> str | None:
    """Write a link's words; None for such as read like another address than its own: no masked links."""
    plain = _put(text, data, str)
    if _MARK.search(text) and reads_as_address(plain) and plain.strip() != target:
        return None
    return _put(text, data, write)


def _ids(text: str, data: Sequence[str], form: re.Pattern[str]) -> str:
    """Write a mention that the template makes: data is an id in it and nothing else."""

    def checked(value: str) -> str:
        if not form.fullmatch(value):
            raise Unfit("data in a mention must be a plain id")
        return value

    return _put(text, data, checked)


# Slack: https://docs.slack.dev/messaging/formatting-message-text

_SLACK_LINK: Final = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_SLACK_ID: Final = re.compile(r"[A-Z][A-Z0-9]{2,20}")
_SLACK_FIXED: Final = frozenset(
    {"type", "range", "parse", "mrkdwn", "mrkdwn_in", "verbatim", "user_id", "usergroup_id", "channel_id", "link_names"}
)
_SLACK_ADDRESSES: Final = frozenset(
    {
        "author_icon", "author_link", "footer_icon", "from_url", "icon_url", "image_url", "original_url", "thumb_url",
        "thumbnail_url", "title_link", "title_url", "url", "video_url",
    }
)  # fmt: skip
_SLACK_PLAIN: Final = frozenset(
    {"acknowledge", "action_id", "alt_text", "block_id", "color", "icon_emoji", "label", "thread_ts", "username"}
)
_LITERAL: Final = frozenset({"plain_text", "text", "link"})
"""Objects whose text Slack shows as it is: plain text, and the elements of rich text."""


def _slack_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    name, type_ = path[-1] if path else "", holder.get("type")
    if name in _SLACK_FIXED:
        return _Kind.FIXED
    if name in _SLACK_ADDRESSES:
        return _Kind.ADDRESS
    literal = name == "text" and type_ in _LITERAL
    of_a_choice = name == "value" and ("text" in holder or isinstance(type_, str))
    if literal or of_a_choice or name in _SLACK_PLAIN or path == ("title",) or path[:1] == ("metadata",):
        return _Kind.PLAIN
    if path == ("body",) or (name == "text" and type_ == "markdown"):
        return _Kind.MARKDOWN
    return _Kind.MARKED


def _slack_link(found: re.Match[str], data: Sequence[str]) -> str:
    address, label = found[1], found[2]
    if address.startswith(("@", "#", "!subteam^")) and label is None:
        return f"<{_ids(address, data, _SLACK_ID)}>"
    if address.startswith(("@", "#", "!")):
        raise Unfit("data cannot make a mention")
    target = _target(address, data, chat_escapes.slack_address)
    if label is None:
        return f"<{target}>"
    words = _label(label, data, chat_escapes.slack_label, _put(address, data, str))
    return f"<{target}>" if not (words or "").strip() else f"<{target}|{words}>"


def _slack_marked(holder: Mapping[str, Any]) -> _Fill:
    del holder
    return lambda pieces: _around(pieces, _SLACK_LINK, chat_escapes.slack, _slack_link)


def _slack_finish(holder: dict[str, Any]) -> None:
    # Else "conversation names will be link-ified, and certain mentions will be automatically parsed": in data, too.
    if holder.get("type") == "mrkdwn":
        holder["verbatim"] = True


# Discord: https://discord.com/developers/docs/reference#message-formatting

_DISCORD_LINK: Final = re.compile(r"\[([^\[\]]*)\]\(([^()\s]*)\)|<([^<>\s]*)>")
_DISCORD_ID: Final = re.compile(r"[0-9]{1,20}")
_DISCORD_FIXED: Final = frozenset({"type", "flags", "style", "tts"})
_DISCORD_ADDRESSES: Final = frozenset({"url", "icon_url", "avatar_url", "image_url", "proxy_url"})
_DISCORD_PLAIN: Final = frozenset(
    {"custom_id", "filename", "label", "placeholder", "text", "thread_name", "timestamp", "username"}
)


def _discord_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    del holder
    name = path[-1] if path else ""
    if name in _DISCORD_FIXED or path[:1] == ("allowed_mentions",):
        return _Kind.FIXED
    if name in _DISCORD_ADDRESSES:
        return _Kind.ADDRESS
    if name in _DISCORD_PLAIN or path == ("title",) or path[-2:] == ("author", "name"):
        return _Kind.PLAIN
    return _Kind.MARKDOWN if path == ("body",) else _Kind.MARKED


def _discord_link(found: re.Match[str], data: Sequence[str]) -> str:
    if (inside := found[3]) is not None:
        if inside.startswith(("@", "#", "t:")):
            return f"<{_ids(inside, data, _DISCORD_ID)}>"
        return f"<{_target(inside, data, chat_escapes.bracketed_address)}>"
    target = _target(found[2], data, chat_escapes.bracketed_address)
    words = _label(found[1], data, chat_escapes.discord_data, _put(found[2], data, str))
    return f"[{words}]({target})" if (words or "").strip() else target


def _discord_marked(holder: Mapping[str, Any]) -> _Fill:
    del holder
    return lambda pieces: _around(pieces, _DISCORD_LINK, chat_escapes.discord_data, _discord_link)


# Teams: https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features

_TEAMS_LINK: Final = re.compile(r"\[([^\[\]]*)\]\(([^()\s]*)\)")
_TEAMS_FIXED: Final = frozenset({"type", "version", "$schema", "mentioned", "contentType"})
_TEAMS_ADDRESSES: Final = frozenset({"url", "iconUrl", "backgroundImage", "contentUrl", "image_url"})
_TEAMS_PLAIN: Final = frozenset({"altText", "fallbackText", "id", "label", "placeholder", "speak", "tooltip"})


def _teams_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    name, type_ = path[-1] if path else "", str(holder.get("type"))
    if name in _TEAMS_FIXED or "entities" in path:
        return _Kind.FIXED
    if name in _TEAMS_ADDRESSES:
        return _Kind.ADDRESS
    of_an_action = name == "title" and type_.startswith(("Action.", "Input."))
    if of_an_action or name in _TEAMS_PLAIN or path == ("title",) or (name == "text" and type_ == "TextRun"):
        return _Kind.PLAIN
    return _Kind.MARKDOWN if path == ("body",) else _Kind.MARKED


def _teams_link(found: re.Match[str], data: Sequence[str]) -> str:
    target = _target(found[2], data, chat_escapes.bracketed_address)
    words = _label(found[1], data, chat_escapes.teams, _put(found[2], data, str))
    return f"[{words if (words or '').strip() else chat_escapes.teams(target)}]({target})"


def _teams_marked(holder: Mapping[str, Any]) -> _Fill:
    del holder
    return lambda pieces: _around(pieces, _TEAMS_LINK, chat_escapes.teams, _teams_link)


# Telegram: https://core.telegram.org/bots/api#formatting-options

_TELEGRAM_HREF: Final = re.compile(r"""(href\s*=\s*")([^"]*)(")""", re.IGNORECASE)
_TELEGRAM_TEXTS: Final = frozenset({"text", "caption"})


def _telegram_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    name = path[-1] if path else ""
    if name in {"parse_mode", "entities", "type"} or "entities" in path:
        return _Kind.FIXED
    if name in {"url", "image_url"}:
        return _Kind.ADDRESS
    if path == ("body",):
        return _Kind.MARKDOWN
    return _Kind.MARKED if name in _TELEGRAM_TEXTS and "parse_mode" in holder else _Kind.PLAIN


def _telegram_marked(holder: Mapping[str, Any]) -> _Fill:
    if holder.get("parse_mode") == "HTML":
        return lambda pieces: _around(pieces, _TELEGRAM_HREF, escape_html, _telegram_link)
    raise Unfit("with data in it, Telegram's parse_mode is HTML or none")


def _telegram_link(found: re.Match[str], data: Sequence[str]) -> str:
    return f"{found[1]}{_target(found[2], data, escape_html)}{found[3]}"


# Everything else: strings that nobody reads for marks.

_OPENED: Final = frozenset({"url", "link", "image", "image_url", "icon", "badge", "click_action"})


def _plain_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    del path, holder
    return _Kind.PLAIN


def _opened_kind(path: _Path, holder: Mapping[str, Any]) -> _Kind:
    del holder
    return _Kind.ADDRESS if path and path[-1] in _OPENED else _Kind.PLAIN


def _unmarked(holder: Mapping[str, Any]) -> _Fill:
    del holder
    return "".join


_PLAIN_MEDIUM: Final = _Medium(kind=_plain_kind, marked=_unmarked, objects=True)
_OPENED_MEDIUM: Final = _Medium(kind=_opened_kind, marked=_unmarked, objects=True)
_MEDIA: Final[Mapping[str, _Medium]] = {
    "slack": _Medium(kind=_slack_kind, marked=_slack_marked, finish=_slack_finish),
    "discord": _Medium(kind=_discord_kind, marked=_discord_marked, plain=chat_escapes.discord_unmentioned),
    "teams": _Medium(kind=_teams_kind, marked=_teams_marked),
    "telegram": _Medium(kind=_telegram_kind, marked=_telegram_marked),
    "web_push": _OPENED_MEDIUM,
    "mobile_push": _OPENED_MEDIUM,
    "inbox": _OPENED_MEDIUM,
}
