"""Slack's messages: Block Kit and mrkdwn made from words, within Slack's limits. Pure.

slack_sdk's models of the blocks validate by reflection, which cost more than all the rest of a send; they are the judge
in our tests instead. Where it is written: https://docs.slack.dev/reference/block-kit/blocks and
https://docs.slack.dev/reference/methods/chat.postMessage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from channels.chat_escapes import slack, slack_address, slack_escape
from channels.chat_markup import Dialect, Words, blocks_of, chosen, cut, plain_of, words_of
from channels.contract import Message, Reason, Rejected

BLOCKS_MOST: Final = 50  # "You can include up to 50 blocks in each message"
_SECTION_CHARS: Final = 3000
_HEADER_CHARS: Final = 150
_ALT_CHARS: Final = 2000
BUTTON_CHARS: Final = 75
_BUTTONS_MOST: Final = 25
TEXT_CHARS: Final = 40_000  # "truncated" beyond: refused here, since half a message is no message
_FALLBACK_CHARS: Final = 4000  # "limit the text field to 4,000": what notifications and screen readers say
NO_TEXT: Final = "\u200b"  # for attachments alone: what a notification would say otherwise is Slack's guess

_OWN_FIELDS: Final = (
    "attachments", "icon_emoji", "icon_url", "metadata", "reply_broadcast", "thread_ts", "unfurl_links",
    "unfurl_media", "username",
)  # fmt: skip
OPEN: Final = "gateway_open_"
ACKNOWLEDGE: Final = "acknowledge"
"""The action of our own button. A button of a caller's own blocks whose `action_id` begins so acknowledges too."""


def _link(shown: str, address: str) -> str:
    # What is shown may hold marks, but no link of its own; `|` has no escape there and is harmless.
    flat = _NESTED.sub(r"\1", shown)
    return f"<{slack_address(address)}|{flat}>" if flat.strip() else ""


_NESTED: Final = re.compile(r"<([^<>|]*)(?:\|[^<>]*)?>")

_MRKDWN: Final = Dialect(
    text=slack,
    strong=("*", "*"),
    em=("_", "_"),
    strike=("~", "~"),
    code=lambda text: "`" + slack_escape(text).replace("`", "'") + "`",
    pre=lambda text: "```\n" + slack_escape(text).replace("```", "'''") + "\n```",
    link=_link,
    heading=lambda text: f"*{text.replace('*', '')}*",
    quote=lambda text: "> " + text.replace("\n", "\n> "),
    bullet="• ",
    rule="———",
)


def payload_of(message: Message) -> dict[str, Any] | Rejected:
    """Make what both ways of posting have in common: text, blocks and the caller's own fields."""
    content, options = message.content, message.options
    said = words_of(content)
    own = options.get("blocks", content.data.get("blocks"))
    found = _named(cast("list[Any]", own), message) if isinstance(own, list) else blocks(said, message)
    if len(found) > BLOCKS_MOST:
        return Rejected(Reason.TOO_LARGE, f"{len(found)} blocks; Slack shows at most {BLOCKS_MOST}")
    if len(content.text or "") > TEXT_CHARS or len(said.markdown or "") > TEXT_CHARS:
        return Rejected(Reason.TOO_LARGE, f"Slack takes at most {TEXT_CHARS} characters")
    fields = chosen(content.data, options, _OWN_FIELDS)
    if not found and "attachments" not in fields:
        return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title, no text and no blocks")
    text = slack_escape(cut(plain_of(said), _FALLBACK_CHARS))
    return {"text": text or NO_TEXT, **({"blocks": found} if found else {}), **fields}


def blocks(said: Words, message: Message) -> list[dict[str, Any]]:
    """Make blocks from words. The buttons carry the message's id, by which their callbacks are known."""
    made: list[dict[str, Any]] = []
    if said.title and len(said.title) <= _HEADER_CHARS:
        made.append({"type": "header", "text": {"type": "plain_text", "text": said.title}})
    elif said.title:
        made += [_section(f"*{piece}*") for piece in _pieces(slack_escape(said.title), _SECTION_CHARS - 2)]
    made += [_section(piece) for piece in _sections(blocks_of(said, _MRKDWN))]
    if said.image_url:
        made.append({"type": "image", "image_url": said.image_url, "alt_text": cut(said.title or "image", _ALT_CHARS)})
    if buttons := _buttons(said, message):
        made.append({"type": "actions", "elements": buttons})
    if said.url and said.url not in {action.url for action in said.actions}:
        made.append({"type": "context", "elements": [_mrkdwn(_link(slack_escape(said.url), said.url))]})
    return made


def _named(own: Sequence[Any], message: Message) -> list[Any]:
    """Give our buttons in blocks of a template or a caller the message's id, which they cannot know."""
    return [
        _with_ids(cast("Mapping[str, Any]", each), message.id) if isinstance(each, Mapping) else each for each in own
    ]


def _with_ids(block: Mapping[str, Any], id_: str) -> Mapping[str, Any]:
    elements = block.get("elements")
    if block.get("type") != "actions" or not isinstance(elements, list):
        return block
    return {**block, "elements": [_with_id(element, id_) for element in cast("list[Any]", elements)]}


def _with_id(element: Any, id_: str) -> Any:
    if not isinstance(element, Mapping):
        return element
    button = cast("Mapping[str, Any]", element)
    action = str(button.get("action_id"))
    ours = button.get("type") == "button" and (action == ACKNOWLEDGE or action.startswith(OPEN))
    return {**button, "value": id_} if ours and "value" not in button else button


def _buttons(said: Words, message: Message) -> list[dict[str, Any]]:
    buttons = [
        _button(action.label, f"{OPEN}{number}", message) | {"url": action.url}
        for number, action in enumerate(said.actions[: _BUTTONS_MOST - 1])
    ]
    wish = message.options.get("acknowledge", message.content.data.get("acknowledge"))
    if wish:
        label = wish if isinstance(wish, str) else "Acknowledge"
        buttons.append(_button(label, ACKNOWLEDGE, message))
    return buttons


def _button(label: str, action_id: str, message: Message) -> dict[str, Any]:
    text = {"type": "plain_text", "text": cut(label, BUTTON_CHARS)}
    return {"type": "button", "text": text, "action_id": action_id, "value": message.id}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # else Slack links names and addresses that data brings


def _sections(written: Sequence[str]) -> list[str]:
    """Put blocks of text together into as few sections as hold them."""
    sections: list[str] = []
    for block in written:
        for piece in _pieces(block, _SECTION_CHARS):
            if sections and len(sections[-1]) + len(piece) + 2 <= _SECTION_CHARS:
                sections[-1] += "\n\n" + piece
            else:
                sections.append(piece)
    return sections


# What must not be cut in two: an entity, a link. What is longer than a section is cut anywhere.
_ATOMS: Final = re.compile(r"<[^<>]{0,2900}>|&\w{2,4};|\s+|[^\s&<>]{1,500}|.", re.DOTALL)


def _pieces(text: str, most: int) -> list[str]:
    """Cut text into pieces of at most `most` characters, between words where there is a gap in the last half."""
    if len(text) <= most:
        return [text]
    pieces: list[str] = []
    atoms: list[str] = []
    length = gap = 0  # `gap`: how many of the atoms end with the last white space
    for atom in _ATOMS.findall(text):
        if length + len(atom) > most:
            cut_at = gap if sum(map(len, atoms[gap:])) <= most // 2 and gap else len(atoms)
            pieces.append("".join(atoms[:cut_at]).strip())
            atoms, gap = atoms[cut_at:], 0
            length = sum(map(len, atoms))
        atoms.append(atom)
        length += len(atom)
        if atom.isspace():
            gap = len(atoms)
    return [piece for piece in (*pieces, "".join(atoms).strip()) if piece]
