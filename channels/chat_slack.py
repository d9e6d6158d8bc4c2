"""Slack, by incoming webhook and by bot token: the adapter `chat_slack`.

Owns the two ways to post and the reading of Slack's errors and of its callbacks; messages are made by
`channels.slack_blocks`. The wire and its time limits are `channels.http`'s; slack_sdk checks signatures. Its client is
not used: it took a third of a send's time to put JSON beside a token. Refuses to know which message an update belongs
to: `update_ts` says it.

Where it is written: https://docs.slack.dev/reference/methods/chat.postMessage,
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks,
https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks,
https://docs.slack.dev/apis/web-api/rate-limits (chat.postMessage: "1 message per second per channel … several hundred
messages per minute" in a workspace) and https://docs.slack.dev/authentication/verifying-requests-from-slack.

A recipient is a webhook's URL, an id (`C…`, `U…`), `#name`, or a person's e-mail address, which is looked up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, cast
from urllib.parse import parse_qs, urlencode

import msgspec
from msgspec import Meta
from slack_sdk.signature import Clock, SignatureVerifier

from channels.chat_markup import HookHosts
from channels.contract import (
    Accepted,
    Callback,
    CallbackRefused,
    Check,
    EventType,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    StatusEvent,
    Tools,
    Unknown,
)
from channels.http import Answer, Result, Wire, WireSettings, judge, words
from channels.slack_blocks import ACKNOWLEDGE, BLOCKS_MOST, BUTTON_CHARS, NO_TEXT, OPEN, TEXT_CHARS, payload_of

__all__ = ["SlackChannel", "SlackSettings"]

_ATTACHMENTS_MOST: Final = 100  # "you should never include more than 20"; 100 are refused as too_many_attachments
_RATE: Final = "4/s"  # "several hundred per minute"; the second one a channel has is `per_recipient`'s affair
_SHOWN_S: Final = 2.0  # "respond with an HTTP 200 OK within 3 seconds": less, since the events were written before it
_KNOWN_S: Final = 3600.0  # how long a looked-up person is remembered
_KNOWN_MOST: Final = 10_000


_UNCHANGEABLE: Final = ("message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found")
"""chat.update: the message was deleted, is another app's, or "can no longer be edited"; its channel may be gone too."""
_ID: Final = re.compile(r"[UW][A-Z0-9]{1,30}").fullmatch
_EMAIL: Final = re.compile(r"[^@\s#]+@[^@\s]+\.[^@\s]+").fullmatch


class SlackSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Slack app. Webhook URLs need none of this."""

    token: str | None = None
    """`xoxb-…`: for ids, names and e-mail addresses (scopes `chat:write`; `users:read.email` for the latter)."""
    signing_secret: str | None = None
    """For callbacks (interactivity)."""
    base_url: str = "https://slack.com/api"
    webhook_origins: tuple[str, ...] = ("https://hooks.slack.com", "https://hooks.slack-gov.com")
    """Where callers' webhook URLs may lead."""

    __repr__ = WireSettings.__repr__


class SlackOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say in Slack's own terms."""

    blocks: Annotated[list[dict[str, Any]], Meta(max_length=BLOCKS_MOST)] | None = None
    """Block Kit, in the place of what would be made from title and body."""
    attachments: Annotated[list[dict[str, Any]], Meta(max_length=_ATTACHMENTS_MOST)] | None = None
    thread_ts: Annotated[str, Meta(max_length=100)] | None = None
    reply_broadcast: bool | None = None
    update_ts: Annotated[str, Meta(max_length=100)] | None = None
    """Replaces this message of the recipient's: its timestamp, or `channel:timestamp` if the recipient is that id."""
    acknowledge: bool | Annotated[str, Meta(max_length=BUTTON_CHARS)] | None = None
    """Adds a button that acknowledges; a string is its label."""
    username: Annotated[str, Meta(max_length=80)] | None = None
    icon_emoji: Annotated[str, Meta(max_length=100)] | None = None
    icon_url: Annotated[str, Meta(max_length=2048)] | None = None
    unfurl_links: bool | None = None
    unfurl_media: bool | None = None
    metadata: dict[str, Any] | None = None


class SlackChannel:
    """Posts to Slack, as one app and through whatever webhooks callers name."""

    kind: ClassVar[str] = "slack"
    Settings: ClassVar[type[msgspec.Struct]] = SlackSettings
    Overrides: ClassVar[type[msgspec.Struct]] = SlackOverrides

    def __init__(self, settings: SlackSettings, tools: Tools) -> None:
        if settings.token is not None and not settings.token.strip().isascii():
            raise SettingsFault("token", "write the token as Slack shows it, beginning with xoxb-")
        self.limits = Limits(
            text_chars=TEXT_CHARS, rate=_RATE, concurrency=settings.connections, replaces=settings.token is not None
        )
        self._wire = Wire(settings, tools, base_url=settings.base_url)
        self._hosts = HookHosts(settings.webhook_origins)
        self._now = tools.now
        self._client = _Client(self._wire, settings.token, settings.base_url) if settings.token else None
        secret = (settings.signing_secret or "").strip()
        self._verifier = SignatureVerifier(secret, _Clock(tools.now)) if secret else None
        self._people: dict[str, tuple[str, float]] = {}

    async def send(self, message: Message) -> Outcome:
        """Post one message. Never raises for what Slack does; safe to call concurrently."""
        payload = payload_of(message)
        if isinstance(payload, Rejected):
            return payload
        if message.to.lower().startswith(("https:", "http:")):
            return await self._post_to_hook(message, payload)
        if self._client is None:
            return Rejected(Reason.INVALID_ADDRESS, "without a bot token only webhook URLs can be written to")
        return await self._post_as_bot(self._client, message, payload)

    def raw(self, message: Message) -> bytes:
        """Show the message as JSON, without the channel it goes to. Empty where `send` would reject it."""
        payload = payload_of(message)
        return b"" if isinstance(payload, Rejected) else msgspec.json.encode(payload)

    async def check(self) -> Check:
        """Ask Slack whose token it is (auth.test). Posts nothing."""
        if self._client is None:
            return Check(ok=True, detail="no bot token is set: only webhook URLs can be written to")
        result = await self._client.post("auth.test", {})
        said = result.decode(_Said) if isinstance(result, Answer) else None
        if isinstance(result, Answer):
            return Check(ok=said is not None and said.ok, detail=words(result, said and (said.error or said.team)))
        return Check(ok=False, detail=result.detail)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    def verify(self, callback: Callback) -> None:
        """Hold a callback to Slack's signature over its raw bytes, at most five minutes old."""
        try:
            valid = self._verifier is not None and self._verifier.is_valid_request(callback.body, callback.headers)
        except (ValueError, TypeError):  # slack_sdk's own words for a timestamp, a body or a signature of no form
            valid = False
        if not valid:
            raise CallbackRefused("the signature is missing or wrong, or no signing_secret is set")

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a button's press: ours open a link (clicked) or acknowledge. Everything else is no event."""
        return _events(callback.body)

    async def confirm(self, callback: Callback) -> Check:
        """Show in the message who acknowledged it, in place of the button; within the three seconds Slack waits.

        "You'll need to respond to the response_url within 30 minutes" (docs.slack.dev/interactivity/handling-user-
        interaction), at most five times: it is tried once, since the acknowledgement itself is kept already.
        """
        told = _interaction(callback.body)
        update = None if told is None else _acknowledged(told)
        if told is None or update is None or told.response_url is None:
            return Check(ok=True, detail="nothing to show")
        if (fault := self._hosts.fault(told.response_url)) is not None:
            return Check(ok=False, detail=fault)
        try:
            async with asyncio.timeout(_SHOWN_S):
                result = await self._wire.post(told.response_url, json=update)
        except TimeoutError:
            return Check(ok=False, detail="Slack did not answer in time")
        return Check(ok=isinstance(result, Answer) and result.ok, detail="shown in the message")

    async def _post_to_hook(self, message: Message, payload: dict[str, Any]) -> Outcome:
        if (fault := self._hosts.fault(message.to)) is not None:
            return Rejected(Reason.INVALID_ADDRESS, fault)
        outcome = judge(await self._wire.post(message.to, json=payload), _read_hook, callers_endpoint=True)
        if isinstance(outcome, Accepted) and _update_of(message):
            return Accepted(detail="a webhook cannot update a message: this is a new one")
        return outcome

    async def _post_as_bot(self, client: _Client, message: Message, payload: dict[str, Any]) -> Outcome:
        channel = await self._person(client, message.to) if _EMAIL(message.to) else message.to
        if not isinstance(channel, str):
            return channel
        if (shown := _update_of(message)) is not None:
            # Staging judged the recipient: a caller cannot name another place beside it.
            if shown.rpartition(":")[0] not in ("", channel):
                return Rejected(Reason.MESSAGE_INVALID, "update_ts names another channel than the recipient")
            return await self._update(client, channel, shown, payload)
        if (shown := _replaced_by(message)) is not None:
            outcome = await self._update(client, channel, shown, payload)
            if not _cannot_be_changed(outcome):
                return outcome
        return judge(await client.post("chat.postMessage", {"channel": channel, **payload}), _read_posted)

    async def _update(self, client: _Client, channel: str, shown: str, payload: dict[str, Any]) -> Outcome:
        place, _, ts = shown.rpartition(":")
        result = await client.post("chat.update", {"channel": place or channel, "ts": ts, **_for_update(payload)})
        return judge(result, _read_posted)

    async def _person(self, client: _Client, address: str) -> str | Outcome:
        """Find the id behind an e-mail address, or say why not. Nothing is posted by it, whatever becomes of it."""
        key = address.casefold()
        known, until = self._people.get(key, ("", 0.0))
        if known and self._now() < until:
            return known
        result = await client.get("users.lookupByEmail", email=address)
        found = result.decode(_Found) if isinstance(result, Answer) and result.ok else None
        if found is not None:
            if len(self._people) >= _KNOWN_MOST:
                self._people.clear()
            self._people[key] = (found.user.id, self._now() + _KNOWN_S)
            return found.user.id
        outcome = judge(result, _read_found)
        return Retry(outcome.reason, detail=outcome.detail) if isinstance(outcome, Unknown) else outcome


def _update_of(message: Message) -> str | None:
    """Say which message to replace: a timestamp, or `channel:timestamp` as in `Accepted.provider_id`."""
    return _with_time(message.options.get("update_ts"))


def _replaced_by(message: Message) -> str | None:
    """Say which message of the same `collapse_key` this one replaces; answers within a thread are never replaced."""
    return None if message.options.get("thread_ts") else _with_time(message.options.get("replaces"))


def _with_time(found: object) -> str | None:
    return found if isinstance(found, str) and found.rpartition(":")[2] else None


def _cannot_be_changed(outcome: Outcome) -> bool:
    """Say whether the older message is gone or closed to changes: the newer one is then posted on its own."""
    words_ = outcome.detail or ""
    return isinstance(outcome, Rejected) and any(error in words_ for error in _UNCHANGEABLE)


def _for_update(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name in {"text", "blocks", "attachments", "metadata"}}


class _Client:
    """Slack's Web API over our wire: JSON up, the token beside it (docs.slack.dev/apis/web-api)."""

    def __init__(self, wire: Wire, token: str, base_url: str) -> None:
        self._wire = wire
        self._base_url = base_url.rstrip("/") + "/"
        self._headers = {"Authorization": f"Bearer {token.strip()}"}
        self._headers_of_json = {**self._headers, "Content-Type": "application/json;charset=utf-8"}

    async def post(self, method: str, fields: Mapping[str, Any]) -> Result:
        """Call a method that takes JSON."""
        return await self._wire.post(self._base_url + method, json=fields, headers=self._headers_of_json)

    async def get(self, method: str, **fields: str) -> Result:
        """Call a method that takes none: what only asks."""
        return await self._wire.get(f"{self._base_url}{method}?{urlencode(fields)}", headers=self._headers)


class _Clock(Clock):
    def __init__(self, now: Callable[[], float]) -> None:
        self._seconds = now

    def now(self) -> float:
        return self._seconds()


# Reading answers. Pure.


class _More(msgspec.Struct, frozen=True):
    messages: tuple[str, ...] = ()


class _Said(msgspec.Struct, frozen=True):
    ok: bool
    error: str | None = None
    channel: str | None = None
    ts: str | None = None
    needed: str | None = None
    team: str | None = None
    response_metadata: _More | None = None


class _User(msgspec.Struct, frozen=True):
    id: str


class _Found(msgspec.Struct, frozen=True):
    user: _User


_ERRORS: Final[Mapping[Reason, str]] = {
    Reason.ADDRESS_DEAD: "is_archived channel_not_found user_not_found",
    # One place's affair, and it may be put right: invite the app, allow messages.
    Reason.INVALID_ADDRESS: "not_in_channel channel_type_not_supported cannot_dm_bot messages_tab_disabled "
    "users_not_found user_not_visible invalid_channel",
    Reason.POLICY: "restricted_action restricted_action_read_only_channel restricted_action_thread_only_channel "
    "restricted_action_non_threadable_channel restricted_action_thread_locked slack_connect_canvas_sharing_blocked "
    "slack_connect_file_link_sharing_blocked",
    Reason.ACCOUNT_PROBLEM: "invalid_auth not_authed token_revoked token_expired account_inactive missing_scope "
    "no_permission not_allowed_token_type org_login_required ekm_access_denied access_denied accesslimited "
    "team_access_not_granted two_factor_setup_required enterprise_is_restricted deprecated_endpoint",
    Reason.TOO_LARGE: "msg_too_long msg_blocks_too_long attachment_payload_limit_exceeded",
    Reason.MESSAGE_INVALID: "invalid_blocks invalid_blocks_format invalid_attachments no_text too_many_attachments "
    "too_many_contact_cards cannot_reply_to_message invalid_arguments invalid_arg_name invalid_array_arg invalid_json "
    "json_not_object invalid_metadata_format invalid_metadata_schema metadata_too_large "
    "metadata_must_be_sent_from_app message_not_found cant_update_message edit_window_closed thread_not_found",
}
_REASON_OF: Final = {error: reason for reason, errors in _ERRORS.items() for error in errors.split()}
# "It's possible some aspect of the operation succeeded before the error was raised."
_PERHAPS_DONE: Final = frozenset({"fatal_error", "internal_error"})
_DOWN: Final = frozenset({"service_unavailable", "team_added_to_org", "request_timeout"})


def _read_posted(answer: Answer) -> Outcome | None:
    said = answer.decode(_Said)
    if said is None:
        return None
    if not said.ok:
        return _refusal(answer, said)
    return Accepted(f"{said.channel}:{said.ts}") if said.channel and said.ts else None


def _read_found(answer: Answer) -> Outcome | None:
    said = answer.decode(_Said)
    if said is None or said.ok:
        return None
    if said.error == "missing_scope":  # the app may post, and only cannot look people up
        return Rejected(Reason.INVALID_ADDRESS, words(answer, said.error, "to look up e-mail addresses:", said.needed))
    return _refusal(answer, said)


def _refusal(answer: Answer, said: _Said) -> Outcome | None:
    """Read `ok: false`, which comes with HTTP 200. An error that nobody documented is not posted, and worth a retry."""
    error = said.error or ""
    more = said.response_metadata.messages if said.response_metadata else ()
    detail = words(answer, error, said.needed, *more)
    if error in _PERHAPS_DONE:
        return Unknown(Reason.TIMED_OUT, detail)
    if (reason := _REASON_OF.get(error)) is not None:
        return Rejected(reason, detail)
    if error == "ratelimited":
        return Retry(Reason.RATE_LIMITED, answer.retry_after, detail)
    if error in _DOWN:
        return Retry(Reason.PROVIDER_DOWN, answer.retry_after, detail)
    return Retry(Reason.RETRY, answer.retry_after, detail) if answer.ok else None


_HOOK_REFUSALS: Final[Mapping[str, Reason]] = {
    "no_service": Reason.ADDRESS_DEAD,  # 404: the webhook was removed
    "no_team": Reason.ADDRESS_DEAD,
    "channel_not_found": Reason.ADDRESS_DEAD,
    "channel_is_archived": Reason.ADDRESS_DEAD,
    "invalid_token": Reason.INVALID_ADDRESS,  # 403: the URL's own secret; of our credentials it knows none
    "user_not_found": Reason.INVALID_ADDRESS,
    "action_prohibited": Reason.POLICY,
    "posting_to_general_channel_denied": Reason.POLICY,
    "invalid_payload": Reason.MESSAGE_INVALID,
    "invalid_blocks": Reason.MESSAGE_INVALID,
    "invalid_blocks_format": Reason.MESSAGE_INVALID,
    "invalid_attachments": Reason.MESSAGE_INVALID,
    "no_text": Reason.MESSAGE_INVALID,
    "missing_text_or_fallback_or_attachments": Reason.MESSAGE_INVALID,
    "too_many_attachments": Reason.TOO_LARGE,
}


def _read_hook(answer: Answer) -> Outcome | None:
    """Read a webhook's answer, which is one word of plain text: `ok`, or why not."""
    said = answer.text()[:100].strip()
    if answer.ok:
        return Accepted() if said == "ok" else None
    if (reason := _HOOK_REFUSALS.get(said)) is not None:
        return Rejected(reason, words(answer, said))
    if said == "rollup_error":  # 500 "something strange and unusual happened"
        return Retry(Reason.RETRY, answer.retry_after, words(answer, said))
    return None


# Reading callbacks. Pure.


class _Pressed(msgspec.Struct, frozen=True):
    action_id: str = ""
    action_ts: str = ""
    value: str | None = None


class _Container(msgspec.Struct, frozen=True):
    channel_id: str | None = None
    message_ts: str | None = None


class _Shown(msgspec.Struct, frozen=True):
    text: str = ""
    blocks: list[dict[str, Any]] = []


class _Interaction(msgspec.Struct, frozen=True):
    type: str
    actions: tuple[_Pressed, ...] = ()
    container: _Container | None = None
    user: _User | None = None
    message: _Shown | None = None
    response_url: str | None = None


def _interaction(body: bytes) -> _Interaction | None:
    """Read a press of a button; `None` for what else Slack tells. Raises `CallbackRefused` for what it never says."""
    try:
        form = parse_qs(body.decode(), max_num_fields=100)
        if "payload" not in form:
            msgspec.json.decode(body)  # the Events API's JSON; nothing of it is about our messages
            return None
        told = msgspec.json.decode(form["payload"][0].encode(), type=_Interaction)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise CallbackRefused("the callback's body cannot be read", unreadable=True) from error
    return told if told.type == "block_actions" else None


def _acknowledged(told: _Interaction) -> dict[str, Any] | None:
    """Write the message anew, with who acknowledged it where our button was; `None` if that was not pressed."""
    if told.message is None or all(pressed.action_id != ACKNOWLEDGE for pressed in told.actions):
        return None
    left: list[dict[str, Any]] = []
    for block in told.message.blocks:
        elements = block.get("elements")
        if block.get("type") != "actions" or not isinstance(elements, list):
            left.append(block)
            continue
        others = [each for each in cast("list[Any]", elements) if not _is_our_button(each)]
        left += [{**block, "elements": others}] if others else []
    by = f" by <@{told.user.id}>" if told.user is not None and _ID(told.user.id) else ""
    note = {"type": "context", "elements": [{"type": "mrkdwn", "text": f"Acknowledged{by}"}]}
    blocks = [*left[: BLOCKS_MOST - 1], note]
    return {"replace_original": True, "text": told.message.text or NO_TEXT, "blocks": blocks}


def _is_our_button(element: Any) -> bool:
    return isinstance(element, dict) and cast("dict[str, Any]", element).get("action_id") == ACKNOWLEDGE


def _events(body: bytes) -> list[StatusEvent]:
    told = _interaction(body)
    if told is None:
        return []
    return [event for pressed in told.actions if (event := _event(pressed, told)) is not None]


def _event(pressed: _Pressed, told: _Interaction) -> StatusEvent | None:
    ours = pressed.action_id.startswith(OPEN) or pressed.action_id == ACKNOWLEDGE
    if not ours and not pressed.action_id.startswith(ACKNOWLEDGE):
        return None
    try:
        at = float(pressed.action_ts)
    except ValueError as error:
        raise CallbackRefused("the action has no time", unreadable=True) from error
    place = told.container
    return StatusEvent(
        type=EventType.CLICKED if pressed.action_id.startswith(OPEN) else EventType.ACKNOWLEDGED,
        at=at,
        provider_id=f"{place.channel_id}:{place.message_ts}" if place and place.channel_id else None,
        message_id=pressed.value if ours else None,
        detail=f"by {told.user.id}" if told.user else None,
        event_id=f"{pressed.action_ts}:{told.user.id if told.user else ''}:{pressed.action_id}",
    )
