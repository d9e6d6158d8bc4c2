"""Every operation of the document, fuzzed over a socket: no fault of ours, and no answer the document does not know."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS

from gateway.api.app import operations
from gateway.api.document import write_document
from gateway.bootstrap import working
from gateway.config.settings import LimitSettings, Rate
from tests.api.conftest import ADMIN, open_api
from tests.support.serving import served

NAMES = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
EXAMPLES = 15
"""Per operation; some 30 operations make half a minute."""

document = json.loads(write_document(operations()))
schema = schemathesis.openapi.from_dict(document)


async def _serve(folder: Path, started: Future[tuple[int, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    async with open_api(folder, LimitSettings(live=Rate(1_000_000, 1))) as api, working(api.gateway, work=True):
        api.gateway.live_inboxes.close()  # a stream that goes on would hold the fuzzer up
        async with served(api.app) as port:
            started.set_result((port, stop))
            await stop.wait()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway in a thread of its own: schemathesis calls it from this one, without an event loop."""
    started: Future[tuple[int, asyncio.Event]] = Future()
    folder = tmp_path_factory.mktemp("fuzzed")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(folder, started)))
    thread.start()
    port, stop = started.result(30)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
def test_no_answer_is_a_fault_or_unknown_to_the_document(case: Any, url: str):
    if case.operation.path == "/v1/captured/wait":
        case.query["timeout_s"] = 0  # nothing will come
    case.call_and_validate(
        base_url=url,
        headers={"Authorization": f"Bearer {ADMIN}"},
        checks=[CHECKS.get_one(name) for name in NAMES],
    )


def test_answers_about_real_things_are_what_the_document_says(url: str):
    headers = {"Authorization": f"Bearer {ADMIN}", "Idempotency-Key": "once"}
    attachments = [{"filename": "a.txt", "content_type": "text/plain", "content": "aGVsbG8="}]
    body = {
        "to": {"email": "ada@example.com", "name": "Ada"},
        "content": {"title": "Hello"},
        "attachments": attachments,
        "metadata": {"a": [1]},
    }

    def call(label: str, **parts: Any) -> dict[str, Any]:
        method, path = label.split(" ")
        case = schema[path][method].Case(headers=headers, **parts)
        answer = case.call_and_validate(base_url=url, checks=[CHECKS.get_one(name) for name in NAMES[:-1]])
        assert answer.status_code < 400, answer.text
        return answer.json()

    sent = call("POST /v1/notifications", body=body, media_type="application/json")
    call("POST /v1/notifications", body=body, media_type="application/json")
    call("POST /v1/notifications/explain", body=body, media_type="application/json")
    batch = {"notifications": [body, {"to": {}}]}
    call("POST /v1/notifications/batch", body=batch, media_type="application/json")
    found = call("GET /v1/captured/wait", query={"notification_id": sent["id"], "timeout_s": 20})
    notification, delivery = {"id": sent["id"]}, {"id": found["delivery_id"]}
    call("GET /v1/captured/{id}", path_parameters={"id": found["id"]})
    call("GET /v1/captured")
    call("GET /v1/notifications/{id}", path_parameters=notification)
    call("GET /v1/notifications/{id}/events", path_parameters=notification)
    call("POST /v1/notifications/{id}/cancel", path_parameters=notification)
    call("GET /v1/notifications")
    call("GET /v1/deliveries/{id}", path_parameters=delivery)
    call("GET /v1/deliveries")
    call("GET /v1/stats")
    who = {"user_id": "42"}
    profile = {"name": "Ada", "email": "ada@example.com", "attributes": {"a": [1]}}
    for _ in range(2):
        call("PUT /v1/users/{user_id}", path_parameters=who, body=profile, media_type="application/json")
    device = {"channel": "mobile_push", "address": "token", "label": "Pixel"}
    added = call("POST /v1/users/{user_id}/addresses", path_parameters=who, body=device, media_type="application/json")
    call("POST /v1/users/batch", body={"users": [{"id": "c"}, {}]}, media_type="application/json")
    call("GET /v1/users")
    for path in ("", "/addresses", "/export"):
        call("GET /v1/users/{user_id}" + path, path_parameters=who)
    call("DELETE /v1/users/{user_id}/addresses/{id}", path_parameters=who | {"id": added["id"]})
    call("DELETE /v1/users/{user_id}", path_parameters=who)


def test_the_fuzzer_saw_every_operation():
    fuzzed = {operation.ok().label for operation in schema.get_all_operations()}
    written = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert fuzzed == written
    assert len(fuzzed) >= 28
