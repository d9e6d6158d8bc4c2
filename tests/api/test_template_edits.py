"""Templates edited through the API: drafts, publishing, projects, and what a send then gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.render.renderer import Renderer
from gateway.router.catalogue import Catalogue
from tests.api.conftest import Api

TABLE: dict[str, Any] = {
    "variables": {"table": {"example": "7"}, "name": {"default": "guest", "example": "Ada"}},
    "parts": {
        "en": {
            "title": "Table {{ table }}",
            "body": "Come in, {{ name }}: **{{ table }}**.",
            "email.subject": "Table {{ table }} is ready",
            "email.html": '<p>Come in, {{ name }}. <a href="https://example.com/{{ table }}">See</a></p>',
            "sms": "Table {{ table }}, {{ name }}.",
            "slack.json": '{"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "{{ name }}"}},]}',
        },
        "de": {
            "title": "Tisch {{ table }}",
            "body": "Treten Sie ein, {{ name }}.",
            "email.subject": "Tisch {{ table }} ist bereit",
            "email.html": "<p>{{ name }}</p>",
            "sms.txt": "Tisch {{ table }}.",
            "slack.json": '{"blocks": []}',
        },
    },
}


def small(word: str) -> dict[str, Any]:
    return {"parts": {"en": {"title": word, "body": word}}}


async def put(client, key: str, body: dict[str, Any]) -> int:
    answer = await client.put(f"/v1/templates/{key}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["version"]


async def publish(client, key: str, version: int) -> dict[str, Any]:
    answer = await client.post(f"/v1/templates/{key}/publish", json={"version": version})
    assert answer.status_code == 200, answer.text
    return answer.json()


def faults(answer) -> set[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return {(one["field"], one["code"]) for one in answer.json()["errors"]}


async def test_a_draft_is_previewed_published_sent_and_taken_back(working_api: Api):
    client = working_api.client()
    assert await put(client, "table-ready", TABLE) == 1
    draft = (await client.get("/v1/templates/table-ready")).json()
    assert (draft["version"], draft["locales"], draft["channels"]) == (None, ["de", "en"], ["email", "slack", "sms"])
    assert [(one["version"], one["draft"], one["current"]) for one in draft["versions"]] == [(1, True, False)]
    hostile = {"table": "7", "name": "<!channel> <b>"}
    shown = (await client.post("/v1/templates/table-ready/preview", json={"data": hostile})).json()
    assert (shown["version"], shown["locale"]) == (1, "en")
    channels = shown["channels"]
    assert channels["email"]["html"] == (
        '<p>Come in, &lt;!channel&gt; &lt;b&gt;. <a href="https://example.com/7">See</a></p>'
    )
    assert channels["slack"]["data"]["blocks"][0]["text"]["text"] == "&lt;!channel&gt; &lt;b&gt;"
    assert channels["sms"]["text"] == "Table 7, <!channel> <b>."
    assert channels["inbox"]["data"]["body"] == r"Come in, \<\!channel\> \<b\>: **7**."

    send = {"to": {"email": "ada@example.com"}, "template": "table-ready", "data": {"table": "7"}}
    assert faults(await client.post("/v1/notifications", json=send)) == {("template", "unknown_template")}
    published = await publish(client, "table-ready", 1)
    assert (published["version"], published["versions"][0]["draft"]) == (1, False)
    made = (await client.post("/v1/notifications", json=send)).json()
    caught = (await client.get("/v1/captured/wait", params={"to": "ada@example.com"})).json()
    assert (caught["subject"], caught["notification_id"]) == ("Table 7 is ready", made["id"])
    seen = (await client.get(f"/v1/notifications/{made['id']}")).json()
    assert seen["template"] == {"key": "table-ready", "version": 1}
    explained = (await client.post("/v1/notifications/explain", json=send)).json()
    assert explained["template"] == {"key": "table-ready", "version": 1}
    assert faults(await client.post("/v1/notifications", json=send | {"data": {"x": 1}})) == {
        ("data.table", "missing_variable"),
        ("data.x", "undeclared_variable"),
    }
    back = await client.post("/v1/templates/table-ready/unpublish")
    assert (back.status_code, back.json()["version"]) == (200, None)
    assert faults(await client.post("/v1/notifications", json=send)) == {("template", "unknown_template")}


async def test_a_published_version_wins_over_the_folders_and_unpublishing_gives_that_back(api: Api):
    client = api.client()
    before = (await client.get("/v1/templates/welcome")).json()
    await put(client, "welcome", small("One"))
    await put(client, "welcome", small("Two"))
    assert (await client.get("/v1/templates/welcome")).json()["version"] == before["version"]
    shown = await publish(client, "welcome", 2)
    assert [(one["version"], one["source"], one["current"]) for one in shown["versions"]] == [
        (2, "api", True),
        (1, "api", False),
        (before["version"], "folder", False),
    ]
    listed = {one["key"]: one["version"] for one in (await client.get("/v1/templates")).json()["items"]}
    assert listed["welcome"] == 2
    old = {"to": {"email": "a@example.com"}, "template": {"key": "welcome", "version": before["version"]}}
    answer = await client.post("/v1/notifications", json=old | {"data": {"start_url": "https://example.com"}})
    assert answer.status_code == 202, answer.text
    for _ in range(2):
        back = (await client.post("/v1/templates/welcome/unpublish")).json()
        assert back["version"] == before["version"]


async def test_another_projects_key_sees_nothing_of_it(api: Api):
    client = api.client()
    await put(client, "ours", small("Ours"))
    await publish(client, "ours", 1)
    other = api.client(await api.key("manage", "send", "read", project="elsewhere"))
    assert (await other.get("/v1/templates/ours")).status_code == 404
    assert (await other.post("/v1/templates/ours/preview", json={})).status_code == 404
    assert (await other.post("/v1/templates/ours/publish", json={"version": 1})).status_code == 404
    assert (await other.post("/v1/templates/ours/unpublish")).status_code == 404
    assert "ours" not in {one["key"] for one in (await other.get("/v1/templates")).json()["items"]}
    send = {"to": {"email": "a@example.com"}, "template": "ours"}
    assert faults(await other.post("/v1/notifications", json=send)) == {("template", "unknown_template")}
    assert await put(other, "ours", small("Theirs")) == 1
    await publish(other, "ours", 1)
    texts = [
        (await one.post("/v1/templates/ours/preview", json={})).json()["channels"]["sms"]["text"]
        for one in (client, other)
    ]
    assert texts == ["Ours\n\nOurs", "Theirs\n\nTheirs"]


async def test_a_draft_is_sent_by_test_keys_alone_and_what_was_published_by_all(api: Api):
    client = api.client()
    for word in ("One", "Two"):
        await put(client, "note", small(word))
    await publish(client, "note", 1)
    draft = {"to": {"email": "a@example.com"}, "template": {"key": "note", "version": 2}}
    assert faults(await client.post("/v1/notifications", json=draft)) == {("template.version", "unknown_template")}
    tester = api.client(await api.key("send", mode="test"))
    assert (await tester.post("/v1/notifications", json=draft)).status_code == 202
    batch = await tester.post("/v1/notifications/batch", json={"notifications": [draft, draft | {"template": "note"}]})
    assert [one["status"] for one in batch.json()["results"]] == [202, 202]
    await publish(client, "note", 2)
    for version, status in ((1, 202), (2, 202), (3, 422), (0, 422), (-1, 422), (2**70, 422)):
        named = draft | {"template": {"key": "note", "version": version}}
        assert (await client.post("/v1/notifications", json=named)).status_code == status, version


async def test_what_was_accepted_keeps_its_version(api: Api):
    client = api.client()
    for word in ("One", "Two"):
        await put(client, "note", small(word))
    await publish(client, "note", 1)
    send = {"to": {"email": "a@example.com"}, "template": "note"}
    first = (await client.post("/v1/notifications", json=send)).json()["id"]
    await publish(client, "note", 2)
    second = (await client.post("/v1/notifications", json=send)).json()["id"]
    versions = [(await client.get(f"/v1/notifications/{one}")).json()["template"]["version"] for one in (first, second)]
    assert versions == [1, 2]


async def test_another_process_sees_a_publication_at_its_next_look(api: Api):
    client = api.client()
    renderer = Renderer(None, public_url="https://notify.example.com")
    renderer.load()
    other = Catalogue(renderer=renderer, store=api.gateway.store, log=api.gateway.log)
    await put(client, "note", small("One"))
    await publish(client, "note", 1)
    assert other.current("default", "note") is None
    await other.refresh()
    found = other.current("default", "note")
    assert found is not None
    assert found.edition is not None
    assert (found.edition.number, found.edition.project) == (1, "default")
    await client.post("/v1/templates/note/unpublish")
    await other.refresh()
    assert other.current("default", "note") is None


async def test_drafts_written_at_once_get_different_numbers(api: Api):
    client = api.client()
    numbers = await asyncio.gather(*(put(client, "note", small(str(each))) for each in range(10)))
    assert sorted(numbers) == list(range(1, 11))


async def test_every_fault_of_a_draft_is_named_at_once(api: Api):
    body = {
        "variables": {"1x": {}, "recipient": {}, "a": {"required": True, "default": 1}, "b": {}},
        "parts": {
            "en": {
                "title": "{{ b }} {{ nobody }}",
                "email.html": "<p>{% if b %}</p>",
                "sms": "{{ b | nope }}",
                "slack.json": "{% include 'x' %}",
                "pigeon.coop": "x",
                "bod": "x",
                "email.text.more": "x",
                "push.txt": "x",
                "push": "x",
            },
            "de": {"title": "x"},
            "Deutsch!": {},
        },
    }
    found = faults(await api.client().put("/v1/templates/note", json=body))
    assert found >= {
        ("variables.1x", "invalid"),
        ("variables.recipient", "not_allowed"),
        ("variables.a", "exclusive"),
        ("parts.en.pigeon.coop", "unknown_field"),
        ("parts.en.email.text.more", "unknown_field"),
        ("parts.en.bod", "unknown_field"),
        ("parts.en.push", "exclusive"),
        ("parts.Deutsch!", "invalid"),
        ("parts.Deutsch!", "too_short"),
        ("parts.en.title", "undeclared_variable"),
        ("parts.en.email.html", "template_error"),
        ("parts.en.sms", "template_error"),
        ("parts.en.slack.json", "template_error"),
    }
    assert (await api.client().get("/v1/templates/note")).status_code == 404


@pytest.mark.parametrize(
    ("parts", "field", "code"),
    [
        ({"en": {"title": "x", "body": "x"}, "de": {"title": "x"}}, "parts.de.body.md", "required"),
        ({"de": {"title": "x"}}, "parts", "template_error"),
        ({"en": {"title": "x", "slack.json": '{"a": {{ b }}{{ b }}}'}}, "parts", "template_error"),
        ({"en": {"title": "x", "sms": "{{ b.c.d }}"}}, "parts", "template_error"),
        ({"en": {"title": "x", "email.html": "<p onclick={{ b }}>"}}, "parts.en.email.html", "template_error"),
        ({"en": {"title": "x", "email.html": "<script>{{ b }}</script>"}}, "parts.en.email.html", "template_error"),
        ({}, "parts", "too_short"),
    ],
)
async def test_a_draft_that_could_not_be_rendered_is_refused(api: Api, parts, field, code):
    body = {"variables": {"b": {"example": "x"}}, "parts": parts}
    assert (field, code) in faults(await api.client().put("/v1/templates/note", json=body))


@pytest.mark.parametrize("key", ["_content", "No", "a b", "x" * 101])
async def test_a_key_is_written_as_a_folders(api: Api, key):
    answer = await api.client().put(f"/v1/templates/{key}", json=small("x"))
    assert ("key", "invalid") in faults(answer)


async def test_publishing_what_is_not_there_is_refused(api: Api):
    client = api.client()
    assert (await client.post("/v1/templates/note/publish", json={"version": 1})).status_code == 404
    await put(client, "note", small("x"))
    for version in (2, 0, -1, 2**80):
        answer = await client.post("/v1/templates/note/publish", json={"version": version})
        assert faults(answer) == {("version", "unknown_template")}
    preview = await client.post("/v1/templates/note/preview", json={"version": 9})
    assert faults(preview) == {("version", "unknown_template")}


@pytest.mark.parametrize("scope", ["send", "read"])
async def test_only_who_may_manage_edits_templates(api: Api, scope):
    client = api.client(await api.key(scope))
    assert (await client.put("/v1/templates/note", json=small("x"))).status_code == 403
    assert (await client.post("/v1/templates/welcome/publish", json={"version": 1})).status_code == 403
    assert (await client.post("/v1/templates/welcome/unpublish")).status_code == 403


async def test_a_look_that_fails_keeps_what_was_known_and_one_bad_version_the_others(api: Api):
    client = api.client()
    for key in ("good", "bad"):
        await put(client, key, small(key))
        await publish(client, key, 1)
    renderer = Renderer(None, public_url="https://notify.example.com")
    renderer.load()

    class Damaged:
        def __getattr__(self, name):
            return getattr(api.gateway.store, name)

        async def template_sources(self, versions):
            found = await api.gateway.store.template_sources(versions)
            edits = await api.gateway.store.edits("default", "bad")
            return found | {edits[0].version: b"damaged"}

    other = Catalogue(renderer=renderer, store=Damaged(), log=api.gateway.log)
    await other.refresh()
    assert other.current("default", "good") is not None
    assert other.current("default", "bad") is None
