"""Microsoft Teams, by a workflow's webhook: the adapter `chat_teams`.

Owns the Adaptive Card made from words and the reading of what Power Automate answers. Refuses to know Graph and bots:
whoever has the URL of a workflow ("Post to a channel when a webhook request is received") may post through it, so the
URL is the address, and a secret (its `sig` is the signature).

Where it is written: https://support.microsoft.com/office/create-incoming-webhooks-with-workflows-for-microsoft-teams-8ae491c7-0394-4861-ba59-055e33f75498,
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using (the envelope, and
"message size limit … is 28 KB"), https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format
("HTML isn't supported in Adaptive Cards") and https://learn.microsoft.com/azure/logic-apps/logic-apps-limits-and-config.

A workflow answers 202 as soon as it is started. Whether its step that posts succeeds is not told to us: what Teams
refuses later is seen in the workflow's run history only. So much is checked here before it goes out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import msgspec

from channels.chat_escapes import bracketed_address, teams
from channels.chat_markup import Dialect, HookHosts, Words, blocks_of, words_of
from channels.contract import Accepted, Limits, Message, OptionFault, Outcome, Reason, Rejected, Retry, Tools
from channels.http import Answer, Wire, WireSettings, judge, words

__all__ = ["TeamsChannel", "TeamsSettings", "card"]

_BODY_OCTETS: Final = 28 * 1024
_ACTIONS_MOST: Final = 6  # more are not shown
_VERSION: Final = "1.2"  # of the schema: all that is used here; a client that knows an older one shows no card at all
_SCHEMA: Final = "http://adaptivecards.io/schemas/adaptive-card.json"
_CARD_TYPE: Final = "application/vnd.microsoft.card.adaptive"


class TeamsSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How workflows are called; there is no account of ours."""

    webhook_origins: tuple[str, ...] = (
        "https://*.logic.azure.com",
        "https://*.environment.api.powerplatform.com",
        "https://*.logic.azure.us",
        "https://*.logic.azure.cn",
    )
    """Where callers' webhook URLs may lead; Power Automate has moved them before."""

    __repr__ = WireSettings.__repr__


class TeamsOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say in the terms of Teams."""

    card: dict[str, Any] | None = None
    """An Adaptive Card, in the place of the one that would be made from title and body."""


class TeamsChannel:
    """Posts cards through the workflows that callers name."""

    kind: ClassVar[str] = "teams"
    Settings: ClassVar[type[msgspec.Struct]] = TeamsSettings
    Overrides: ClassVar[type[msgspec.Struct]] = TeamsOverrides

    def __init__(self, settings: TeamsSettings, tools: Tools) -> None:
        self.limits = Limits(message_bytes=_BODY_OCTETS, concurrency=settings.connections)
        self._wire = Wire(settings, tools)
        self._hosts = HookHosts(settings.webhook_origins)

    async def send(self, message: Message) -> Outcome:
        """Start the workflow with one message. Never raises for what it answers; safe to call concurrently."""
        if (fault := self._hosts.fault(message.to)) is not None:
            return Rejected(Reason.INVALID_ADDRESS, fault)
        body = self.raw(message)
        if not body:
            return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title, no text and no card")
        if len(body) > _BODY_OCTETS:
            return Rejected(Reason.TOO_LARGE, f"{len(body)} bytes; Teams takes at most {_BODY_OCTETS}")
        result = await self._wire.post(message.to, content=body, headers={"Content-Type": "application/json"})
        return judge(result, _read, callers_endpoint=True)

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """Weigh the card: the whole request takes no more."""
        size = len(msgspec.json.encode(options.get("card")))
        if size <= _BODY_OCTETS:
            return []
        return [OptionFault(field="card", code="too_long", message=f"{size} bytes; Teams takes {_BODY_OCTETS}")]

    def raw(self, message: Message) -> bytes:
        """Show the bytes that would be posted. Empty where `send` would find nothing to show."""
        found = _own_card(message) or card(words_of(message.content))
        if not found.get("body"):
            return b""
        attachment = {"contentType": _CARD_TYPE, "contentUrl": None, "content": found}
        return msgspec.json.encode({"type": "message", "attachments": [attachment]})

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# Reading answers. Pure.


class _Error(msgspec.Struct, frozen=True):
    code: str = ""


class _Fault(msgspec.Struct, frozen=True):
    error: _Error


_REFUSALS: Final[Mapping[str, Reason]] = {
    "WorkflowNotFound": Reason.ADDRESS_DEAD,
    "WorkflowTriggerNotFound": Reason.ADDRESS_DEAD,
    # The URL's own signature, or a trigger that asks for more than a URL. It may be put right in the workflow.
    "DirectApiAuthorizationRequired": Reason.INVALID_ADDRESS,
    "DirectApiInvalidAuthorizationScheme": Reason.INVALID_ADDRESS,
    "AuthorizationFailed": Reason.INVALID_ADDRESS,
    "InvalidRequestContent": Reason.MESSAGE_INVALID,
    "TriggerInputSchemaMismatch": Reason.MESSAGE_INVALID,
    "RequestEntityTooLarge": Reason.TOO_LARGE,
}
_ACCEPTED: Final = 202
_OK: Final = 200
_GONE: Final = 410
_TOO_LARGE: Final = 413


def _read(answer: Answer) -> Outcome | None:
    """Read what starting the workflow came to. A run's id is all that can be found again of it."""
    if answer.status == _ACCEPTED or (answer.status == _OK and not answer.body.strip()):
        return Accepted(answer.headers.get("x-ms-workflow-run-id"))
    fault = answer.decode(_Fault)
    code = fault.error.code if fault else ""
    if (reason := _REFUSALS.get(code)) is not None:
        return Rejected(reason, words(answer, code))
    if answer.status == _GONE:
        return Rejected(Reason.ADDRESS_DEAD, words(answer, code))
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, words(answer, code))
    if code:  # "WorkflowTriggerIsNotEnabled": switched off for now, and such
        return _later(answer, code)
    return None


def _later(answer: Answer, code: str) -> Outcome | None:
    said = words(answer, code)
    return Retry(Reason.RETRY, answer.retry_after, said) if 400 <= answer.status < 500 else None  # noqa: PLR2004 - RFC 9110


# Adaptive Cards. Pure.


def _link(shown: str, address: str) -> str:
    return f"[{shown}]({bracketed_address(address)})"


_CARD: Final = Dialect(
    text=teams,
    strong=("**", "**"),
    em=("_", "_"),
    strike=("", ""),
    code=teams,
    pre=teams,
    link=_link,
    heading=lambda text: f"**{text.replace('**', '')}**",
    quote=str,
    bullet="- ",
    rule="———",
)


def _own_card(message: Message) -> dict[str, Any] | None:
    """Find a card of the caller's (`overrides.teams.card`) or of the template's (`card`, or the card itself)."""
    found = message.options.get("card", message.content.data.get("card"))
    if found is None and message.content.data.get("type") == "AdaptiveCard":
        found = message.content.data
    return dict(cast("Mapping[str, Any]", found)) if isinstance(found, Mapping) else None


def card(said: Words) -> dict[str, Any]:
    """Make a card from words."""
    body: list[dict[str, Any]] = []
    if said.title:
        body.append(_block(teams(said.title), size="Large", weight="Bolder", style="heading"))
    body += [_block(_lines_apart(text)) for text in blocks_of(said, _CARD)]
    if said.image_url:
        body.append({"type": "Image", "url": said.image_url, "altText": said.title or "", "size": "Stretch"})
    links = [(action.label, action.url) for action in said.actions]
    if said.url and said.url not in {url for _, url in links}:
        links.append((said.title or said.url, said.url))
    made: dict[str, Any] = {"$schema": _SCHEMA, "type": "AdaptiveCard", "version": _VERSION, "body": body}
    made["msteams"] = {"width": "Full"}
    if links:
        made["actions"] = [
            {"type": "Action.OpenUrl", "title": label, "url": url} for label, url in links[:_ACTIONS_MOST]
        ]
    return made


_IN_LIST: Final = re.compile(r"(?:- |\d+\. )").match


def _lines_apart(text: str) -> str:
    """Double line breaks: a single one is read as a space, except between a list's items."""
    return text if _IN_LIST(text) else text.replace("\n", "\n\n")


def _block(text: str, **more: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text, "wrap": True, **more}
