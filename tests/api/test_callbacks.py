"""`POST /v1/callbacks/{provider}`: verified before read, and only then believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from channels.contract import Accepted, Callback, CallbackRefused, EventType, Limits, StatusEvent, Tools
from gateway.config.settings import BreakerSettings
from gateway.middleware.breaker import Breaker
from gateway.model import ids
from gateway.router.gate import Gate
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.status import Reports
from tests.api.conftest import Api


class Reporting:
    """An adapter whose provider signs with one word and reports as JSON lists of [type, our id]."""

    kind = "email"
    limits = Limits(receipts=True)

    def __init__(self, settings: Any = None, tools: Tools | None = None) -> None:
        self.seen: list[Callback] = []

    async def send(self, _message: Any) -> Accepted:
        return Accepted("p-1")

    async def aclose(self) -> None:
        """Nothing is open."""

    def verify(self, callback: Callback) -> None:
        self.seen.append(callback)
        if callback.headers.get("x-signature") != "good":
            raise CallbackRefused("wrong signature")

    def parse(self, callback: Callback) -> list[StatusEvent]:
        try:
            found = json.loads(callback.body)
        except ValueError as error:
            raise CallbackRefused("not JSON", unreadable=True) from error
        return [StatusEvent(type=EventType(kind), at=1.0, message_id=id_) for kind, id_ in found]


@pytest.fixture
def adapter() -> Reporting:
    return Reporting()


@pytest.fixture
def reporting(api: Api, adapter: Reporting) -> Api:
    handle = ProviderHandle(
        name="mailer",
        adapter=adapter,
        breaker=Breaker(BreakerSettings(), concurrency=1),
        gate=Gate(1),
        pace=None,
        receipts=True,
        idempotent=False,
    )
    gateway = api.gateway
    return api.with_context(
        reports=Reports(
            store=gateway.store,
            providers=Providers([handle], {"email": ["mailer"]}),
            clock=gateway.clock,
            id_source=gateway.id_source,
            log=gateway.log,
        ),
    )


async def report(api: Api, body: bytes, signature: str = "good", path: str = "mailer") -> Any:
    headers = {"X-Signature": signature, "Content-Type": "text/plain"}
    return await api.client(None).post(f"/v1/callbacks/{path}", content=body, headers=headers)


async def test_the_adapter_sees_the_request_untouched(reporting: Api, adapter: Reporting):
    answer = await report(reporting, b"[]", path="mailer?a=1&b=%20x")
    assert (answer.status_code, answer.json()) == (200, {"changed": 0})
    [seen] = adapter.seen
    assert seen.body == b"[]"
    assert seen.url.endswith("/v1/callbacks/mailer?a=1&b=%20x")
    assert seen.query == {"a": "1", "b": " x"}
    assert seen.headers["content-type"] == "text/plain"


async def test_a_wrong_signature_is_a_401_and_changes_nothing(reporting: Api, email: Any):
    sent = (await reporting.client().post("/v1/notifications", json=email())).json()["deliveries"][0]
    answer = await report(reporting, json.dumps([["bounced", sent["id"]]]).encode(), signature="bad")
    assert (answer.status_code, answer.json()["type"]) == (401, "/errors/unauthorized")
    after = (await reporting.client().get(f"/v1/deliveries/{sent['id']}")).json()
    assert after["status"] == sent["status"]


async def test_what_cannot_be_read_is_a_400(reporting: Api):
    answer = await report(reporting, b"{")
    assert (answer.status_code, answer.json()["type"]) == (400, "/errors/malformed")


@pytest.mark.parametrize("name", ["nobody", "simulator", f"{ids.DELIVERY}_1"])
async def test_an_unknown_provider_is_a_404(reporting: Api, name: str):
    assert (await report(reporting, b"[]", path=name)).status_code == 404


async def test_a_body_over_the_limit_is_refused(tmp_path: Path, reporting: Api):
    answer = await report(reporting, b"x" * 1_048_577)
    assert answer.status_code == 413
