"""Another project's things do not exist: every route that names one is tried, also those that are added later."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from gateway.api.operation import Operation
from tests.attacks.conftest import House, a_send
from tests.attacks.every_operation import EVERY, PARAMETER, path_of

# Every path with a parameter stands in exactly one of these two, by its beginning: a new one must be put here.
SHARED = (
    "/v1/callbacks/",  # a provider's own signature says who speaks
    "/v1/keys/",  # only for administrators, who see all
    "/v1/providers/",  # the same
    "/v1/suppressions/",  # one person, one say
    "/v1/topics/",
    "/v1/users/",
    "/preferences/",  # a signed link
    "/unsubscribe/",
)
OWNED = ("/v1/notifications/", "/v1/deliveries/", "/v1/captured/", "/v1/webhooks/", "/v1/templates/")

WITH_ID = [one for one in EVERY if PARAMETER.search(one.path)]


def _owned(operation: Operation) -> bool:
    return operation.path.startswith(OWNED)


def test_every_route_with_a_parameter_is_known_to_be_shared_or_owned():
    for operation in WITH_ID:
        assert _owned(operation) is not operation.path.startswith(SHARED), operation.path


@pytest.fixture(scope="module")
def theirs(house: House) -> dict[str, str]:
    """One of each thing, in a project that is not ours; by the path's beginning."""
    owner = _speaking(house, "theirs")
    sent = owner.post("/v1/notifications", json=a_send(reference="theirs")).json()
    query = {"reference": "theirs", "timeout_s": 20}
    captured = owner.get("/v1/captured/wait", params=query).json()
    made = {
        "/v1/notifications/": sent["id"],
        "/v1/deliveries/": sent["deliveries"][0]["id"],
        "/v1/captured/": captured["id"],
    }
    hook = {"url": "https://hooks.example.com/a", "events": ["delivery.*"]}
    answer = _speaking(house, "theirs", "admin").post("/v1/webhooks", json=hook)
    assert answer.status_code == 201, answer.text
    made["/v1/webhooks/"] = answer.json()["id"]
    draft = {"parts": {"en": {"title": "t", "body": "b"}}}
    answer = owner.put("/v1/templates/only-theirs", json=draft)
    assert answer.status_code == 201, answer.text
    made["/v1/templates/"] = "only-theirs"
    return made


def _speaking(house: House, project: str, *more: str) -> httpx.Client:
    return house.speaking(house.key("send", "read", "manage", *more, project=project))


def _without_id(answer: httpx.Response, id_: str) -> Any:
    """Take out of an answer what is different for every request."""
    return re.sub(r"req_[0-9a-f]+", "", answer.text.replace(id_, "")), answer.status_code


@pytest.mark.parametrize("operation", [one for one in WITH_ID if _owned(one)], ids=lambda one: one.id)
def test_another_projects_id_is_as_unknown_as_one_that_never_was(
    house: House, theirs: dict[str, str], operation: Operation
):
    [begin] = [one for one in OWNED if operation.path.startswith(one)]
    [*_, name] = PARAMETER.findall(operation.path)[:1]
    real = theirs[begin]
    never = real[:-4] + ("0000" if not real.endswith("0000") else "1111")
    ours = _speaking(house, "ours")
    body: Any = {} if operation.body is not None else None
    found = {}
    for which in (real, never):
        answer = ours.request(operation.method, path_of(operation, {name: which}), json=body)
        found[which] = _without_id(answer, which)
        if answer.status_code == 422:  # the body was read before the id: what it says must be the same, too
            continue
        wanted = 404 if set(operation.scopes) & {"send", "read", "manage"} else 403
        assert answer.status_code == wanted, (operation.path, answer.text)
    assert found[real] == found[never]


def test_no_list_and_no_filter_finds_another_projects_things(house: House, theirs: dict[str, str]):
    ours = _speaking(house, "ours")
    lists = [one for one in EVERY if one.method == "GET" and not PARAMETER.search(one.path) and not one.open]
    for operation in lists:
        if operation.path.endswith("/wait"):
            continue
        answer = ours.get(operation.path)
        assert answer.status_code == (200 if set(operation.scopes) & {"send", "read", "manage"} else 403)
        assert not [id_ for id_ in theirs.values() if id_ in answer.text], operation.path
    for path in ("/v1/notifications", "/v1/captured", "/v1/deliveries"):
        for query in ({"reference": "theirs"}, {"notification_id": theirs["/v1/notifications/"]}):
            answer = ours.get(path, params=query)
            assert answer.status_code == 422 or answer.json()["items"] == [], (path, answer.text)
    waited = ours.get("/v1/captured/wait", params={"reference": "theirs", "timeout_s": 1})
    assert (waited.status_code, waited.json()["type"]) == (404, "/errors/nothing-captured")


def test_nothing_of_another_project_is_cleared_cancelled_or_sent_again(house: House, theirs: dict[str, str]):
    ours = _speaking(house, "ours")
    assert ours.delete("/v1/captured").status_code == 200
    again = ours.post("/v1/deliveries/retry", json={"notification_id": theirs["/v1/notifications/"]})
    assert again.status_code == 422 or again.json().get("items", []) == []
    owner = _speaking(house, "theirs")
    assert owner.get(f"/v1/captured/{theirs['/v1/captured/']}").status_code == 200
    assert owner.get(f"/v1/notifications/{theirs['/v1/notifications/']}").json()["status"] == "completed"


def test_an_idempotency_key_of_another_api_key_neither_replays_nor_collides(house: House):
    headers = {"Idempotency-Key": "the-same-for-both"}
    theirs = _speaking(house, "theirs").post("/v1/notifications", json=a_send("t@example.com"), headers=headers)
    ours = _speaking(house, "ours").post("/v1/notifications", json=a_send("o@example.com"), headers=headers)
    sibling = _speaking(house, "theirs").post("/v1/notifications", json=a_send("t@example.com"), headers=headers)
    assert [one.status_code for one in (theirs, ours, sibling)] == [202, 202, 202]
    assert len({one.json()["id"] for one in (theirs, ours, sibling)}) == 3
    assert "idempotency-replayed" not in sibling.headers
