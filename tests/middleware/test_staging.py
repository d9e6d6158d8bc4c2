"""Nothing leaves that the list does not name, by whatever spelling; and what is redirected says for whom it was."""

import email.headerregistry
import json
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from channels.contract import Content, Message
from gateway.config.settings import Environment, Otherwise, StagingSettings
from gateway.middleware.staging import (
    Allowed,
    Capture,
    Redirect,
    Skip,
    Staging,
    parse_pattern,
    redirect_note,
    redirect_target,
    redirected,
    without_copies,
)
from gateway.model.addresses import AddressFault, match_key, normalise_email
from gateway.model.patterns import Glob
from gateway.model.states import Mode, Why

CLOSED = [Environment.DEVELOPMENT, Environment.STAGING]
LISTED = [
    "qa@example.com",
    "build-*@ci.example.com",
    "*@team.example.com",
    "*@*.example.org",
    "*@m\u00fcnchen.example",
    "+1555010*",
    "+15550200002",
    "slack:qa-*",
    "slack:#qa-*",
    "discord:ops",
    "webhook:https://hooks.example.com/qa/*",
    "webhook:https://*.hooks.example.com/in?key=*",
    "user:qa-*",
]


def staging(*allow, environment=Environment.STAGING, otherwise=Otherwise.CAPTURE, **redirect):
    return Staging(environment, StagingSettings(allow=list(allow), otherwise=otherwise, redirect=redirect))


def leaves(rules, channel, to, **more):
    return isinstance(rules.decide(mode=Mode.LIVE, channel=channel, to=to, **more), Allowed)


# --- who decides: environment and mode ------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", list(Environment))
def test_a_test_key_sends_nothing_anywhere_not_even_to_the_listed(environment):
    rules = staging("qa@example.com", environment=environment, otherwise=Otherwise.SKIP)
    decision = rules.decide(mode=Mode.TEST, channel="email", to="qa@example.com", stored_user="qa-1")
    assert isinstance(decision, Capture)
    assert decision.reason is Why.NOT_ALLOWED


def test_a_live_key_in_production_reaches_everyone_with_every_copy():
    decision = staging(environment=Environment.PRODUCTION).decide(
        mode=Mode.LIVE, channel="email", to="jane@example.net", cc=["b@example.net"], bcc=["c@example.net"]
    )
    assert decision == Allowed()


@pytest.mark.parametrize("environment", list(Environment))
def test_a_team_key_reaches_only_the_listed_in_every_environment(environment):
    rules = staging("qa@example.com", environment=environment)
    assert rules.decide(mode=Mode.TEAM, channel="email", to="qa@example.com") == Allowed()
    assert isinstance(rules.decide(mode=Mode.TEAM, channel="email", to="jane@example.net"), Capture)


@pytest.mark.parametrize("environment", list(Environment))
@pytest.mark.parametrize("otherwise", list(Otherwise))
def test_an_inbox_is_no_way_out_and_a_team_key_still_reaches_only_listed_people(environment, otherwise):
    rules = staging("user:qa-*", environment=environment, otherwise=otherwise, email="qa@example.com", inbox="qa-9")
    refused = Skip if otherwise is Otherwise.SKIP else Capture
    for user, expected in (("42", [Allowed, refused, Capture]), ("qa-1", [Allowed, Allowed, Capture])):
        found = [type(rules.decide(mode=mode, channel="inbox", to=user)) for mode in (Mode.LIVE, Mode.TEAM, Mode.TEST)]
        assert found == expected


@pytest.mark.parametrize("environment", CLOSED)
@pytest.mark.parametrize("channel", ["email", "sms", "slack", "webhook", "carrier_pigeon"])
def test_without_a_list_nothing_leaves_outside_production(environment, channel):
    for to in ("qa@example.com", "+15550100001", "qa-x", "https://hooks.example.com/", ""):
        decision = staging(environment=environment).decide(mode=Mode.LIVE, channel=channel, to=to, stored_user="qa-1")
        assert isinstance(decision, Capture)


def test_what_is_not_listed_is_skipped_where_that_is_configured():
    rules = staging(otherwise=Otherwise.SKIP)
    decision = rules.decide(mode=Mode.LIVE, channel="email", to="jane@example.net")
    assert isinstance(decision, Skip)
    assert decision.reason is Why.NOT_ALLOWED


def test_a_redirect_has_one_recipient_and_drops_every_copy_even_a_listed_one():
    rules = staging("b@example.com", otherwise=Otherwise.REDIRECT, email="QA@Example.com", phone="+1 555 010 0001")
    decision = rules.decide(
        mode=Mode.LIVE, channel="email", to="jane@example.net", cc=["b@example.com"], bcc=["c@example.net"]
    )
    assert decision == Redirect(to="QA@example.com", dropped_cc=("b@example.com",), dropped_bcc=("c@example.net",))
    assert rules.decide(mode=Mode.LIVE, channel="sms", to="+15559990000") == Redirect(to="+15550100001")


def test_a_channel_without_a_target_captures_instead_of_redirecting():
    rules = staging(otherwise=Otherwise.REDIRECT, email="qa@example.com")
    assert isinstance(rules.decide(mode=Mode.LIVE, channel="sms", to="+15559990000"), Capture)
    assert isinstance(rules.decide(mode=Mode.LIVE, channel="slack", to="ops"), Capture)


def test_copies_that_are_not_listed_are_dropped_by_the_name_they_came_with():
    rules = staging("*@example.com")
    decision = rules.decide(
        mode=Mode.LIVE,
        channel="email",
        to="qa@example.com",
        cc=["b@example.com", "Jane <jane@example.net>", "Qa <QA@example.com>"],
        bcc=["c@example.net", "d@example.com", "x@evil.test\n", "<a@evil.test> <qa@example.com>"],
    )
    assert decision == Allowed(
        dropped_cc=("Jane <jane@example.net>",),
        dropped_bcc=("c@example.net", "x@evil.test\n", "<a@evil.test> <qa@example.com>"),
    )


def test_a_decision_never_quotes_an_address():
    for otherwise in (Otherwise.CAPTURE, Otherwise.SKIP):
        decision = staging(otherwise=otherwise).decide(mode=Mode.LIVE, channel="email", to="jane@example.net")
        assert "jane" not in decision.detail


# --- what the patterns name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "to"),
    [
        ("email", "qa@example.com"),
        ("email", "QA@EXAMPLE.com"),
        ("email", "build-7@ci.example.com"),
        ("email", "anyone@team.example.com"),
        ("email", "any+tag@team.example.com"),
        ("email", "a@b.example.org"),
        ("email", "a@xn--mnchen-3ya.example"),
        ("sms", "+15550101234"),
        ("sms", "+15550200002"),
        ("slack", "qa-backend"),
        ("slack", "QA-Backend"),
        ("slack", "#qa-backend"),
        ("discord", "ops"),
        ("webhook", "https://hooks.example.com/qa/7"),
        ("webhook", "https://hooks.example.com:443/qa/7"),
        ("webhook", "https://a.hooks.example.com/in?key=7"),
    ],
)
def test_the_listed_leave(channel, to):
    assert leaves(staging(*LISTED), channel, to)


@pytest.mark.parametrize(
    ("channel", "to"),
    [
        # the neighbours
        ("email", "qa@example.net"),
        ("email", "aqa@example.com"),
        ("email", "qa@example.com.evil.test"),
        ("email", "qa@evil-example.com"),
        ("email", "qa@team.example.com.evil.test"),
        ("email", "a@team.example.comx"),
        ("email", "a@sub.team.example.com"),
        ("email", "a@example.org"),
        ("email", "a@b.c.example.org"),
        ("email", "build@ci.example.com"),
        # tags and dots are other mailboxes
        ("email", "qa+x@example.com"),
        ("email", "q.a@example.com"),
        # look-alikes
        ("email", "qa@ex\u0430mple.com"),
        ("email", "qa@xn--exmple-4nf.com"),
        ("email", "q\u0430@example.com"),
        ("email", "\uff51a@example.com"),
        ("email", "qa@\uff45xample.com"),
        ("email", "qa@example\u3002com"),
        ("email", "qa\uff20example.com"),
        ("email", "a@team.example\u2024com"),
        ("email", "build-\u212a@ci.example.com\u200b"),
        ("email", "evil.test\uff20evil@team.example.com"),
        # tricks of notation
        ("email", "qa@example.com."),
        ("email", " qa@example.com"),
        ("email", "qa@example.com "),
        ("email", "qa@example.com\0"),
        ("email", "qa@example.com\n"),
        ("email", "qa@example.com\r\nRCPT TO:<a@evil.test>"),
        ("email", '"a@team.example.com"@evil.test'),
        ("email", '"a@evil.test"@team.example.com'),
        ("email", '"a"@team.example.com'),
        ("email", "a@team.example.com@evil.test"),
        ("email", "a@evil.test@team.example.com"),
        ("email", "@team.example.com,@evil.test:c@evil.test"),
        ("email", "a(@team.example.com)@evil.test"),
        ("email", "a@evil.test(@team.example.com)"),
        ("email", "a@evil.test,b@team.example.com"),
        ("email", "a@evil.test;b@team.example.com"),
        ("email", "a@evil.test b@team.example.com"),
        ("email", "<a@evil.test>b@team.example.com"),
        ("email", "Qa <qa@example.com>"),
        ("email", "a%evil.test@team.example.com"),
        ("email", "evil.test!a@team.example.com"),
        ("email", "a@[team.example.com]"),
        ("email", "*@team.example.com@evil.test"),
        ("email", ""),
        ("email", "@team.example.com"),
        ("email", "team.example.com"),
        # another channel's notation
        ("email", "+15550101234"),
        ("email", "qa-backend"),
        ("sms", "qa@example.com"),
        ("discord", "qa-backend"),
        ("discord", "ops2"),
        # phones
        ("sms", "+1555011234"),
        ("sms", "15550101234"),
        ("sms", "0015550101234"),
        ("sms", "+1 5550101234"),
        ("sms", "+1555010123\u0661"),
        ("sms", "\uff0b15550101234"),
        ("sms", "+1555010x"),
        ("sms", "+15550101234,+4366012345678"),
        ("sms", "+15550200003"),
        # destinations
        ("slack", "qa"),
        ("slack", "ops"),
        ("slack", "qa-a/ops"),
        ("slack", "qa-@ops"),
        ("slack", "\uff51\uff41-x"),
        ("slack", "q\u0430-x"),
        ("slack", "qa-\uff58"),
        ("slack", "qa-x\n"),
        ("slack", "qa-\u202ex"),
        ("slack", "https://hooks.slack.com/services/T1/B1/qa-x"),
        # URLs
        ("webhook", "http://hooks.example.com/qa/7"),
        ("webhook", "https://hooks.example.com/qa"),
        ("webhook", "https://hooks.example.com/qa/7/8"),
        ("webhook", "https://hooks.example.com/qa/7?x=1"),
        ("webhook", "https://hooks.example.com/qa/.."),
        ("webhook", "https://hooks.example.com/qa/%2e%2e"),
        ("webhook", "https://hooks.example.com/qa/7%2F..%2Fops"),
        ("webhook", "https://hooks.example.com/qa/7\\..\\ops"),
        ("webhook", "https://hooks.example.com/qa/7#x"),
        ("webhook", "https://hooks.example.com:8443/qa/7"),
        ("webhook", "https://hooks.example.com@evil.test/qa/7"),
        ("webhook", "https://evil.test\\@hooks.example.com/qa/7"),
        ("webhook", "https://evil.test/https://hooks.example.com/qa/7"),
        ("webhook", "https://evil.test?https://hooks.example.com/qa/7"),
        ("webhook", "https://hooks.example.com.evil.test/qa/7"),
        ("webhook", "https://hooks.example.com./qa/7"),
        ("webhook", "https://h\u043e\u043eks.example.com/qa/7"),
        ("webhook", "https://a.b.hooks.example.com/in?key=7"),
        ("webhook", "https://a.hooks.example.com/in?key=7&key=8"),
        ("webhook", "https://a.hooks.example.com/out?key=7"),
    ],
)  # fmt: skip
def test_what_only_looks_listed_does_not_leave(channel, to):
    assert not leaves(staging(*LISTED), channel, to)
    if channel == "email" and not to.endswith(">"):
        decision = staging(*LISTED).decide(mode=Mode.LIVE, channel="email", to="qa@example.com", cc=[to], bcc=[to])
        assert decision == Allowed(dropped_cc=(to,), dropped_bcc=(to,))


def test_a_literal_mark_of_relays_is_matched_only_literally():
    assert leaves(staging("a%b.test@example.com"), "email", "a%b.test@example.com")
    assert not leaves(staging("a%*@example.com"), "email", "a%b.test@example.com")


def test_an_international_domain_matches_by_what_dns_carries():
    for written in ("*@m\u00fcnchen.example", "*@M\u00dcNCHEN.example", "*@xn--mnchen-3ya.example"):
        assert leaves(staging(written), "email", normalise_email("a@m\u00fcnchen.example"))
        assert not leaves(staging(written), "email", "a@munchen.example")


def test_a_users_pattern_names_stored_addresses_and_none_given_on_the_spot():
    rules = staging("user:qa-*")
    assert leaves(rules, "email", "jane@example.net", stored_user="qa-7")
    assert leaves(rules, "slack", "C0123", stored_user="qa-7")
    for user in (None, "7", "QA-7", "qa-7/other", "qa-7@evil.test", "xqa-7"):
        assert not leaves(rules, "email", "jane@example.net", stored_user=user)
    assert not leaves(rules, "email", "qa-7@example.net")


ENDPOINT = "https://fcm.googleapis.com/fcm/send/cXyz:APA91bH_7-q"


def subscription(endpoint):
    return json.dumps({"endpoint": endpoint, "keys": {"auth": "a", "p256dh": "b"}})


def test_a_device_is_named_whole():
    rules = staging(f"web_push:{ENDPOINT}", "mobile_push:dQw4:APA91bG-x_9")
    assert leaves(rules, "web_push", subscription(ENDPOINT))
    assert leaves(rules, "mobile_push", "dQw4:APA91bG-x_9")
    for channel, to in [
        ("web_push", ENDPOINT),
        ("web_push", subscription(f"{ENDPOINT}1")),
        ("web_push", subscription(ENDPOINT.replace("fcm.", "evil."))),
        ("web_push", subscription("dQw4:APA91bG-x_9")),
        ("web_push", json.dumps({"endpoint": [ENDPOINT]})),
        ("web_push", f'{{"endpoint": "{ENDPOINT}", "endpoint": "https://evil.test/"}}'),
        ("web_push", f'["{ENDPOINT}"]'),
        ("web_push", "{" * 100_000),
        ("mobile_push", "dQw4:APA91bG-x_9x"),
        ("mobile_push", subscription(ENDPOINT)),
        ("webhook", ENDPOINT),
    ]:
        assert not leaves(rules, channel, to), (channel, to)


def test_the_devices_of_a_group_are_named_by_their_users():
    rules = staging("user:qa-*")
    assert leaves(rules, "web_push", subscription(ENDPOINT), stored_user="qa-7")
    assert not leaves(rules, "web_push", subscription(ENDPOINT))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web_push:https://fcm.googleapis.com/*", "strangers' devices.*user:qa"),
        ("web_push:https://*.googleapis.com/fcm/send/x", "strangers' devices.*user:qa"),
        ("mobile_push:dQw4*", "strangers' devices.*user:qa"),
        ("web_push:qa", "can never match.*user:qa"),
    ],
)
def test_a_pattern_of_devices_says_how_to_name_them(text, words):
    with pytest.raises(ValueError, match=words):
        parse_pattern(text)


def test_a_users_pattern_does_not_reach_copies():
    decision = staging("user:qa-*").decide(
        mode=Mode.LIVE, channel="email", to="jane@example.net", cc=["jane@example.net"], stored_user="qa-7"
    )
    assert decision == Allowed(dropped_cc=("jane@example.net",))


def test_a_channels_name_before_an_email_or_a_phone_says_the_same():
    assert leaves(staging("email:qa@example.com"), "email", "qa@example.com")
    assert leaves(staging("sms:+1555010*", "phone:+1555020*"), "sms", "+15550100001")


# --- patterns that are refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", "**", "*@*", "*@*.*", "+*", "*:*", "@", ".",
        "email:*", "sms:*", "user:*", "user:**", "user:*@*", "slack:*", "webhook:*", "slack:",
        "*@*.com", "*@ex*.com", "*@example.*", "qa@*", "*@com", "@example.com", "qa@example", "qa", "example.com",
        "qa@example.com\n", "qa @example.com", "qa@exa mple.com", '"qa"@example.com', "a@b@example.com",
        "qa@example.com,b@example.com", "Qa <qa@example.com>", "qa@example.com.", "*@m\u00fcn*.example.com",
        "*@x\u3002example.com", "[a-z]@example.com\0",
        "+1*", "+155*", "+*5550100", "+1555010x*", "+1", "+999123456789", "15550100001",
        "https://hooks.example.com/*", "webhook:https://*/qa", "webhook:https://*.com/qa", "webhook:https://a@b.example.com/",
        "webhook:https:///x", "webhook:ftp://hooks.example.com/", "webhook:https://hooks..example.com/",
        "webhook:https://hooks.example.com/../x", "webhook:https://hooks.example.com/a b", "webhook:https://h\u043eoks.example.com/",
        "slack: qa", "slack:qa\n", "slack:q\u202ea", "Slack:qa-*",
    ],
)  # fmt: skip
def test_a_pattern_that_is_not_understood_or_names_everyone_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        parse_pattern(text)
    with pytest.raises(ValueError, match=r"\w+"):
        staging("qa@example.com", text)


def test_reserved_names_may_be_opened_below_their_top():
    rules = staging("*@*.test", "*@localhost")
    assert leaves(rules, "email", "a@shop.test")
    assert leaves(rules, "email", "a@localhost")
    assert not leaves(rules, "email", "a@mail.shop.test")


@pytest.mark.parametrize(
    ("key", "target"),
    [("email", "qa"), ("email", "Qa <qa@example.com>"), ("phone", "5550100"), ("slack", ""), ("slack", "a\nb")],
)
def test_a_redirect_target_that_cannot_be_written_to_is_refused(key, target):
    with pytest.raises(ValueError, match=key):
        redirect_target(key, target)
    with pytest.raises(ValueError, match=key):
        staging(otherwise=Otherwise.REDIRECT, **{key: target})


# --- properties -----------------------------------------------------------------------------------------------------


def fits(pattern, text, barriers):
    """Match character by character, a star crossing no barrier: slow, and nothing like the real one."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        rest = fits(pattern[1:], text, barriers)
        return rest or (bool(text) and text[0] not in barriers and fits(pattern, text[1:], barriers))
    return bool(text) and text[0] == pattern[0] and fits(pattern[1:], text[1:], barriers)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
@example("ab*ba", "aba")
@example("*a*a*", "a")
def test_stars_match_as_in_a_naive_reading(pattern, text):
    assert Glob(pattern).matches(text) == fits(pattern, text, "")


def naively_named(pattern, address):
    pattern_local, _, pattern_domain = pattern.lower().rpartition("@")
    local, _, domain = address.lower().rpartition("@")
    return fits(pattern_local, local, "@%!") and fits(pattern_domain, domain, "@.")


PIECES = st.text("ab-*", min_size=1, max_size=6)
LOCAL_PATTERNS = st.lists(PIECES, min_size=1, max_size=2).map(".".join)
DOMAIN_PATTERNS = st.builds(
    "{}.{}".format,
    st.lists(PIECES, min_size=0, max_size=2).map(".".join),
    st.sampled_from(["a.com", "b.a.com", "test"]),
).map(lambda domain: domain.lstrip("."))
EMAIL_PATTERNS = st.builds("{}@{}".format, LOCAL_PATTERNS, DOMAIN_PATTERNS)
LOCALS = st.text("abAB-.%!+", min_size=1, max_size=8)
NEAR_DOMAINS = st.lists(st.text("abAB-", min_size=1, max_size=4), min_size=0, max_size=2).map(".".join)
NEAR_ADDRESSES = st.builds(
    lambda local, below, top: f"{local}@{below}.{top}".replace("@.", "@"),
    LOCALS,
    NEAR_DOMAINS,
    st.sampled_from(["a.com", "b.a.com", "test", "A.com", "aa.com"]),
)


@given(EMAIL_PATTERNS, NEAR_ADDRESSES)
@example("a*b*@*.a.com", "aabab@b.a.com")
@example("*@test", "a@test")
def test_an_address_leaves_exactly_when_a_naive_reading_of_the_pattern_names_it(pattern, address):
    try:
        rules = staging(pattern)
        normalise_email(address)
    except (ValueError, AddressFault):
        assume(condition=False)
        return
    assert leaves(rules, "email", address) == naively_named(pattern, address)


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_leaves_to_another_domain_than_the_listed_one(local, domain):
    to = f"{local}@{domain}"
    if leaves(staging("*@example.com"), "email", to):
        assert domain.lower() == "example.com"
        assert email.headerregistry.Address(addr_spec=to).domain == domain  # and a stranger's reader agrees


@given(
    st.sampled_from(["qa@example.com", "+15550100001", "qa-x", "https://hooks.example.com/qa/7"]),
    st.data(),
)
def test_an_address_changed_in_any_place_leaves_only_if_it_is_the_same_address(listed, data):
    at = data.draw(st.integers(0, len(listed)))
    cut = data.draw(st.integers(0, 1))
    put = data.draw(st.text(max_size=2))
    changed = listed[:at] + put + listed[at + cut :]
    channel, prefix = {"q": ("email", ""), "+": ("sms", ""), "h": ("webhook", "webhook:")}[listed[0]]
    if "@" not in listed and channel == "email":
        channel, prefix = "slack", "slack:"
    if leaves(staging(prefix + listed), channel, changed):
        assert changed.lower() == listed or changed.lower().replace(":443/", "/") == listed


@given(st.text(max_size=60), st.sampled_from(["email", "sms", "slack", "webhook"]), st.none() | st.text(max_size=20))
def test_no_text_whatever_makes_the_decision_fail(to, channel, user):
    decision = staging(*LISTED).decide(
        mode=Mode.LIVE, channel=channel, to=to, cc=[to, f"x <{to}>"], bcc=[to], stored_user=user
    )
    assert isinstance(decision, Allowed | Capture)


@given(st.text(string.ascii_lowercase + "*@:+./-", max_size=30))
def test_no_pattern_that_is_accepted_names_a_stranger(pattern):
    try:
        rules = staging(pattern)
    except ValueError:
        return
    assert not leaves(rules, "email", "somebody.else@unrelated-company.com")
    assert not leaves(rules, "sms", "+4366012345678")
    assert not leaves(rules, "webhook", "https://unrelated-company.com/0/1/2")


def test_a_pattern_of_many_stars_is_matched_at_once():
    pattern = "a*" * 30 + "b@example.com"
    assert not leaves(staging(pattern), "email", "a" * 64 + "@example.com")


# --- what a redirected message shows --------------------------------------------------------------------------------


def message(**content):
    return Message(
        id="dlv_1",
        kind="email",
        to="jane@example.net",
        to_name="Jane",
        content=Content(**content),
        idempotency_key="k",
        options={
            "cc": ["b@example.net", "c@example.net"],
            "bcc": ["d@example.net"],
            "reply_to": "shop@example.com",
            "headers": {
                "X-Order": "7",
                "Bcc": "e@example.net",
                "resent-to": "f@example.net",
                "x-gateway-original-to": "g",
            },
        },
    )


def test_a_redirected_message_has_no_recipient_but_the_target():
    found = redirected(message(subject="Hello", text="Hi"), "qa@example.com")
    assert (found.to, found.to_name) == ("qa@example.com", None)
    assert found.options == {
        "reply_to": "shop@example.com",
        "headers": {"X-Order": "7", "X-Gateway-Original-To": "jane@example.net"},
    }


def test_a_redirected_message_shows_for_whom_it_was():
    found = redirected(
        message(subject="Hello", text="Hi", html='<html><BODY class="a>b" id=x><p>Hi</p></body></html>', data={"k": 1}),
        "qa@example.com",
    ).content
    assert found.subject == "Hello [to jane@example.net]"
    assert found.text == "[to jane@example.net]\n\nHi"
    assert found.html.startswith('<html><BODY class="a>b" id=x><p style=')
    assert found.html.index("[to jane@example.net]") < found.html.index("<p>Hi</p>")
    assert found.data == {"k": 1}


def test_a_redirected_message_gets_no_part_it_did_not_have():
    found = redirected(message(text="Hi"), "+15550100001").content
    assert (found.subject, found.html) == (None, None)
    assert redirected(message(html="<p>Hi</p>"), "x").content.html.endswith("<p>Hi</p>")


def test_the_note_can_break_neither_a_header_nor_a_page():
    wicked = message(subject="s", html="<b>x</b>")
    found = redirected(
        type(wicked)(**{f: getattr(wicked, f) for f in wicked.__struct_fields__} | {"to": "<i>\r\nBcc: x"}), "y"
    )
    assert "\n" not in found.options["headers"]["X-Gateway-Original-To"] + found.content.subject
    assert "<i>" not in found.content.html
    assert redirect_note("a\u2028b\x00") == "[to a?b?]"


def test_dropped_copies_are_taken_out_and_the_others_stay():
    found = without_copies(message(text="Hi"), dropped_cc=["b@example.net"], dropped_bcc=["d@example.net"])
    assert found.options["cc"] == ["c@example.net"]
    assert found.options["bcc"] == []
    assert found.options["reply_to"] == "shop@example.com"
    assert found.to == "jane@example.net"


def test_taking_no_copies_changes_nothing():
    before = message(text="Hi")
    assert without_copies(before) == before
    assert match_key(before.to) == before.to
