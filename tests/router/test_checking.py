"""Asking providers about credentials: whatever they do, there is an answer in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from channels.contract import Check
from gateway.observe.logging import get_logger
from gateway.router.checking import Checking
from tests.router.house import Scripted


class Asked(Scripted):
    """Answers a check: a value, an exception, or never."""

    def __init__(self, answer: Check | Exception | None, *, destination: Check | None = None) -> None:
        super().__init__()
        self.answer = answer
        if destination is not None:
            self.check_address = self._address
        self.destination = destination
        self.addresses: list[str] = []

    async def check(self) -> Check:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def _address(self, address: str) -> Check:
        self.addresses.append(address)
        assert self.destination is not None
        return self.destination


def checking(adapter: Any, **more: Any) -> Checking:
    adapters, places = {"p1": adapter}, more.pop("destinations", {})
    return Checking(adapters, places, {}, clock=lambda: 0, log=get_logger("test"), **more)


GOOD = Check(ok=True, detail="all is well")
GONE = Check(ok=False, detail="404 gone")
NO_ACCOUNT = Check(ok=None, detail="there is no account")
PLACES = {("email", "ops"): "https://example.com/secret", ("slack", "ops"): "elsewhere"}


@pytest.mark.parametrize("answer", [GOOD, GONE])
async def test_the_providers_own_words_are_told(answer):
    found = await checking(Asked(answer)).check("p1")
    assert (found.provider, found.ok, found.detail) == ("p1", answer.ok, answer.detail)


async def test_an_adapter_without_the_question_is_no_failure():
    found = await checking(Scripted()).check("p1")
    assert (found.ok, found.detail) == (None, "cannot be checked without sending")


async def test_one_that_never_answers_is_given_up():
    found = await checking(Asked(None), limit_s=0.01).check("p1")
    assert (found.ok, found.detail) == (False, "no answer within 0.01 s")


async def test_one_that_raises_tells_its_kind_and_nothing_more():
    found = await checking(Asked(RuntimeError("password s3cret"))).check("p1")
    assert (found.ok, found.detail) == (False, "the adapter failed: RuntimeError")


async def test_words_are_one_printable_line():
    found = await checking(Asked(Check(ok=True, detail="a\r\nb\x1b[2J" + "x" * 900))).check("p1")
    assert found.detail.isprintable()
    assert len(found.detail) == 500


@pytest.mark.parametrize(
    ("account", "destination", "ok", "detail"),
    [
        (NO_ACCOUNT, GOOD, True, "ops: all is well"),
        (NO_ACCOUNT, GONE, False, "ops: 404 gone"),
        (GOOD, GONE, False, "all is well; ops: 404 gone"),
        (GONE, GOOD, False, "404 gone"),
    ],
)
async def test_the_channels_configured_destinations_are_asked_about_by_name(account, destination, ok, detail):
    adapter = Asked(account, destination=destination)
    found = await checking(adapter, destinations=PLACES).check("p1")
    assert (found.ok, found.detail) == (ok, detail)
    assert adapter.addresses == ([] if account is GONE else ["https://example.com/secret"])
    assert "secret" not in found.detail
