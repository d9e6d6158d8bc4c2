"""Templates, suppressions and figures over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api


async def test_templates_are_listed_and_shown(api: Api):
    client = api.client()
    first = (await client.get("/v1/templates", params={"limit": 1})).json()
    rest = (await client.get("/v1/templates", params={"cursor": first["next_cursor"]})).json()
    keys = [one["key"] for page in (first, rest) for one in page["items"]]
    assert keys == sorted(keys)
    assert {"welcome", "password-reset", "order-shipped", "incident-alert"} <= set(keys)
    shown = (await client.get("/v1/templates/welcome")).json()
    assert shown["version"].startswith("sha256:")
    assert {"en", "de"} <= set(shown["locales"])
    assert shown["variables"]
    assert [one["current"] for one in shown["versions"]] == [True]
    for key in ("no-such", "_content", "%00"):
        assert (await client.get(f"/v1/templates/{key}")).status_code == 404


async def test_a_preview_renders_every_channel_or_names_the_variables(api: Api):
    client = api.client()
    shown = (await client.get("/v1/templates/welcome")).json()
    examples = {one["name"]: one["example"] for one in shown["variables"] if one["example"] is not None}
    answer = await client.post("/v1/templates/welcome/preview", json={"data": examples, "locale": "de-AT"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["locale"] == "de"
    assert answer.json()["channels"]["email"]["html"]

    wrong = await client.post("/v1/templates/welcome/preview", json={"data": {"nope": 1}, "locale": "!!"})
    codes = {one["code"] for one in wrong.json()["errors"]}
    assert (wrong.status_code, codes) == (422, {"missing_variable", "undeclared_variable", "invalid"})
    version = await client.post("/v1/templates/welcome/preview", json={"data": examples, "version": "sha256:0"})
    assert [(one["field"], one["code"]) for one in version.json()["errors"]] == [("version", "unknown_template")]


async def test_an_address_is_suppressed_found_and_let_go(api: Api, email):
    client = api.client()
    body = {"channel": "email", "address": "Ada@Example.COM", "detail": "by phone"}
    made = await client.post("/v1/suppressions", json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["reason"], made.json()["source"], made.json()["detail"]) == ("suppressed", "api", "by phone")
    again = await client.post("/v1/suppressions", json=body | {"detail": "again"})
    assert (again.status_code, again.json()) == (201, made.json())

    skipped = (await client.post("/v1/notifications", json=email("ada@example.com"))).json()["deliveries"][0]
    assert (skipped["status"], skipped["reason"]) == ("skipped", "suppressed")

    for params in ({}, {"address": "ADA@example.com"}, {"channel": "email", "address": "ada@example.com"}):
        items = (await client.get("/v1/suppressions", params=params)).json()["items"]
        assert items == [made.json()], params
    assert (await client.get("/v1/suppressions", params={"channel": "sms"})).json()["items"] == []

    gone = await client.delete("/v1/suppressions/email/ADA%40example.com")
    assert (gone.status_code, gone.json()["deleted"]) == (200, True)
    assert (await client.delete("/v1/suppressions/email/ada@example.com")).status_code == 404
    assert (await client.get("/v1/suppressions")).json()["items"] == []


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("https://hooks.example.com/a/b", "https://hooks.example.com/a/b"),
        ("https://hooks.example.com/a/b?c=1", "https%3A%2F%2Fhooks.example.com%2Fa%2Fb%3Fc=1"),
    ],
)
async def test_an_address_with_slashes_can_be_let_go(api: Api, address, written):
    client = api.client()
    await client.post("/v1/suppressions", json={"channel": "slack", "address": address})
    answer = await client.delete(f"/v1/suppressions/slack/{written}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["address"] == address


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"channel": "pigeon", "address": "x"}, "channel", "unknown_channel"),
        ({"channel": "email", "address": "no address"}, "address", "invalid"),
        ({"channel": "email", "address": "a@example.com\r\nBcc: b@example.com"}, "address", "header_injection"),
        ({"channel": "sms", "address": "12"}, "address", "invalid"),
        ({"channel": "email"}, "address", "required"),
    ],
)
async def test_a_wrong_suppression_is_named(api: Api, body, field, code):
    answer = await api.client().post("/v1/suppressions", json=body)
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [(field, code)]


async def test_suppressions_are_listed_in_pages(api: Api):
    client = api.client()
    for name in "abc":
        await client.post("/v1/suppressions", json={"channel": "email", "address": f"{name}@example.com"})
    first = (await client.get("/v1/suppressions", params={"limit": 2})).json()
    second = (await client.get("/v1/suppressions", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    found = [one["address"] for page in (first, second) for one in page["items"]]
    assert sorted(found) == ["a@example.com", "b@example.com", "c@example.com"]
    assert len(found) == 3


async def test_figures_add_up(working_api: Api, email):
    client = working_api.client()
    for number in range(3):
        await client.post("/v1/notifications", json=email(f"n{number}@example.com"))
        await client.get("/v1/captured/wait", params={"to": f"n{number}@example.com"})
    stats = (await client.get("/v1/stats")).json()
    assert stats["totals"]["captured"] == 3
    counted = sum(one["count"] for one in stats["items"] if one["status"] == "captured")
    assert counted == 3
    elsewhere = working_api.client(await working_api.key("read", project="elsewhere"))
    assert (await elsewhere.get("/v1/stats")).json()["totals"] == {}
    for params in (
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"since": "2020-01-01T00:00:00Z"},
    ):
        answer = await client.get("/v1/stats", params=params)
        assert answer.json()["errors"][0]["code"] == "out_of_range"
