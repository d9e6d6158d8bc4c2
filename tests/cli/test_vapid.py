"""`gateway vapid`: a pair that the adapter takes."""

from __future__ import annotations

import time

import msgspec
from click.testing import CliRunner

from channels.contract import Tools
from channels.push_web import WebPushChannel, WebPushSettings
from gateway.cli import main


def test_the_printed_pair_belongs_together_and_another_call_makes_another():
    printed = [CliRunner().invoke(main, ["vapid"]) for _ in range(2)]
    assert [one.exit_code for one in printed] == [0, 0]
    pairs = [dict(line.replace(" ", "").split("=", 1) for line in one.output.splitlines()) for one in printed]
    assert pairs[0] != pairs[1]
    for pair in pairs:
        settings = msgspec.convert(
            {"private_key": pair["private_key"], "subject": "mailto:ops@example.com"}, WebPushSettings
        )
        tools = Tools(provider="browsers", now=time.time, log=lambda *_, **__: None, random=lambda: 0.5)
        assert WebPushChannel(settings, tools).public_key == pair["public_key"]
