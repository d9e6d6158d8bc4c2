"""Addresses: one normal form, nothing smuggled, and the fast way agrees with the judge."""

import string
import sys
import unicodedata

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code
from gateway.model import addresses
from gateway.model.addresses import (
    AddressFault,
    address_of,
    locale_fault,
    match_key,
    normalise_email,
    normalise_phone,
    parse_mailbox,
    timezone_fault,
)
from gateway.model.requests import Recipient

ATEXT = string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-"
LOCALS = st.text(ATEXT + ".", min_size=1, max_size=70)
LABELS = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=66)
DOMAINS = st.lists(LABELS, min_size=1, max_size=6).map(".".join)


@given(LOCALS, DOMAINS)
def test_what_the_fast_way_takes_the_judge_takes_with_the_same_result(local, domain):
    text = f"{local}@{domain}"
    if len(text) > addresses.ADDRESS_MOST or addresses._PLAIN(text) is None or len(local) > addresses.LOCAL_MOST:
        return
    if domain.lower().rpartition(".")[2] in addresses.RESERVED_TOPS:
        return
    judged = validate_email(text, check_deliverability=False, strict=True)
    found_local, _, found_domain = normalise_email(text).rpartition("@")
    assert found_domain == judged.ascii_domain
    assert found_local == local
    assert judged.local_part in {local, local.lower()}  # RFC 2142 names come back in lower case


@given(st.text(max_size=60) | st.builds("{}@{}".format, st.text(max_size=20), st.text(max_size=30)))
def test_any_text_is_either_normalised_or_refused_and_a_normal_form_stays_as_it_is(text):
    try:
        normal = normalise_email(text)
    except AddressFault:
        return
    assert normalise_email(normal) == normal
    assert len(normal.encode()) <= 254
    assert normal.rpartition("@")[2].isascii()
    assert normal.isprintable()
    assert not any(letter.isspace() for letter in normal)


@given(LOCALS, DOMAINS)
def test_what_the_judge_refuses_is_refused(local, domain):
    text = f"{local}@{domain}"
    try:
        validate_email(text, check_deliverability=False, strict=True, test_environment=True)
    except EmailNotValidError:
        if domain.lower().rpartition(".")[2] not in addresses.RESERVED_TOPS:
            with pytest.raises(AddressFault):
                normalise_email(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("jane@example.com", "jane@example.com"),
        ("Jane.Doe+tag@EXAMPLE.Com", "Jane.Doe+tag@example.com"),
        ("Info@Example.com", "Info@example.com"),
        ("jane@münchen.example", "jane@xn--mnchen-3ya.example"),
        ("jane@xn--mnchen-3ya.de", "jane@xn--mnchen-3ya.de"),
        ("jane@MÜNCHEN.de", "jane@xn--mnchen-3ya.de"),
        ("jane@mu\u0308nchen.de", "jane@xn--mnchen-3ya.de"),
        ("jane@straße.de", "jane@xn--strae-oqa.de"),
        ("jane@\uff45xample.com", "jane@example.com"),
        ("jane@example\u3002com", "jane@example.com"),
        ("mu\u0308ller@example.com", "m\u00fcller@example.com"),
        ("a@mail.test", "a@mail.test"),
        ("a@anything.invalid", "a@anything.invalid"),
        ("a@localhost", "a@localhost"),
        ("a@mx.Localhost", "a@mx.localhost"),
        ("a@host.local", "a@host.local"),
    ],
)
def test_an_address_has_one_normal_form(text, normal):
    assert normalise_email(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "jane",
        "jane@",
        "@example.com",
        "jane@example",
        "jane@test",
        "jane@example..com",
        "jane@example.com.",
        "jane@.example.com",
        "jane.@example.com",
        ".jane@example.com",
        "jane@-example.com",
        "jane@exa_mple.com",
        "jane@1.2.3.4",
        "jane@[127.0.0.1]",
        "jane@ab--cd.com",
        "jane@xn--a.com",
        "jane@hidden.onion",
        "jane@1.in-addr.arpa",
        " jane@example.com",
        "jane@example.com ",
        "jane doe@example.com",
        "jane@exam ple.com",
        '"jane"@example.com',
        '"a@example.com"@evil.test',
        "@one.test,@two.test:jane@example.com",
        "jane(comment)@example.com",
        "jane@example.com(comment)",
        "<jane@example.com>",
        "Jane <jane@example.com>",
        "a@example.com,b@example.com",
        "a@example.com;b@example.com",
        "a@example.com@evil.test",
        "a\uff20example.com",
        "a@exam\u202eple.com",
        "\u202ea@example.com",
        "a\u200b@example.com",
        "a\u00a0b@example.com",
        "\ud800@example.com",
        "a@\udfff.com",
        "a" * 65 + "@example.com",
        "ä" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + "b." * 125 + "com",
        "a" * 2000 + "@example.com",
        "a@b" * 5000,
    ],
)
def test_what_is_no_plain_address_is_invalid(text):
    with pytest.raises(AddressFault) as raised:
        normalise_email(text)
    assert raised.value.code is Code.INVALID


@pytest.mark.parametrize(
    "mark", ["\r", "\n", "\r\nBcc: x@evil.test", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]
)
@pytest.mark.parametrize(
    "place", ["{}jane@example.com", "ja{}ne@example.com", "jane@exa{}mple.com", "jane@example.com{}"]
)
def test_line_ends_and_controls_are_header_injection(mark, place):
    for read in (normalise_email, parse_mailbox):
        with pytest.raises(AddressFault) as raised:
            read(place.format(mark))
        assert raised.value.code is Code.HEADER_INJECTION


def test_a_fault_does_not_quote_the_address():
    with pytest.raises(AddressFault) as raised:
        normalise_email("jane.secret@example..com")
    assert "secret" not in raised.value.message


def test_lower_case_of_a_normal_text_never_turns_other_letters_into_ascii():
    for point in range(0x80, sys.maxunicode + 1):
        letter = chr(point)
        if unicodedata.is_normalized("NFC", letter):
            assert not match_key(letter).isascii(), hex(point)


def test_keys_for_lists_ignore_case_and_keep_mailboxes_apart():
    assert match_key("Jane@example.com") == match_key("jANE@example.com")
    assert match_key("MÜLLER@example.com") == match_key("müller@example.com")
    assert match_key("straße@example.com") != match_key("strasse@example.com")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@example.com", None, "a@example.com"),
        ("<a@example.com>", None, "a@example.com"),
        ("Shop <no-reply@EXAMPLE.com>", "Shop", "no-reply@example.com"),
        ("Shop<no-reply@example.com>", "Shop", "no-reply@example.com"),
        ('"Shop, Inc." <a@example.com>', "Shop, Inc.", "a@example.com"),
        (r'"Jane \"J\" Doe" <a@example.com>', 'Jane "J" Doe', "a@example.com"),
        ('"a@evil.test" <a@example.com>', "a@evil.test", "a@example.com"),
        ('"" <a@example.com>', None, "a@example.com"),
        ("Müller & Söhne <a@example.com>", "Müller & Söhne", "a@example.com"),
        ("Mu\u0308ller <a@example.com>", "Müller", "a@example.com"),
        ("Shop (Vienna). <a@example.com>", "Shop (Vienna).", "a@example.com"),
        ("=?utf-8?q?M=C3=BCller?= <a@example.com>", "Müller", "a@example.com"),
        ("=?utf-8?b?TcO8bGxlcg==?= GmbH <a@example.com>", "Müller GmbH", "a@example.com"),
        ("株式会社 <a@münchen.de>", "株式会社", "a@xn--mnchen-3ya.de"),
        ("👩‍💻 Ops <a@example.com>", "👩‍💻 Ops", "a@example.com"),
    ],
)
def test_a_mailbox_is_a_name_and_an_address(text, name, address):
    found = parse_mailbox(text)
    assert (found.name, found.address) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "Shop",
        "Shop <>",
        "Shop <a@example.com",
        "Shop a@example.com>",
        "<a@example.com> Shop",
        "a@evil.test, Shop <a@example.com>",
        "Shop, Inc. <a@example.com>",
        "x <a@evil.test> <a@example.com>",
        '"x" <a@evil.test> "y" <a@example.com>',
        '"open <a@example.com>',
        "Group: a@example.com;",
        "Shop <@evil.test:a@example.com>",
        "Shop <a@example.com >",
        "=?nonsense?q?a?= <a@example.com>",
        "pay\u202epal <a@example.com>",
        "half \ud800 <a@example.com>",
        "N" * 2000 + " <a@example.com>",
    ],
)
def test_what_could_be_read_as_two_mailboxes_or_none_is_refused(text):
    with pytest.raises(AddressFault) as raised:
        parse_mailbox(text)
    assert raised.value.code is Code.INVALID


@pytest.mark.parametrize("text", ["=?utf-8?q?a=0D=0ABcc:_x?= <a@example.com>", "=?utf-8?b?AAo=?= <a@example.com>"])
def test_a_line_end_hidden_in_an_encoded_name_is_header_injection(text):
    with pytest.raises(AddressFault) as raised:
        parse_mailbox(text)
    assert raised.value.code is Code.HEADER_INJECTION


@given(st.text(max_size=40))
def test_any_name_is_read_or_refused_and_never_breaks_a_line(name):
    try:
        found = parse_mailbox(f"{name} <a@example.com>")
    except AddressFault:
        return
    assert found.address == "a@example.com"
    assert found.name is None or len(found.name.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("+15550100001", "+15550100001"),
        ("+1 (555) 010-0001", "+15550100001"),
        ("+43 1 234567", "+431234567"),
        ("+49 (0)151 12345678", "+4915112345678"),
    ],
)
def test_a_phone_number_has_one_normal_form(text, normal):
    assert normalise_phone(text) == normal
    assert normalise_phone(normal) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "5550100001",
        "0015550100001",
        "+1555",
        "+999123456789",
        "+1555010000100000",
        "+1555010ABCD",
        "tel:+15550100001",
        "+15550100001;ext=5",
        "+15550100001 x5",
        "\uff0b15550100001",
        "+1555010000\u0661",
    ],
)
def test_what_is_no_international_number_is_invalid(text):
    with pytest.raises(AddressFault) as raised:
        normalise_phone(text)
    assert raised.value.code is Code.INVALID


def test_a_line_end_in_a_phone_number_is_header_injection():
    with pytest.raises(AddressFault) as raised:
        normalise_phone("+15550100001\n")
    assert raised.value.code is Code.HEADER_INJECTION


@pytest.mark.parametrize(
    "text", ["de", "de-AT", "zh-Hant-TW", "es-419", "sl-rozaj-biske", "de-CH-1901", "en-u-hc-h12", "en-x-shop"]
)
def test_language_tags_are_locales(text):
    assert locale_fault(text) is None


@pytest.mark.parametrize("text", ["", "d", "de_AT", "de-", "-de", "de AT", "de-ATA9", "../de", "de\n", "deutsch!", "x"])
def test_other_texts_are_no_locales(text):
    assert locale_fault(text) is not None


@pytest.mark.parametrize("text", ["UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires", "Etc/GMT+3"])
def test_iana_names_are_time_zones(text):
    assert timezone_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Europe",
        "Europe/Nowhere",
        "../etc/passwd",
        "/etc/localtime",
        "Europe/../UTC",
        "a\0b",
        "+02:00",
        "Europe/Vienna\n",
    ],
)
def test_other_texts_are_no_time_zones(text):
    assert timezone_fault(text) is not None


def test_each_channel_reads_its_own_key_and_sms_reads_the_phone():
    recipient = Recipient(
        email="a@example.com", phone="+15550100001", slack="#ops", name="Jane", web_push={"endpoint": "x"}
    )
    assert address_of("email", recipient) == "a@example.com"
    assert address_of("sms", recipient) == "+15550100001"
    assert address_of("slack", recipient) == "#ops"
    assert address_of("web_push", recipient) == {"endpoint": "x"}
    assert address_of("discord", recipient) is None
    assert address_of("carrier_pigeon", recipient) is None


@pytest.mark.parametrize("channel", ["name", "phone", "user", "topic", "data", "locale", "timezone"])
def test_a_channel_named_as_another_key_reads_nothing(channel):
    assert address_of(channel, Recipient(user="42", name="Jane", phone="+15550100001", locale="de")) is None
