"""The adapter for development says that a message would go, and nothing of what is in it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest

from channels.contract import Accepted, Attachment, Channel, Content, Message
from channels.dev_log import DevLogChannel, DevLogSettings
from channels.testing import ChannelContract, Recorder, Shape


def line(number: int = 1, **changes) -> Message:
    fields = {
        "id": f"dlv_{number}",
        "kind": "email",
        "to": "private-address@example.com",
        "to_name": "private-name",
        "content": Content(
            subject="private-subject",
            text="private-body",
            html="<p>private-body</p>",
            attachments=(Attachment(filename="private-file", content_type="text/plain", content=b"private-bytes"),),
        ),
        "idempotency_key": f"dlv_{number}",
    }
    return Message(**{**fields, **changes})


class _Facing:
    def __init__(self, channel: DevLogChannel, recorder: Recorder) -> None:
        self.channel, self._recorder = channel, recorder

    def received(self) -> int:
        return len(self._recorder.lines)


class TestDevLog(ChannelContract):
    channel = DevLogChannel
    settings: ClassVar = {"kind": "sms"}
    shapes: ClassVar = {Shape.ACCEPTS: None}  # it talks to nobody: there is no other way for it to fail

    def message(self, number):
        return line(number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        yield _Facing(DevLogChannel(DevLogSettings(), recorder.tools), recorder)

    async def test_every_failure_on_the_wire_is_the_right_value(self):
        async with self.facing(None, Recorder()) as facing:
            assert isinstance(await facing.channel.send(line()), Accepted)

    async def test_a_cancelled_send_leaves_the_channel_usable(self):
        """Nothing is waited for, so nothing can be cancelled half-way."""
        async with self.facing(None, Recorder()) as facing:
            sending = facing.channel.send(line())
            sending.close()
            assert isinstance(await facing.channel.send(line(2)), Accepted)


async def test_the_log_tells_the_id_and_the_measures_and_nothing_else():
    recorder = Recorder()
    channel = DevLogChannel(DevLogSettings(kind="email"), recorder.tools)
    assert await channel.send(line()) == Accepted("dlv_1", "logged, not sent")
    (logged,) = recorder.lines
    assert "dlv_1" in logged
    assert "'text_chars': 12" in logged
    assert "'attachments': 1" in logged
    assert "private" not in logged


def test_it_is_of_the_kind_that_its_settings_name_and_the_class_is_unchanged():
    recorder = Recorder()
    sms = DevLogChannel(DevLogSettings(kind="sms"), recorder.tools)
    chat = DevLogChannel(DevLogSettings(kind="slack"), recorder.tools)
    assert (sms.kind, chat.kind, DevLogChannel.kind) == ("sms", "slack", "email")
    assert isinstance(sms, Channel)


@pytest.mark.parametrize("kind", ["", "E-Mail", "a b", "1sms", "x" * 41])
def test_a_kind_that_is_no_channels_name_is_refused(kind):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": kind}, DevLogSettings)


async def test_there_is_nothing_to_check():
    channel = DevLogChannel(DevLogSettings(), Recorder().tools)
    assert (await channel.check()).ok
    await channel.aclose()
