"""What the channels of a request can carry: sizes, files and overrides, told when the request is accepted.

Owns what can be known cheaply and without doubt before anything is rendered for a recipient. What a channel takes, its
adapters say themselves (`limits`, `Overrides`, `option_faults`); nothing here names one. Several providers of a channel
stand in for each other, so what one of them takes is taken. A channel without a provider is never in the way: its
messages are captured. Everything else is found out when the message is made, and ends that delivery alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from channels.contract import Channel, Message, OptionFault
from gateway.errors import Code, Fault
from gateway.model.collect import child, collect_faults
from gateway.model.requests import ContentRequest, Overrides, SendRequest
from gateway.render.renderer import Person, Renderer, RenderFailed
from gateway.router.plan import Target

Adapters = Callable[[str], Sequence[Channel]]
"""The adapters of a channel's providers, first to last."""

_MAIL: Final = "email"
_ROOM: Final = 200
"""Characters that rendering may add to a source, such as bullets: one that much below a limit is not looked at."""


def misfits(request: SendRequest, targets: Sequence[Target], adapters: Adapters, renderer: Renderer) -> list[Fault]:
    """List what no provider of its channel could carry."""
    faults = [] if request.overrides is None else list(_overrides(request.overrides, adapters))
    reached = {one.channel: one for one in targets if one.address is not None and not one.simulated}
    if request.attachments and reached:
        faults += _attachments(request, {name: adapters(name) for name in reached})
    if request.content is not None:
        for target in reached.values():
            serving = adapters(target.channel)
            limits = [one.limits.text_chars for one in serving if one.limits.text_chars is not None]
            if limits and len(limits) == len(serving):
                own = None if target.channel == _MAIL else getattr(request.overrides, target.channel, None)
                faults += _text(request.content, target, own or {}, serving, max(limits), renderer)
    return faults


# Overrides.


def _overrides(overrides: Overrides, adapters: Adapters) -> Iterator[Fault]:
    for field in msgspec.structs.fields(overrides):
        own = getattr(overrides, field.name)
        if own is None:
            continue
        path, serving = child("overrides", field.encode_name), adapters(field.encode_name)
        if field.encode_name == _MAIL:
            if own.template is not None and serving and not any(one.limits.templates for one in serving):
                message = "no provider of this channel keeps templates of its own"
                yield Fault(f"{path}.template", Code.NOT_ALLOWED, message)
            continue
        found = [_options(one, own, path) for one in serving]
        if found and all(found):
            yield from min(found, key=len)


def _options(adapter: Channel, own: Mapping[str, Any], path: str) -> list[Fault]:
    """List what one adapter does not take."""
    shape: type[msgspec.Struct] | None = getattr(adapter, "Overrides", None)
    if shape is None:
        return []
    faults = [Fault(_below(path, fault.field), fault.code, fault.message) for fault in collect_faults(dict(own), shape)]
    if faults:
        return faults
    judge: Callable[[Mapping[str, Any]], Sequence[OptionFault]] | None = getattr(adapter, "option_faults", None)
    found = () if judge is None else judge(own)
    return [Fault(_below(path, fault.field), Code(fault.code), fault.message) for fault in found]


def _below(path: str, field: str) -> str:
    return f"{path}.{field}" if field and not field.startswith("[") else path + field


# Files.


def _attachments(request: SendRequest, serving: Mapping[str, Sequence[Channel]]) -> Iterator[Fault]:
    """Refuse files that nobody could be sent; where one channel takes them, the others do without."""
    carrying = {name: [one for one in several if one.limits.attachments] for name, several in serving.items()}
    if all(serving.values()) and not any(carrying.values()):
        names = ", ".join(serving)
        yield Fault("attachments", Code.NOT_ALLOWED, f"no channel of this request carries files ({names})")
        return
    size = sum(len(one.content) for one in request.attachments)
    for name, several in carrying.items():
        limits = [one.limits.message_bytes for one in several]
        if limits and all(most is not None and size > most for most in limits):
            most = max(cast("list[int]", limits))
            yield Fault("attachments", Code.TOO_LONG, f"{size} bytes of files; {name} takes at most {most}")


# Text.


def _text(
    content: ContentRequest,
    target: Target,
    options: Mapping[str, Any],
    serving: Sequence[Channel],
    most: int,
    renderer: Renderer,
) -> Iterator[Fault]:
    """Find a text that is too long for all of them; `most` is what the most patient one takes."""
    if _longest(content) + _ROOM <= most:
        return
    message = _shown(content, target, options, renderer)
    if message is None or not all(_is_too_long(one, message) for one in serving):
        return
    length = len(message.content.text or "")
    yield Fault("content.body", Code.TOO_LONG, f"{length} characters; {target.channel} takes at most {most}")


def _longest(content: ContentRequest) -> int:
    links = sum(len(action.label) + len(action.url) + 4 for action in content.actions)
    return len(content.title) + len(content.body) + len(content.url or "") + links


def _shown(content: ContentRequest, target: Target, options: Mapping[str, Any], renderer: Renderer) -> Message | None:
    """Make the message as the channel would get it: the length of a Markdown source is not that of its text."""
    try:
        rendered = renderer.render(
            template=None,
            content=content,
            channel=target.channel,
            data={},
            person=Person(name=None, locale=None, timezone=None),
            category="",
            reference=None,
            unsubscribe_url=None,
        )
    except RenderFailed:
        return None  # told when the message is made
    return Message(
        id="", kind=target.channel, to=target.address or "", content=rendered, idempotency_key="", options=options
    )


def _is_too_long(adapter: Channel, message: Message) -> bool:
    """Ask for both: the text is over the limit, and the adapter would not send it (some count without marks)."""
    most = adapter.limits.text_chars
    if most is None or len(message.content.text or "") <= most:
        return False
    show: Callable[[Message], bytes] | None = getattr(adapter, "raw", None)
    return show is None or not show(message)
