"""The bodies of this installation: the promised ones, and a key for each channel that somebody else's adapter brings.

Owns how a channel's name becomes a key of `to` and of `overrides`. Types are made once, at start, and decode as fast as
those they extend; without such channels they are those. Refuses to know adapters: it is given names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Meta

from gateway.model.requests import BatchItem, ChannelOverrides, Overrides, Recipient, SendRequest

ForeignAddress = Annotated[str, Meta(min_length=1, max_length=4096)] | dict[str, Any]
"""In the channel's own notation, text or an object (as `web_push` has it): the gateway cannot know which."""


class Bodies(msgspec.Struct, frozen=True, kw_only=True):
    """What a send and an item of a batch look like here."""

    send: type[SendRequest] = SendRequest
    item: type[BatchItem] = BatchItem


BUILT_IN: Final = Bodies()


def bodies(channels: Iterable[str]) -> Bodies:
    """Make the bodies that know `channels` too: lower-case identifiers, none of them a recipient's other key."""
    own = sorted(set(channels) - {*Overrides.__struct_fields__, *Recipient.__struct_fields__})
    if not own:
        return BUILT_IN
    recipient = _extended(Recipient, dict.fromkeys(own, (ForeignAddress | None, None)))
    recipient.address_keys = (*Recipient.address_keys, *own)
    overrides = _extended(Overrides, dict.fromkeys(own, (ChannelOverrides | None, None)))
    speaking = {
        "to": (recipient | Annotated[list[recipient], Meta(min_length=1)],),
        "overrides": (overrides | None, None),
    }
    return Bodies(
        send=cast("type[SendRequest]", _extended(SendRequest, speaking)),
        item=cast("type[BatchItem]", _extended(BatchItem, speaking)),
    )


def _extended(shape: Any, fields: dict[str, tuple[Any, ...]]) -> Any:
    """Make a struct under the same name with these fields (type and, if there is one, default) as well, or instead."""
    return msgspec.defstruct(
        shape.__name__,
        [(name, *rest) for name, rest in fields.items()],
        bases=(shape,),
        namespace={"__doc__": shape.__doc__},
        module=shape.__module__,
        frozen=True,
        kw_only=True,
    )
