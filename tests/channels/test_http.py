"""The wire's requests, its answers read to a limit, and what is made of them."""

from __future__ import annotations

import email
import gzip
import zlib
from email.policy import HTTP

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Accepted, Reason, Rejected, Retry, SettingsFault, Tools, Unknown
from channels.http import Answer, MaybeSent, NotSent, Part, Wire, WireSettings, _body, judge, words
from tests.support.http_server import Do, HttpServer, Reply

TOOLS = Tools(provider="test", now=lambda: 1_795_000_000.0, log=lambda *_, **__: None, random=lambda: 0.5)


def wire_to(server, **settings):
    return Wire(WireSettings(total_timeout_s=5, **settings), TOOLS, base_url=server.url, environ={})


async def answer_to(reply, **settings):
    async with HttpServer(reply) as server:
        wire = wire_to(server, **settings)
        result = await wire.post("/", json={})
        await wire.aclose()
    assert isinstance(result, Answer)
    return result


# --- requests -------------------------------------------------------------------------------------------------------


async def test_json_forms_bytes_and_own_headers_go_out_as_they_are():
    async with HttpServer() as server:
        wire = Wire(WireSettings(), TOOLS, base_url=server.url + "/", headers={"X-All": "1"}, environ={})
        await wire.post("/json?a=1", json={"text": "grüß"}, headers={"X-One": "2"})
        await wire.post("/form", form=[("To", "+15550100001"), ("Body", "a & b = ü")], auth=("user", "pässword"))
        await wire.post("/bytes", content=b"\x00\xff", headers={"Content-Type": "application/octet-stream"})
        await wire.get(server.url + "/whole?b=%2F%3A+c")
        await wire.aclose()
    sent_json, form, octets, whole = server.requests
    assert (sent_json.target, sent_json.json()) == ("/json?a=1", {"text": "grüß"})
    assert (sent_json.headers["content-type"], sent_json.headers["x-all"]) == ("application/json", "1")
    assert (sent_json.headers["x-one"], sent_json.headers["user-agent"]) == ("2", "notification-gateway")
    assert sent_json.headers["accept-encoding"] == "identity"
    assert form.form() == {"To": "+15550100001", "Body": "a & b = ü"}
    assert form.headers["authorization"] == "Basic dXNlcjpww6Rzc3dvcmQ="
    assert (octets.body, octets.headers["content-type"]) == (b"\x00\xff", "application/octet-stream")
    assert (whole.method, whole.target, whole.body) == ("GET", "/whole?b=%2F%3A+c", b"")


async def test_a_multipart_form_is_read_by_the_standard_parser_and_is_the_same_each_time():
    parts = [
        Part(name="to", content="Ada <ada@example.com>"),
        Part(name="attachment", content=b"\r\n--x\r\n\x00", filename='a "b"\r\n.txt', content_type="text/plain"),
    ]
    async with HttpServer() as server:
        wire = wire_to(server)
        await wire.post("/", parts=parts)
        await wire.post("/", parts=parts)
        await wire.aclose()
    first, second = server.requests
    assert (first.body, first.headers["content-type"]) == (second.body, second.headers["content-type"])
    head = f"Content-Type: {first.headers['content-type']}\r\n\r\n".encode()
    to, attachment = email.message_from_bytes(head + first.body, policy=HTTP).iter_parts()
    assert to.get_param("name", header="content-disposition") == "to"
    assert to.get_payload(decode=True) == b"Ada <ada@example.com>"
    assert attachment.get_payload(decode=True) == b"\r\n--x\r\n\x00"
    assert attachment.get_filename() == "a %22b%22%0D%0A.txt"


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_no_content_of_a_form_can_end_its_part(contents):
    body, content_type = _body(None, None, None, [Part(name="f", content=each, filename="f") for each in contents])
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    assert body.count(boundary) == len(contents) + 1


# --- answers --------------------------------------------------------------------------------------------------------


async def test_an_answer_has_lower_case_headers_and_a_body():
    answer = await answer_to(Reply(201, {"X-Id": "7", "Retry-After": "2.5"}, json={"id": "m1"}))
    assert (answer.status, answer.ok, answer.json()) == (201, True, {"id": "m1"})
    assert (answer.headers["x-id"], answer.retry_after) == ("7", 2.5)


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [("Tue, 17 Nov 2026 11:07:40 GMT", 60.0), ("0", 0.0), ("-1", None), ("soon", None)],
)
async def test_retry_after_is_read_with_the_clock_of_the_tools(wish, seconds):
    clock = msgspec.structs.replace(TOOLS, now=lambda: 1_794_913_600.0)
    async with HttpServer(Reply(429, {"Retry-After": wish})) as server:
        wire = Wire(WireSettings(), clock, base_url=server.url, environ={})
        answer = await wire.post("/", json={})
        await wire.aclose()
    assert answer.retry_after == seconds


async def test_repeated_headers_are_joined():
    answer = await answer_to(Reply(200, {"X-A": "1", "x-a": "2"}))
    assert answer.headers["x-a"] == "1, 2"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_never_followed(status):
    async with HttpServer(Reply(status, {"Location": "/elsewhere"})) as server:
        wire = wire_to(server)
        answer = await wire.post("/", json={"to": "x"})
        await wire.aclose()
        assert answer.status == status
        assert len(server.requests) == 1


async def test_cookies_are_forgotten():
    async with HttpServer(Reply(200, {"Set-Cookie": "a=b"})) as server:
        wire = wire_to(server)
        await wire.post("/", json={})
        await wire.post("/", json={})
        await wire.aclose()
    assert "cookie" not in server.requests[1].headers


async def test_an_endless_answer_is_cut_at_the_limit_and_the_next_request_works():
    async with HttpServer([Do.ENDLESS_BODY, Reply(200, json=[1])]) as server:
        wire = wire_to(server, connections=1, answer_limit_bytes=5000)
        cut = await wire.post("/", json={})
        whole = await wire.post("/", json={})
        await wire.aclose()
    assert (cut.status, len(cut.body), cut.truncated, cut.json()) == (200, 5000, True, None)
    assert (whole.json(), whole.truncated) == ([1], False)


async def test_an_answer_of_exactly_the_limit_is_whole():
    assert not (await answer_to(Reply(200, body=b"x" * 2000), answer_limit_bytes=2000)).truncated
    assert (await answer_to(Reply(200, body=b"x" * 2001), answer_limit_bytes=2000)).truncated


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compression_against_our_wish_is_undone(encoding, pack):
    answer = await answer_to(Reply(200, {"Content-Encoding": encoding}, pack(b'{"id": "m1"}')))
    assert answer.json() == {"id": "m1"}
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_bomb_does_not_go_off(encoding, pack):
    bomb = pack(b" " * 50_000_000)
    assert len(bomb) < 65_536
    answer = await answer_to(Reply(200, {"Content-Encoding": encoding}, bomb))
    assert (len(answer.body), answer.truncated, answer.json()) == (65_536, True, None)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip", "nonsense"])
async def test_what_cannot_be_unpacked_still_has_a_status(encoding):
    answer = await answer_to(Reply(202, {"Content-Encoding": encoding}, b"\x00\x01not packed"))
    assert (answer.status, answer.json()) == (202, None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 60_000, b'"\\ud800"'])
def test_a_body_that_is_no_json_is_none(body):
    assert Answer(status=200, headers={}, body=body).json() is None


def test_a_body_is_decoded_into_a_struct_or_none():
    class Created(msgspec.Struct):
        id: str

    assert Answer(status=200, headers={}, body=b'{"id": "m1", "more": 1}').decode(Created) == Created("m1")
    assert Answer(status=200, headers={}, body=b'{"id": 7}').decode(Created) is None
    assert Answer(status=200, headers={}, body=b"[]").decode(Created) is None
    assert Answer(status=200, headers={}, body=b'{"id": "m1"}', truncated=True).decode(Created) is None


# --- the house rules ------------------------------------------------------------------------------------------------


def said(status, retry_after=None):
    return Answer(status=status, headers={}, body=b"private", retry_after=retry_after)


def nothing(_answer):
    return None


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (NotSent("refused"), Retry(Reason.PROVIDER_DOWN, detail="refused")),
        (NotSent("slow", Reason.TIMED_OUT), Retry(Reason.TIMED_OUT, detail="slow")),
        (NotSent("header", Reason.MESSAGE_INVALID), Rejected(Reason.MESSAGE_INVALID, "header")),
        (MaybeSent("gone"), Unknown(Reason.TIMED_OUT, "gone")),
        (said(429, 7.0), Retry(Reason.RATE_LIMITED, 7.0, "HTTP 429")),
        (said(429), Retry(Reason.RATE_LIMITED, None, "HTTP 429")),
        (said(503, 3.0), Retry(Reason.PROVIDER_DOWN, 3.0, "HTTP 503")),
        (said(401), Rejected(Reason.ACCOUNT_PROBLEM, "HTTP 401")),
        (said(403), Rejected(Reason.ACCOUNT_PROBLEM, "HTTP 403")),
        (said(307), Retry(Reason.PROVIDER_DOWN, None, "HTTP 307: redirects are not followed")),
        (said(303), Unknown(Reason.TIMED_OUT, "HTTP 303: not understood")),
        (said(200), Unknown(Reason.TIMED_OUT, "HTTP 200: not understood")),
        (said(500), Unknown(Reason.TIMED_OUT, "HTTP 500: not understood")),
    ],
)
def test_the_house_rules(result, outcome):
    assert judge(result, nothing) == outcome


@given(st.integers(100, 999), st.none() | st.floats(0, 100), st.booleans())
def test_no_status_alone_rejects_a_message_or_suppresses_anybody(status, after, callers_endpoint):
    outcome = judge(said(status, after), nothing, callers_endpoint=callers_endpoint)
    if status in {401, 403} and not callers_endpoint:
        assert outcome == Rejected(Reason.ACCOUNT_PROBLEM, f"HTTP {status}")
    elif 400 <= status < 500 or status in {503, 301, 302, 307, 308}:
        assert isinstance(outcome, Retry)
    else:
        assert isinstance(outcome, Unknown)
    if callers_endpoint:
        assert outcome.reason is Reason.RETRY


@pytest.mark.parametrize("result", [NotSent("refused"), NotSent("slow", Reason.TIMED_OUT), MaybeSent("gone")])
def test_what_a_callers_endpoint_does_is_never_the_providers_fault(result):
    assert judge(result, nothing, callers_endpoint=True).reason is Reason.RETRY


def test_the_adapters_own_rows_come_first():
    assert judge(said(401), lambda answer: Accepted(str(answer.status))) == Accepted("401")


def test_words_mask_addresses_and_controls_and_are_short():
    found = words(said(422), "code 7", None, "ada@example.com, +1 (555) 010-0001\r\n\u2028 <b@c.test>:", "x" * 1000)
    assert found.startswith("HTTP 422: code 7 [address], [address] <[address]>: xxx")
    assert found.isprintable()
    assert len(found) == 300
    assert words(said(500)) == "HTTP 500"


@given(st.text(max_size=200))
def test_words_are_always_printable(text):
    assert words(said(400), text).isprintable()


# --- settings -------------------------------------------------------------------------------------------------------


class PigeonSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: str


def test_inherited_settings_are_decoded_refuse_the_unknown_and_print_nothing():
    settings = msgspec.convert({"token": "s3cret", "proxy": "http://u:p4ss@proxy", "idle_s": 5}, PigeonSettings)
    assert (settings.token, settings.idle_s, settings.connections) == ("s3cret", 5, 8)
    assert repr(settings) == str(settings) == "PigeonSettings(...)"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"token": "s", "tokn": "x"}, PigeonSettings)


@pytest.mark.parametrize(
    ("settings", "base_url", "field"),
    [
        ({}, "api.example.com", "base_url"),
        ({}, "https://user:password@api.example.com", "base_url"),
        ({}, "https://api.example.com/a b", "base_url"),
        ({"proxy": "socks5://proxy:1080"}, "", "proxy"),
        ({"proxy": "http://"}, "", "proxy"),
        ({"ca_file": "/nowhere/ca.pem"}, "", "ca_file"),
    ],
)
def test_what_cannot_work_is_a_fault_with_its_field(settings, base_url, field):
    with pytest.raises(SettingsFault) as caught:
        Wire(WireSettings(**settings), TOOLS, base_url=base_url)
    assert caught.value.field == field
