"""A channel from elsewhere is a key of `to` and of `overrides`; all else stays as strict, and as it was."""

from __future__ import annotations

import msgspec
import pytest

from gateway.errors import Code
from gateway.model.bodies import BUILT_IN, bodies
from gateway.model.collect import collect_faults
from gateway.model.requests import BatchItem, Overrides, Recipient, SendRequest

CONTENT = {"title": "Hello"}


def test_without_channels_from_elsewhere_the_bodies_are_the_promised_ones() -> None:
    assert bodies([]) is BUILT_IN
    assert bodies(["email", "sms", "teams", "web_push"]) is BUILT_IN
    assert BUILT_IN.send is SendRequest
    assert BUILT_IN.item is BatchItem


@pytest.mark.parametrize("address", ["roof-3", {"roof": 3}])
def test_a_channel_from_elsewhere_is_a_key_of_to_and_of_overrides(address: object) -> None:
    made = bodies(["pigeon", "email"])
    said = {"to": [{"pigeon": address}], "content": CONTENT, "overrides": {"pigeon": {"breed": "racing"}}}
    for shape in (made.send, made.item):
        request = msgspec.convert(said, shape)
        assert isinstance(request, SendRequest)
        [one] = request.to
        assert isinstance(one, Recipient)
        assert one.pigeon == address
        assert one.address_keys == (*Recipient.address_keys, "pigeon")
        assert isinstance(request.overrides, Overrides)
        assert request.overrides.pigeon == {"breed": "racing"}
        assert msgspec.to_builtins(request) == said
    assert msgspec.convert({"to": {}, "content": CONTENT, "idempotency_key": "k"}, made.item).idempotency_key == "k"


def test_unknown_keys_are_refused_with_their_path_as_before() -> None:
    said = {"to": {"pigeno": "x"}, "content": CONTENT, "overrides": {"pigeno": {}}, "too": 1}
    found = {(fault.field, fault.code) for fault in collect_faults(said, bodies(["pigeon"]).send)}
    assert found == {(field, Code.UNKNOWN_FIELD) for field in ("to.pigeno", "overrides.pigeno", "too")}
    assert "did you mean pigeon?" in collect_faults(said, bodies(["pigeon"]).send)[0].message


def test_one_installation_changes_nothing_for_another() -> None:
    bodies(["pigeon"])
    assert "pigeon" not in Recipient.address_keys
    assert collect_faults({"to": {"pigeon": "x"}, "content": CONTENT}, SendRequest)[0].code is Code.UNKNOWN_FIELD


@pytest.mark.parametrize("address", ["", "x" * 4097, 7, ["a"], True])
def test_an_address_is_text_of_some_length_or_an_object(address: object) -> None:
    assert collect_faults({"to": {"pigeon": address}, "content": CONTENT}, bodies(["pigeon"]).send)
