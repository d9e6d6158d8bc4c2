"""What a channel's own parts become: JSON parts as structures, words beside a text, and words out of a structure.

Owns the reading of a rendered JSON part. Refuses to know any service's marks: those are `channels.own_structures`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from channels.own_structures import Data, GivenObject, Unfit, Woven, weave
from gateway.model.requests import Action
from gateway.render.formats import Refused, link
from gateway.render.ledger import MARK, Ledger, as_text
from gateway.render.sandbox import clean

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\ue000(?P<mark>\d+)\ue001|(?P<comma>,)(?=\s*[\]}])', re.DOTALL)
"""A string; a mark outside of strings; a comma before a closing bracket, which a loop or a condition leaves behind."""
_WHOLE: Final = re.compile("\ue002(\\d+)\ue003")
_PRIVATE: Final = str.maketrans("", "", "\ue000\ue001\ue002\ue003")

_SAID: Final = frozenset({"text", "title", "body", "content", "description", "value", "caption"})
_MOST_ACTIONS: Final = 25
_LABEL_CHARS: Final = 80
"""As in a `content` request."""


class _Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As a template writes it: data may leave either empty, or make a label longer than buttons are."""

    label: str
    url: str


def structure(rendered: str, ledger: Ledger, channel: str) -> dict[str, Any]:
    """Read a rendered JSON part and write the data in it as `channel` shows it. Raises `Refused`, naming no data."""
    tree = _tree(rendered, ledger)
    if not isinstance(tree, dict):
        raise Refused("the result is no JSON object")
    try:
        return weave(channel, tree)
    except Unfit as fault:
        raise Refused(str(fault)) from None


def actions(rendered: str, ledger: Ledger) -> tuple[Action, ...]:
    """Read the rendered part `actions.json`: a list of `{"label", "url"}`. Raises `Refused`.

    One without an address is left out, one without a label shows its address.
    """
    tree = weave("", _tree(rendered, ledger))
    try:
        found = [one for one in msgspec.convert(tree, list[_Action]) if one.url.strip()]
    except msgspec.ValidationError:
        raise Refused("the result is no list of objects with a label and a url") from None
    if len(found) > _MOST_ACTIONS:
        raise Refused(f"there are more than {_MOST_ACTIONS} actions")
    return tuple(Action(label=(one.label.strip() or one.url)[:_LABEL_CHARS], url=link(one.url)) for one in found)


def _tree(rendered: str, ledger: Ledger) -> Any:
    try:
        tree = msgspec.json.decode(_TOKEN.sub(_plain_json, rendered))
    except (msgspec.DecodeError, RecursionError):
        raise Refused("the result is no JSON") from None
    return _read(tree, ledger)


def _plain_json(token: re.Match[str]) -> str:
    if token["comma"]:
        return ""
    return f'"\ue002{token["mark"]}\ue003"' if token["mark"] else token[0]


def _read(node: Any, ledger: Ledger) -> Any:
    match node:
        case str():
            whole = _WHOLE.fullmatch(node)
            return _given(ledger.value(whole[1])) if whole else _woven(node, ledger)
        case dict():
            return {_name(name): _read(each, ledger) for name, each in cast("dict[str, Any]", node).items()}
        case list():
            return [_read(each, ledger) for each in cast("list[Any]", node)]
        case _:
            return node


def _name(name: str) -> str:
    if MARK.search(name) or _WHOLE.search(name):
        raise Refused("data cannot name a field")
    return name.translate(_PRIVATE)


def _woven(text: str, ledger: Ledger) -> str | Woven:
    if "\ue000" not in text:
        return text.translate(_PRIVATE)
    pieces: list[str] = []
    at = 0
    for found in MARK.finditer(text):
        data = clean(as_text(ledger.value(found[1])))
        pieces += [text[at : found.start()].translate(_PRIVATE), Data(data)]
        at = found.end()
    return Woven((*pieces, text[at:].translate(_PRIVATE)))


def _given(value: Any) -> Any:
    """Mark everything in a value as data. It went through JSON, so it is made of JSON's kinds."""
    match value:
        case str():
            return Woven((Data(clean(value)),))
        case dict():
            return GivenObject({clean(name): _given(each) for name, each in cast("dict[str, Any]", value).items()})
        case list():
            return [_given(each) for each in cast("list[Any]", value)]
        case _:
            return value


def beside(
    title: str, text: str, *, url: str | None, image_url: str | None, actions: Sequence[Action], always: bool
) -> dict[str, Any]:
    """Hand over what a channel shows beside a text of its own. What the text says already is not said twice.

    `always`: the channel needs the address in its own place, whatever the text says.
    """
    left = [one for one in actions if always or one.url not in text]
    found: dict[str, Any] = {
        "title": title,
        "url": url if url is not None and (always or url not in text) else None,
        "image_url": image_url,
        "actions": [{"label": one.label, "url": one.url} for one in left],
    }
    return {name: value for name, value in found.items() if value}


def words_in(tree: Any) -> str:
    """Read the words of a structure, in order: for a channel that has nothing but another's structure to show."""
    return "\n\n".join(dict.fromkeys(word for word in _words(tree) if word.strip()))


def _words(node: Any) -> Iterator[str]:
    match node:
        case Mapping():
            for name, each in cast("Mapping[str, Any]", node).items():
                if isinstance(each, str):
                    if name in _SAID:
                        yield each
                else:
                    yield from _words(each)
        case list():
            for each in cast("list[Any]", node):
                yield from _words(each)
        case _:
            pass


def unwoven(rendered: str, ledger: Ledger) -> Any:
    """Read a rendered JSON part with its data as it stands: for its words, not for a channel."""
    return weave("", _tree(rendered, ledger))
