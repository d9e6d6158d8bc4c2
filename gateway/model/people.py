"""What services write about people: the bodies under `/v1/users`, as types.

What types cannot say (an address is one of its channel's, a locale is one) is said by `gateway.router.people`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.errors import Code
from gateway.model.requests import Key, Request, ShortText

_ID_CHARS: Final = 100
"""As `Key` has it, for ids that stand in a path."""
_NOT_PARTS: Final = frozenset({".", ".."})
_NOT_PATHS: Final = _NOT_PARTS | {"batch"}


class AddressRequest(Request, frozen=True, kw_only=True):
    """Where a person is reached: a device, a browser's subscription (an object), a second e-mail address."""

    channel: Key
    address: Annotated[str, Meta(min_length=1, max_length=4096)] | dict[str, Any]
    label: ShortText | None = None


class UserRequest(Request, frozen=True, kw_only=True):
    """A person, whole: what is not in it is not kept. `email` and `phone` are their addresses on `email` and `sms`."""

    name: ShortText | None = None
    email: Annotated[str, Meta(max_length=320)] | None = None
    phone: Annotated[str, Meta(max_length=32)] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    timezone: Annotated[str, Meta(max_length=64)] | None = None
    addresses: Annotated[list[AddressRequest], Meta(max_length=100)] = msgspec.field(
        default_factory=list[AddressRequest]
    )
    attributes: Annotated[dict[Annotated[str, Meta(max_length=100)], Any], Meta(max_length=100)] = msgspec.field(
        default_factory=dict[str, Any]
    )


class UserItem(UserRequest, frozen=True, kw_only=True):
    """One of a batch: a person with their id."""

    id: Key


class SubscribersRequest(Request, frozen=True, kw_only=True):
    """Up to 1,000 stored users, by id, who are to get what is sent to a topic."""

    users: Annotated[list[Key], Meta(min_length=1)]


def user_id_fault(id_: str) -> tuple[Code, str] | None:
    """Say what is wrong with a user id, or `None`: any printable text that a path can carry."""
    return _path_fault("A user id", id_, _NOT_PATHS)


def topic_fault(topic: str) -> tuple[Code, str] | None:
    """Say what is wrong with a topic's name, or `None`: any printable text that a path can carry."""
    return _path_fault("A topic", topic, _NOT_PARTS)


def _path_fault(what: str, id_: str, taken: frozenset[str]) -> tuple[Code, str] | None:
    if not id_:
        return Code.TOO_SHORT, f"{what} must not be empty."
    if len(id_) > _ID_CHARS:
        return Code.TOO_LONG, f"{what} is at most {_ID_CHARS} characters long."
    if not id_.isprintable():
        return Code.INVALID, f"{what} must not contain control characters."
    if id_ in taken:
        return Code.INVALID, f"{what} must not be {id_}, which has a meaning of its own in paths."
    return None


Clock = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5, examples=["22:00"])]
"""A time of day, to the minute."""

Allowed = Annotated[dict[Key, bool], Meta(max_length=100)]
"""By channel: wanted or not."""


class CategoryChoices(Request, frozen=True, kw_only=True):
    """What a person says of one category: at all (`enabled`), and by channel."""

    enabled: bool | None = None
    channels: Allowed = msgspec.field(default_factory=dict[str, bool])


class QuietHoursRequest(Request, frozen=True, kw_only=True):
    """When a person wants to be left alone, perhaps over midnight; `enabled: false`: never, whatever the default is.

    `timezone` is for these hours alone. Without it they are those of wherever the person is: the request's `timezone`,
    else the stored one.
    """

    start: Clock | None = None
    end: Clock | None = None
    timezone: Annotated[str, Meta(max_length=64)] | None = None
    enabled: bool = True


class PreferencesRequest(Request, frozen=True, kw_only=True):
    """All that a person chooses: what is not in it is not kept."""

    channels: Allowed = msgspec.field(default_factory=dict[str, bool])
    categories: Annotated[dict[Key, CategoryChoices], Meta(max_length=100)] = msgspec.field(
        default_factory=dict[str, CategoryChoices]
    )
    quiet_hours: QuietHoursRequest | None = None
