"""The OpenAPI document: complete, valid, and the code's own."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from gateway.api.app import operations
from gateway.api.document import write_document
from gateway.model.requests import SendRequest

PROMISED = {
    "POST /v1/notifications",
    "POST /v1/notifications/batch",
    "POST /v1/notifications/explain",
    "GET /v1/notifications",
    "GET /v1/notifications/{id}",
    "GET /v1/notifications/{id}/events",
    "POST /v1/notifications/{id}/cancel",
    "GET /v1/deliveries/{id}",
    "POST /v1/deliveries/{id}/retry",
    "POST /v1/deliveries/retry",
    "GET /v1/captured",
    "GET /v1/captured/{id}",
    "GET /v1/captured/wait",
    "DELETE /v1/captured",
    "GET /v1/templates",
    "GET /v1/templates/{key}",
    "POST /v1/templates/{key}/preview",
    "PUT /v1/users/{user_id}",
    "GET /v1/users/{user_id}",
    "DELETE /v1/users/{user_id}",
    "GET /v1/users/{user_id}/export",
    "GET /v1/users",
    "POST /v1/users/batch",
    "POST /v1/users/{user_id}/addresses",
    "GET /v1/users/{user_id}/addresses",
    "DELETE /v1/users/{user_id}/addresses/{id}",
    "GET /v1/suppressions",
    "POST /v1/suppressions",
    "DELETE /v1/suppressions/{channel}/{address}",
    "POST /v1/keys",
    "GET /v1/keys",
    "DELETE /v1/keys/{id}",
    "GET /v1/stats",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "GET /schema/openapi.json",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(write_document(operations()))


def test_every_promised_route_is_documented(document):
    found = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert found >= PROMISED


def test_every_reference_leads_somewhere(document):
    text = json.dumps(document)
    for part in text.split('"$ref": "#/')[1:]:
        node: Any = document
        for name in part.split('"')[0].split("/"):
            node = node[name]
    assert len(text.split('"$ref"')) > 100


def test_every_schema_is_a_valid_schema(document):
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name


def test_every_operation_is_named_described_and_lists_its_problems(document):
    names = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names.append(operation["operationId"])
            assert operation["summary"], path
            assert {"422", "500", "503"} <= set(operation["responses"]), path
            if "security" in operation:
                assert {"401", "403", "429"} <= set(operation["responses"]), (method, path)
            if "requestBody" in operation:
                judged = {"415"} if "application/json" in operation["requestBody"]["content"] else set()
                assert {"400", "413", *judged} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                kinds = set(response["content"])
                assert (kinds == {"application/problem+json"}) is (int(status) >= 400), (path, status)
                assert "X-Request-Id" in response["headers"]
    assert len(names) == len(set(names))


def test_request_bodies_refuse_unknown_fields(document):
    for name in ("SendRequest", "Recipient", "KeyRequest", "RetryManyRequest", "BatchItem"):
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_every_example_is_taken_by_the_code():
    checked = 0
    for operation in operations():
        if operation.body is not None:
            for example in operation.body.examples.values():
                msgspec.convert(example, operation.body.shown or operation.body.type)
                checked += 1
    assert checked >= 8


def test_the_schema_of_a_send_has_the_codes_own_fields(document):
    fields = {field.encode_name for field in msgspec.structs.fields(SendRequest)}
    assert set(document["components"]["schemas"]["SendRequest"]["properties"]) == fields
