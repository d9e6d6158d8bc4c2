"""The composer by example: what a reader of the raw message would look for."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest

from channels.contract import Attachment, Content, Message
from channels.mime import MimeFault, compose, header_faults, is_structural, parse_mailbox
from tests.bench import compose as bench

PDF = Attachment(filename="Rechnung Ä.pdf", content_type="application/pdf", content=b"%PDF")
LOGO = Attachment(filename="logo.png", content_type="image/png", content=b"\x89PNG", content_id="logo")


def message(content=None, *, to="ada@example.com", sender="Shop <shop@example.com>", to_name=None, **options):
    return Message(
        id="dlv_0195f3a2b1c47d8e9fa0b1c2d3e4f506",
        kind="email",
        to=to,
        to_name=to_name,
        sender=sender,
        content=content or Content(subject="Hello", text="Hello"),
        idempotency_key="k",
        created_at=1_795_000_000.0,
        options=options,
    )


def lines_of(composed, start: bytes) -> list[bytes]:
    return [line for line in composed.content.split(b"\r\n") if line.startswith(start)]


def structure(content: Content) -> object:
    def shape(part):
        inside = [shape(each) for each in part.iter_parts()] if part.is_multipart() else None
        return (part.get_content_type(), inside) if inside else part.get_content_type()

    return shape(message_from_bytes(compose(message(content)).content, policy=default))


def test_the_smallest_message_reads_as_one_expects():
    assert compose(message()).content == (
        b"Date: Wed, 18 Nov 2026 11:06:40 +0000\r\n"
        b"Message-ID: <dlv_0195f3a2b1c47d8e9fa0b1c2d3e4f506@example.com>\r\n"
        b"From: Shop <shop@example.com>\r\n"
        b"To: ada@example.com\r\n"
        b"Subject: Hello\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hello\r\n"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content(), "text/plain"),
        (Content(text="t"), "text/plain"),
        (Content(text="t", html="<p>h"), ("multipart/alternative", ["text/plain", "text/html"])),
        (
            Content(text="t", html="<p>h", attachments=(LOGO,)),
            ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
        ),
        (Content(text="t", attachments=(PDF,)), ("multipart/mixed", ["text/plain", "application/pdf"])),
        (Content(text="t", attachments=(LOGO,)), ("multipart/mixed", ["text/plain", "image/png"])),
        (
            Content(text="t", html="<p>h", attachments=(PDF, LOGO)),
            (
                "multipart/mixed",
                [
                    ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
                    "application/pdf",
                ],
            ),
        ),
    ],
)
def test_parts_are_nested_as_mail_readers_expect(content, expected):
    assert structure(content) == expected


def test_the_text_part_is_derived_from_html_and_keeps_links():
    content = Content(html='<h1>Hi</h1><p>Reset it <a href="https://example.com/r">here</a>.</p>\x00')
    found = message_from_bytes(compose(message(content)).content, policy=default)
    text = found.get_body(("plain",)).get_content()
    assert "Hi" in text
    assert "https://example.com/r" in text
    assert "<" not in text


@pytest.mark.parametrize(
    "html", ["<!-- nothing -->", "<?xml version='1.0' encoding='utf-8'?><p>x</p>", "<", "\x0b", " "]
)
def test_odd_html_still_makes_a_message(html):
    assert compose(message(Content(html=html))).content


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain", b"7bit"),
        ("x" * 998, b"7bit"),
        ("x" * 999, b"quoted-printable"),
        ("From me", b"quoted-printable"),  # a mailbox file would make it >From and break the signature
        ("a\nFrom me", b"quoted-printable"),
        ("--=_a_dlv_1", b"quoted-printable"),  # could be taken for a boundary
        ("\x07", b"quoted-printable"),
        ("Viele herzliche Grüße aus dem sonnigen Süden", b"quoted-printable"),
        ("Привет, мир", b"base64"),
    ],
)
def test_a_body_gets_the_lightest_encoding_that_keeps_it_whole(text, encoding):
    (line,) = lines_of(compose(message(Content(text=text))), b"Content-Transfer-Encoding: ")
    assert line.split(b": ")[1] == encoding


def test_a_line_that_begins_with_from_is_never_written_so():
    text = "From é\n" + "a" * 75 + "From here\nFrom é"
    content = compose(message(Content(text=text))).content
    assert b"\r\nFrom \xc3" not in content
    assert not any(line.startswith(b"From ") for line in content.split(b"\r\n"))


def test_unsubscribe_headers_stand_on_one_line_each():
    url = "https://example.com/unsubscribe/" + "a" * 600
    composed = compose(message(list_unsubscribe=url))
    assert lines_of(composed, b"List-Unsubscribe:") == [b"List-Unsubscribe: <" + url.encode() + b">"]
    assert lines_of(composed, b"List-Unsubscribe-Post:") == [b"List-Unsubscribe-Post: List-Unsubscribe=One-Click"]


def test_without_https_there_is_a_link_but_no_one_click():
    composed = compose(message(list_unsubscribe="http://127.0.0.1:8080/unsubscribe/x"))
    assert lines_of(composed, b"List-Unsubscribe:") == [b"List-Unsubscribe: <http://127.0.0.1:8080/unsubscribe/x>"]
    assert lines_of(composed, b"List-Unsubscribe-Post:") == []


@pytest.mark.parametrize(
    "url", ["ftp://example.com/u", "https://example.com/a b", "https://exa>mple.com", "https://x/" + "a" * 1000, ""]
)
def test_an_unsubscribe_link_that_no_provider_would_follow_is_refused(url):
    assert [field for field, _ in header_faults(list_unsubscribe=url)] == ["list_unsubscribe"]
    with pytest.raises(MimeFault):
        compose(message(list_unsubscribe=url))


@pytest.mark.parametrize(
    "name",
    [
        "To", "from", "CC", "Bcc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
        "Content-Transfer-Encoding", "DKIM-Signature", "Return-Path", "Received", "Sender", "List-Unsubscribe",
        "list-unsubscribe-post", "ARC-Seal", "Resent-To", "Reply-To", "Apparently-To", "X-SMTPAPI", " To",
    ],
)  # fmt: skip
def test_structural_headers_are_refused_in_any_case(name):
    assert is_structural(name)
    assert header_faults(headers={name: "x"})
    with pytest.raises(MimeFault) as fault:
        compose(message(headers={name: "x"}))
    assert fault.value.field == f"headers.{name}"


@pytest.mark.parametrize("name", ["X-Campaign", "In-Reply-To", "References", "Precedence", "Auto-Submitted"])
def test_a_caller_may_set_other_headers(name):
    assert not is_structural(name)
    assert lines_of(compose(message(headers={name: "value"})), name.encode()) == [name.encode() + b": value"]


@pytest.mark.parametrize("name", ["", "X A", "X:A", "Ä", "X" * 71])
def test_what_is_no_header_name_is_refused(name):
    assert header_faults(headers={name: "x"})


def test_all_faults_are_reported_at_once_with_their_fields():
    faults = header_faults(
        subject="a\nb",
        sender="shop",
        to_name="A\x00",
        cc=["fine@example.com", "not an address"],
        headers={"To": "x", "X-A": "a\r\nb"},
        attachments=[PDF, Attachment(filename="a\n", content_type="what", content=b"", content_id="<a>")],
    )
    assert [field for field, _ in faults] == [
        "from", "cc[1]", "subject", "name", "headers.To", "headers.X-A",
        "attachments[1].filename", "attachments[1].content_type", "attachments[1].content_id",
    ]  # fmt: skip


def test_nothing_is_wrong_with_what_is_right():
    assert (
        header_faults(
            subject="Grüße\tan alle 🎉",
            sender='"Shop, the" <shop@bücher.example>',
            to="jürgen@example.com",
            reply_to="help@example.com",
            cc=["A <a@example.com>"],
            headers={"X-A": "ä"},
            attachments=[PDF, LOGO],
            list_unsubscribe="https://example.com/u",
        )
        == []
    )


def test_bcc_is_in_the_envelope_and_nowhere_else():
    composed = compose(message(bcc=["Secret <secret@example.com>"], cc=["c@example.com", "ada@example.com"]))
    assert composed.rcpt_to == ("ada@example.com", "c@example.com", "secret@example.com")
    assert b"ecret" not in composed.content


def test_international_domains_travel_as_a_labels_and_need_no_smtputf8():
    composed = compose(message(to="ada@bücher.example", sender="Bücher <shop@bücher.example>"))
    assert (composed.mail_from, composed.rcpt_to) == ("shop@xn--bcher-kva.example", ("ada@xn--bcher-kva.example",))
    assert not composed.needs_smtputf8
    assert composed.content.isascii()


@pytest.mark.parametrize(
    "options", [{"to": "jürgen@example.com"}, {"sender": "jürgen@example.com"}, {"bcc": ["ü@example.com"]}]
)
def test_a_non_ascii_local_part_needs_smtputf8(options):
    composed = compose(message(**options))
    assert composed.needs_smtputf8
    assert composed.needs_8bitmime


def test_a_long_header_is_folded_where_words_are_and_never_into_empty_lines():
    subject = "two  spaces   and more " * 20 + "end"
    head = compose(message(Content(subject=subject))).content.split(b"\r\nMIME-Version")[0]
    lines = head.split(b"\r\n")[4:]
    assert len(lines) > 4
    assert all(len(line) <= 100 and line == line.rstrip() for line in lines)
    assert b"\r\n".join(lines) == b"\r\n".join(lines).strip()


def test_the_message_id_may_live_under_a_configured_domain():
    assert compose(message(), message_id_domain="mail.example.net").message_id.endswith("@mail.example.net>")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a@example.com", ("", "a", "example.com")),
        (" <a@example.com> ", ("", "a", "example.com")),
        ("Ada  Lovelace <a@example.com>", ("Ada Lovelace", "a", "example.com")),
        ('"Lovelace, \\"Ada\\" <x@y>" <a@example.com>', ('Lovelace, "Ada" <x@y>', "a", "example.com")),
        ('"a b"@example.com', ("", '"a b"', "example.com")),
        ("a@[127.0.0.1]", ("", "a", "[127.0.0.1]")),
        ("a@BÜCHER。example", ("", "a", "xn--bcher-kva.example")),
    ],
)
def test_mailboxes_are_read(text, parts):
    box = parse_mailbox("to", text)
    assert (box.name, box.local, box.domain) == parts


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "@example.com", "a@", "a@b@c.com", "a b@example.com", "a,b@example.com", "a@x.com,b@x.com",
        "A <a@x.com>, B <b@x.com>", "A <a@example.com> x", "<<a@example.com>>", "a@exa mple.com", "a@-x-.com",
        "a..b@example.com", "a\u200b@x.com", "a\u202e@x.com", "a\xa0b@x.com", "a@ex\u2028ample.com",
        "a" * 330 + "@x.com", "a@" + "ü" * 70 + ".example", '"@example.com', "a@example.com>", 'a"<b@example.com>',
    ],
)  # fmt: skip
def test_what_is_not_one_mailbox_is_refused(text):
    with pytest.raises(MimeFault):
        parse_mailbox("to", text)


@pytest.mark.parametrize(
    "options", [{"cc": "a@example.com"}, {"headers": {"X-A": 1}}, {"reply_to": ["a"]}, {"list_unsubscribe": 1}]
)
def test_options_of_another_shape_are_a_fault_and_not_a_crash(options):
    with pytest.raises(MimeFault):
        compose(message(**options))


def test_keys_of_other_channels_in_the_options_are_ignored():
    assert compose(message(thread_ts="1")).content == compose(message()).content


def test_no_sender_is_a_fault():
    with pytest.raises(MimeFault):
        compose(message(sender=None))


def test_multipart_and_message_attachments_are_sent_as_files():
    inner = Attachment(filename="a.eml", content_type="message/rfc822", content=b"Subject: x\r\n\r\nFrom me")
    found = message_from_bytes(compose(message(Content(text="t", attachments=(inner,)))).content, policy=default)
    (part,) = found.iter_attachments()
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == inner.content


def test_composing_is_ten_times_faster_than_the_standard_library():
    found = bench.run(rounds=50)
    assert found["ascii_ratio"] >= 10
    assert found["unicode_ratio"] >= 10
