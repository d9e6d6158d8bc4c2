"""`/v1/topics`: who gets what is sent to a topic. Topics, like people, are shared by all projects.

Owns the border. A topic needs no making: it is there as soon as somebody subscribes to it.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UnsetType

from gateway.api import cursors
from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply, json_reply
from gateway.api.listings import ListQuery, listed, listing_name
from gateway.api.operation import AnswerRule, BodyRule, NoQuery, Operation
from gateway.errors import Code, Fault, Problem, invalid, not_found
from gateway.model.people import SubscribersRequest, topic_fault
from gateway.model.states import Scope
from gateway.router.answers import Answer, Listing, utc
from gateway.storage.contract import SubscriberRow

_TAG: Final = "People"
_OK: Final = 200
_CREATED: Final = 201
_READERS: Final = (Scope.READ, Scope.MANAGE)


class SubscriberAnswer(Answer, frozen=True, kw_only=True):
    """A stored user who gets what is sent to a topic."""

    topic: str
    user: str
    created_at: str


class SubscribersAnswer(Answer, frozen=True, kw_only=True):
    """How many of the users are new to the topic; the others were on it already."""

    topic: str
    added: int
    unchanged: int


class UnsubscribedAnswer(Answer, frozen=True, kw_only=True):
    """Who gets no more of a topic."""

    topic: str
    user: str
    deleted: bool


async def subscribe(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Subscribe one user."""
    topic, user = _topic(call), call.path["user_id"]
    if not user.isprintable():
        raise _nobody(user)
    now = context.clock()
    done = await context.store.subscribe(topic, [user], now)
    if done.unknown:
        raise _nobody(user)
    if user in done.added:
        return json_reply(shown_subscriber(SubscriberRow(topic=topic, user_id=user, created_at=now)), _CREATED)
    found = await context.store.subscriber(topic, user)
    if found is None:  # taken off again, or erased, this very moment
        raise _nobody(user)
    return json_reply(shown_subscriber(found))


async def subscribe_many(context: ApiContext, call: Call[NoQuery, SubscribersRequest]) -> Reply:
    """Subscribe up to 1,000 users: all of them, or nobody."""
    topic, users = _topic(call), call.body.users
    most = context.settings.limits.batch
    if len(users) > most:
        raise invalid([Fault("users", Code.TOO_MANY, f"Must have at most {most} entries, not {len(users)}.")])
    done = await context.store.subscribe(topic, users, context.clock())
    if done.unknown:
        faults = [
            Fault(f"users[{place}]", Code.UNKNOWN_USER, f"there is no user {user!r}")
            for place, user in enumerate(users)
            if user in done.unknown
        ]
        raise invalid(faults)
    added = len(done.added)
    return json_reply(SubscribersAnswer(topic=topic, added=added, unchanged=len(set(users)) - added))


async def show_subscriber(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show whether a user is on a topic."""
    topic, user = call.path["topic"], call.path["user_id"]
    readable = topic.isprintable() and user.isprintable()
    found = await context.store.subscriber(topic, user) if readable else None
    if found is None:
        raise _no_subscriber(topic, user)
    return json_reply(shown_subscriber(found))


async def unsubscribe(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take a user off a topic."""
    topic, user = call.path["topic"], call.path["user_id"]
    readable = topic.isprintable() and user.isprintable()
    if not readable or not await context.store.unsubscribe(topic, user):
        raise _no_subscriber(topic, user)
    return json_reply(UnsubscribedAnswer(topic=topic, user=user, deleted=True))


async def list_subscribers(context: ApiContext, call: Call[ListQuery, None]) -> Reply:
    """List a topic's subscribers, by id; a topic that nobody is on has none."""
    topic, query = _topic(call), call.query
    name = listing_name("subscribers", topic)
    after = "" if isinstance(query.cursor, UnsetType) else cursors.read(name, query.cursor).decode()
    rows = await context.store.subscribers(topic, query.limit + 1, after)
    return json_reply(listed(name, query, rows, shown_subscriber, lambda row: row.user_id.encode()))


def _topic(call: Call[Any, Any]) -> str:
    topic = call.path["topic"]
    if (wrong := topic_fault(topic)) is not None:
        raise invalid([Fault("topic", *wrong)])
    return topic


def _nobody(user: str) -> Problem:
    return not_found("user", user[:100])


def _no_subscriber(topic: str, user: str) -> Problem:
    return not_found("subscriber", f"{topic[:100]}/{user[:100]}")


def shown_subscriber(row: SubscriberRow) -> SubscriberAnswer:
    """Show a subscription."""
    return SubscriberAnswer(topic=row.topic, user=row.user_id, created_at=utc(row.created_at))


_ONE: Final = "/v1/topics/{topic}/subscribers/{user_id}"
_MANY: Final = "/v1/topics/{topic}/subscribers"

OPERATIONS: Final = (
    Operation(
        id="subscribe",
        method="PUT",
        path=_ONE,
        tag=_TAG,
        summary="Subscribe a user to a topic",
        description="A topic is there as soon as somebody is on it. Topics are shared by all projects, as people are.",
        act=subscribe,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=SubscriberAnswer, created=True, description="The user is on the topic."),
    ),
    Operation(
        id="getSubscriber",
        method="GET",
        path=_ONE,
        tag=_TAG,
        summary="Show whether a user is on a topic",
        act=show_subscriber,
        scopes=_READERS,
        answer=AnswerRule(type=SubscriberAnswer, description="The user is on the topic."),
    ),
    Operation(
        id="unsubscribe",
        method="DELETE",
        path=_ONE,
        tag=_TAG,
        summary="Take a user off a topic",
        description="Of a send whose subscribers are being planned just now the user gets nothing, unless it had come "
        "to them already.",
        act=unsubscribe,
        scopes=(Scope.MANAGE,),
        answer=AnswerRule(type=UnsubscribedAnswer, description="The user is off the topic."),
    ),
    Operation(
        id="subscribeMany",
        method="POST",
        path=_MANY,
        tag=_TAG,
        summary="Subscribe up to 1,000 users to a topic",
        description="All of them, or nobody where one is not stored.",
        act=subscribe_many,
        scopes=(Scope.MANAGE,),
        body=BodyRule(type=SubscribersRequest, examples={"two": {"users": ["42", "43"]}}),
        answer=AnswerRule(type=SubscribersAnswer, description="They are on the topic."),
    ),
    Operation(
        id="listSubscribers",
        method="GET",
        path=_MANY,
        tag=_TAG,
        summary="List a topic's subscribers, by user id",
        act=list_subscribers,
        scopes=_READERS,
        query=ListQuery,
        answer=AnswerRule(type=Listing[SubscriberAnswer], description="A page."),
    ),
)
