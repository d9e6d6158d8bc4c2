"""What becomes of a request's own terms on the way to one message."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from gateway.config.settings import CategorySettings, ChannelSettings, Settings
from gateway.model.ids import IdSource
from gateway.render.renderer import Renderer
from gateway.router.compose import _DECODE_STORED, CONTENT_KEY, Addressee, Composer, MessageLinks, Subject
from gateway.router.rules import Rules
from gateway.router.simulate import PROVIDER
from gateway.storage.store import SqlStore

RULES = Rules.build(
    Settings(
        channels={"pigeon": ChannelSettings(), "email": ChannelSettings(sender="shop@example.com")},
        categories={"marketing": CategorySettings(unsubscribe=True)},
    )
)


@pytest.fixture
def composer(tmp_path: Path) -> Composer:
    renderer = Renderer(tmp_path, default_locale="en", public_url="http://localhost", product="Test")
    renderer.load()
    return Composer(
        renderer=renderer,
        rules=RULES,
        store=SqlStore(f"sqlite:///{tmp_path}/never-opened.db", clock=lambda: 0, ids=IdSource(), simulator=PROVIDER),
        links=lambda subject: MessageLinks(
            unsubscribe=f"https://example.com/unsubscribe/{subject.address}",
            preferences=f"https://example.com/preferences/{subject.address}",
        ),
        sender="Shop <shop@example.com>",
        destinations={},
    )


def subject(composer: Composer, stored: bytes, address: str, channel: str = "pigeon") -> Subject:
    return Subject(
        delivery_id=UUID(int=1),
        channel=channel,
        address=address,
        addressee=Addressee(),
        request=_DECODE_STORED(stored),
        template=composer._renderer.current(CONTENT_KEY),
        category=RULES.categories["marketing"],
        reference=None,
        created_at=0,
        deadline_at=1,
    )


STORED = b"""{"to": {"pigeon": "a"}, "content": {"title": "Hi"}, "overrides": {
    "pigeon": {"breed": "racing"}, "stork": {"left": true}, "email": {"from": "b@example.com", "subject": "Ho"}}}"""


def test_two_recipients_of_one_request_have_options_of_their_own(composer: Composer):
    shared = subject(composer, STORED, "a")
    first = composer.message(shared, attempt=1)
    second = composer.message(msgspec.structs.replace(shared, address="b"), attempt=1)
    assert first.options == {"breed": "racing", "list_unsubscribe": "https://example.com/unsubscribe/a"}
    assert second.options == {"breed": "racing", "list_unsubscribe": "https://example.com/unsubscribe/b"}


def test_a_stored_request_stays_readable_when_a_channel_is_gone(composer: Composer):
    message = composer.message(subject(composer, STORED, "a@example.com", "email"), attempt=1)
    assert (message.sender, message.content.subject) == ("b@example.com", "Ho")
    assert message.options["list_unsubscribe"].endswith("/a@example.com")
