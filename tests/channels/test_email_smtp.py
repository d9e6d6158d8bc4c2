"""What SMTP asks beyond the shared contract: connections, TLS, AUTH, the envelope, and what "sent" means."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiosmtpd import smtp as aiosmtpd

from channels.contract import (
    Accepted,
    Attachment,
    Callback,
    CallbackRefused,
    Content,
    Message,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Unknown,
)
from channels.email_smtp import SmtpChannel, SmtpSettings
from channels.testing import Recorder
from tests.channels import bounce_samples
from tests.support.smtp_server import EXTENSIONS, Behaviour, Do, SmtpServer
from tests.support.tls import make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def channel_to(server, **settings: Any):
    settings = {"host": "127.0.0.1", "security": "none", "connect_timeout_s": 5, "command_timeout_s": 5} | settings
    channel = SmtpChannel(SmtpSettings(port=server.port, **settings), Recorder().tools)
    try:
        yield channel
    finally:
        await channel.aclose()


def message(number=1, *, to="ada@example.com", content=None, attempt=1, **options):
    return Message(
        id=f"dlv_{number}",
        kind="email",
        to=to,
        sender="Shop <shop@example.com>",
        content=content or Content(subject=f"Message {number}", text="Hello"),
        attempt=attempt,
        idempotency_key=f"k{number}",
        created_at=1_795_000_000.0,
        options=options,
    )


# Bounces

SECRET = "a-secret-of-our-own-mail-server"


def handed_in(authorization: str | None, body: bytes = b"") -> Callback:
    headers = {} if authorization is None else {"authorization": authorization}
    return Callback(url="https://x/v1/callbacks/smtp", method="POST", headers=headers, query={}, body=body)


def relay(**settings: Any) -> SmtpChannel:
    return SmtpChannel(SmtpSettings(host="mail.example.com", **settings), Recorder().tools)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("given", [f"Bearer {SECRET}", f"bearer {SECRET}", basic("bounces", SECRET), basic("", SECRET)])
def test_bounce_mail_is_taken_with_the_secret(given):
    relay(callback_secret=SECRET).verify(handed_in(given))


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Basic {SECRET}",
        basic("bounces", "wrong"),
        basic(SECRET, ""),
        "Basic " + base64.b64encode(SECRET.encode()).decode(),
        "Basic %%%",
        "Bearer \xff",
    ],
)
def test_bounce_mail_without_it_is_refused(given):
    for settings in ({"callback_secret": SECRET}, {}, {"callback_secret": ""}):
        with pytest.raises(CallbackRefused) as caught:
            relay(**settings).verify(handed_in(given))
        assert not caught.value.unreadable


def test_bounce_mail_becomes_events_of_now():
    (event,) = relay(callback_secret=SECRET).parse(handed_in(None, bounce_samples.crlf(bounce_samples.POSTFIX)))
    assert (event.message_id, event.address) == (bounce_samples.DELIVERY, bounce_samples.TO)


async def test_bounces_go_to_the_return_path():
    async with SmtpServer() as server, channel_to(server, return_path="bounces@example.com") as channel:
        assert isinstance(await channel.send(message()), Accepted)
        [mail] = server.messages
        assert mail.mail_from == "bounces@example.com"
        assert b"From: Shop <shop@example.com>" in mail.content


@pytest.mark.parametrize("path", ["nobody", "a@example.com\r\nRCPT TO:<b@example.com>", ""])
def test_a_return_path_that_is_no_address_is_a_fault(path):
    with pytest.raises(SettingsFault) as caught:
        relay(return_path=path)
    assert caught.value.field == "return_path"


# Connections


async def test_one_kept_connection_carries_message_after_message():
    async with SmtpServer() as server, channel_to(server) as channel:
        for number in range(5):
            assert isinstance(await channel.send(message(number)), Accepted)
        assert server.connections == 1
        assert [mail.connection for mail in server.messages] == [1] * 5


async def test_no_more_connections_are_open_than_configured():
    async with SmtpServer() as server, channel_to(server, connections=3) as channel:
        outcomes = await asyncio.gather(*[channel.send(message(number)) for number in range(60)])
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert len(server.messages) == 60
        assert server.most_open_connections == 3


async def test_whoever_waits_for_a_connection_is_served_in_turn():
    async with SmtpServer() as server, channel_to(server, connections=1) as channel:
        await asyncio.gather(*[channel.send(message(number)) for number in range(10)])
        assert [b"<dlv_%d@" % number in mail.content for number, mail in enumerate(server.messages)] == [True] * 10


async def test_no_free_connection_in_time_is_a_retry():
    behaviour = Behaviour(on={"dot": Do.SILENCE})
    async with (
        SmtpServer(behaviour) as server,
        channel_to(server, connections=1, command_timeout_s=0.2, data_timeout_s=3) as channel,
    ):
        first = asyncio.ensure_future(channel.send(message(1)))
        await server.wait_for_command("DATA")
        assert await channel.send(message(2)) == Retry(Reason.TIMED_OUT, detail="no connection became free in time")
        first.cancel()


async def test_a_connection_is_renewed_after_its_share_of_messages():
    async with SmtpServer() as server, channel_to(server, messages_per_connection=2) as channel:
        for number in range(5):
            assert isinstance(await channel.send(message(number)), Accepted)
        assert [mail.connection for mail in server.messages] == [1, 1, 2, 2, 3]
        assert server.commands.count("QUIT") == 2
        assert len(channel._pool._open) == 1  # the pool forgets what is closed


async def test_renewing_never_opens_one_connection_too_many():
    slow_to_part = Behaviour(on={"quit": Do.SILENCE})
    async with (
        SmtpServer(slow_to_part) as server,
        channel_to(server, connections=1, messages_per_connection=1) as channel,
    ):
        for number in range(2):
            assert isinstance(await channel.send(message(number)), Accepted)
        assert (server.connections, server.most_open_connections) == (2, 1)


async def test_an_answer_too_many_is_never_taken_for_the_next_one():
    twice = b"250 OK: queued as A\r\n250 and again\r\n"
    behaviour = Behaviour(on={"dot": [twice, "250 OK: queued as B"]})
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        assert (await channel.send(message(1))).provider_id == "A"
        assert (await channel.send(message(2))).provider_id == "B"
        assert server.connections == 2


async def test_an_answer_too_many_before_the_message_is_a_retry():
    async with SmtpServer(Behaviour(on={"mail": b"250 OK\r\n" * 9})) as server, channel_to(server) as channel:
        assert isinstance(await channel.send(message()), Retry)


async def test_idle_connections_say_goodbye_by_themselves():
    async with SmtpServer() as server, channel_to(server, idle_s=0.05) as channel:
        await channel.send(message())
        await server.wait_for_command("QUIT")


async def test_closing_says_goodbye_on_every_kept_connection():
    async with SmtpServer() as server, channel_to(server, connections=3) as channel:
        await asyncio.gather(*[channel.send(message(number)) for number in range(3)])
        await channel.aclose()
        assert server.commands.count("QUIT") == 3
        assert isinstance(await channel.send(message()), Retry)


async def test_a_kept_connection_that_the_server_dropped_is_renewed_unseen():
    async with SmtpServer(Behaviour(drop_after=1)) as server, channel_to(server) as channel:
        for number in range(4):
            assert isinstance(await channel.send(message(number)), Accepted)
        assert server.connections == 4
        assert len(server.messages) == 4


@pytest.mark.parametrize("end", [Do.DROP, Do.RESET, "421 4.4.2 idle too long", b"nonsense\r\n"])
@pytest.mark.parametrize("extensions", [EXTENSIONS, ()])
async def test_a_kept_connection_found_dead_at_mail_is_renewed_once(end, extensions):
    behaviour = Behaviour(on={"mail": ["250 OK", end, "250 OK"]}, extensions=extensions)
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        assert isinstance(await channel.send(message(1)), Accepted)
        assert isinstance(await channel.send(message(2)), Accepted)
        assert (server.connections, len(server.messages)) == (2, 2)


async def test_a_new_connection_that_fails_at_mail_is_not_tried_again_within_the_send():
    async with SmtpServer(Behaviour(on={"mail": Do.DROP})) as server, channel_to(server) as channel:
        assert isinstance(await channel.send(message()), Retry)
        assert server.connections == 1


async def test_421_costs_only_its_own_connection():
    behaviour = Behaviour(rcpt={"busy@example.com": "421 4.7.0 slow down"})
    async with SmtpServer(behaviour) as server, channel_to(server, connections=2) as channel:
        await asyncio.gather(channel.send(message(1)), channel.send(message(2)))
        busy = await channel.send(message(3, to="busy@example.com"))
        assert (type(busy), busy.reason) == (Retry, Reason.PROVIDER_DOWN)
        before = server.connections
        assert isinstance(await channel.send(message(4)), Accepted)
        assert server.connections == before


async def test_a_refused_recipient_leaves_the_connection_good_for_the_next_message():
    behaviour = Behaviour(rcpt={"no@example.com": "550 5.1.1 no such user"})
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        assert isinstance(await channel.send(message(1, to="no@example.com")), Rejected)
        assert isinstance(await channel.send(message(2)), Accepted)
        assert server.connections == 1
        assert server.messages[0].rcpt_tos == ("ada@example.com",)


async def test_a_cancelled_send_closes_its_connection():
    async with SmtpServer(Behaviour(on={"dot": Do.SILENCE})) as server, channel_to(server) as channel:
        sending = asyncio.ensure_future(channel.send(message()))
        await server.wait_for_command("DATA")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(5), server._arrived:
            await server._arrived.wait_for(lambda: server.open_connections == 0)


# What "sent" means


@pytest.mark.parametrize("end", [Do.DROP, Do.RESET, Do.HALF])
async def test_an_answer_lost_after_the_final_dot_is_unknown_though_the_message_arrived(end):
    async with SmtpServer(Behaviour(keep_after=end)) as server, channel_to(server) as channel:
        outcome = await channel.send(message())
        assert (type(outcome), outcome.reason) == (Unknown, Reason.TIMED_OUT)
        assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("step", "outcome"),
    [(Do.RESET, Retry), ("552 5.3.4 enough", Rejected), ("421 4.3.0 closing", Retry)],
)
async def test_a_large_message_that_breaks_off_half_way_was_certainly_not_sent(step, outcome):
    big = Attachment(filename="a.bin", content_type="application/octet-stream", content=b"\0" * 12_000_000)
    async with SmtpServer(Behaviour(on={"body": step})) as server, channel_to(server) as channel:
        found = await channel.send(message(content=Content(text="t", attachments=(big,))))
        assert type(found) is outcome, found
        assert server.messages == []


async def test_a_large_message_arrives_whole(certificates):
    big = Attachment(filename="a.bin", content_type="application/octet-stream", content=bytes(range(256)) * 8000)
    behaviour = Behaviour(security="tls", tls=certificates.server_context())
    async with (
        SmtpServer(behaviour) as server,
        channel_to(server, security="tls", ca_file=str(certificates.ca_file)) as channel,
    ):
        sent = message(content=Content(text="t", attachments=(big,)))
        for _ in range(2):
            assert isinstance(await channel.send(sent), Accepted)
        assert [mail.content for mail in server.messages] == [channel.raw(sent)] * 2
        assert server.connections == 1


@pytest.mark.parametrize("body", ["\n.\n", ".", "..\r\n.\r\n", "a\r.\rb", "\r\n.\r\nMAIL FROM:<evil@example.net>\r\n"])
async def test_a_lone_dot_in_the_body_ends_nothing(body):
    async with SmtpServer() as server, channel_to(server) as channel:
        sent = message(content=Content(subject="dots", text=body + "\nthe end"))
        assert isinstance(await channel.send(sent), Accepted)
        assert isinstance(await channel.send(message(2)), Accepted)
        assert len(server.messages) == 2
        assert server.messages[0].content == channel.raw(sent)
        assert b"the end" in server.messages[0].content


# The envelope


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()])
async def test_to_decides_and_a_refused_cc_is_only_told(extensions):
    behaviour = Behaviour(rcpt={"cc@example.com": "550 5.1.1 no such user"}, extensions=extensions)
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        outcome = await channel.send(message(cc=["Carl <cc@example.com>"], bcc=["bcc@example.com"]))
        assert isinstance(outcome, Accepted)
        assert "cc@example.com refused: 550 5.1.1 no such user" in (outcome.detail or "")
        assert outcome.provider_id == "Q000001"
        assert server.messages[0].rcpt_tos == ("ada@example.com", "bcc@example.com")
        assert b"bcc@example.com" not in server.messages[0].content
        assert b"cc@example.com" in server.messages[0].content


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()])
async def test_nothing_goes_to_cc_and_bcc_when_to_is_refused(extensions):
    behaviour = Behaviour(rcpt={"ada@example.com": "450 4.2.1 busy"}, extensions=extensions)
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        outcome = await channel.send(message(cc=["cc@example.com"], bcc=["bcc@example.com"]))
        assert isinstance(outcome, Retry)
        assert "DATA" not in server.commands
        assert isinstance(await channel.send(message(2, to="bob@example.com")), Accepted)
        assert [mail.rcpt_tos for mail in server.messages] == [("bob@example.com",)]
        assert server.connections == 1


async def test_greylisting_is_a_retry_and_then_the_same_message_under_the_same_id():
    behaviour = Behaviour(rcpt={"ada@example.com": ["451 4.7.1 greylisted", "250 OK"]})
    async with SmtpServer(behaviour) as server, channel_to(server) as channel:
        first = await channel.send(message(attempt=1))
        assert (type(first), first.reason) == (Retry, Reason.RETRY)
        assert isinstance(await channel.send(message(attempt=2)), Accepted)
        assert b"Message-ID: <dlv_1@example.com>" in server.messages[0].content


async def test_each_quota_answer_lengthens_the_wait():
    async with SmtpServer(Behaviour(on={"mail": "452 4.5.3 daily quota"})) as server, channel_to(server) as channel:
        waits = [(await channel.send(message(attempt=attempt))).after for attempt in (1, 2, 3, 30)]
        assert waits == [30.0, 90.0, 270.0, 3600.0]


async def test_a_message_larger_than_the_server_takes_is_not_even_tried():
    async with SmtpServer(Behaviour(extensions=("SIZE 300",))) as server, channel_to(server) as channel:
        outcome = await channel.send(message(content=Content(text="x" * 400)))
        assert (type(outcome), outcome.reason) == (Rejected, Reason.TOO_LARGE)
        assert not any(command.startswith("MAIL") for command in server.commands)


async def test_a_non_ascii_local_part_goes_out_only_where_smtputf8_is_offered():
    async with SmtpServer() as server, channel_to(server) as channel:
        assert isinstance(await channel.send(message(to="jürgen@bücher.example")), Accepted)
        mail = server.messages[0]
        assert mail.rcpt_tos == ("jürgen@xn--bcher-kva.example",)
        assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(mail.mail_options)
    async with SmtpServer(Behaviour(extensions=("8BITMIME",))) as server, channel_to(server) as channel:
        outcome = await channel.send(message(to="jürgen@bücher.example"))
        assert (type(outcome), outcome.reason) == (Rejected, Reason.INVALID_ADDRESS)
        assert isinstance(await channel.send(message(2, to="juergen@bücher.example")), Accepted)
        assert server.messages[0].rcpt_tos == ("juergen@xn--bcher-kva.example",)


@pytest.mark.parametrize(
    "address", ["a@example.com>\r\nRCPT TO:<v@example.net", "a@example.com\nb", "a b@example.com", "a@", "a@x>"]
)
async def test_an_address_never_becomes_a_command(address):
    async with SmtpServer() as server, channel_to(server) as channel:
        assert (await channel.send(message(to=address))) == Rejected(
            Reason.INVALID_ADDRESS, (await channel.send(message(to=address))).detail
        )
        assert (await channel.send(message(cc=[address]))).reason is Reason.MESSAGE_INVALID
        assert server.connections == 0


# TLS and AUTH


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("methods", [("PLAIN",), ("LOGIN",), ("XOAUTH2", "LOGIN", "PLAIN")])
async def test_mail_goes_encrypted_and_logged_in(certificates, security, methods):
    behaviour = Behaviour(
        security=security,
        tls=certificates.server_context(),
        users={"gateway": "s3cret"},
        auth_methods=methods,
    )
    trust = {"security": security, "ca_file": str(certificates.ca_file)}
    async with (
        SmtpServer(behaviour) as server,
        channel_to(server, username="gateway", password="s3cret", **trust) as channel,
    ):
        assert isinstance(await channel.send(message()), Accepted)
        (mail,) = server.messages
        assert (mail.encrypted, mail.user) == (True, "gateway")
        assert (await channel.check()).ok


async def test_without_the_starttls_it_requires_nothing_is_said_in_clear():
    async with (
        SmtpServer(Behaviour(users={"gateway": "s3cret"})) as server,
        channel_to(server, security="starttls", username="gateway", password="s3cret") as channel,
    ):
        outcome = await channel.send(message())
        assert (type(outcome), outcome.reason) == (Retry, Reason.PROVIDER_DOWN)
        assert "STARTTLS is required" in (outcome.detail or "")
        assert [command.split()[0] for command in server.commands] == ["EHLO"]
        assert not (await channel.check()).ok


@pytest.mark.parametrize("reply", ["454 4.7.0 TLS not available", "502 5.5.1 no", Do.DROP, b"junk\r\n"])
async def test_a_refused_starttls_is_not_gone_around(certificates, reply):
    behaviour = Behaviour(security="starttls", tls=certificates.server_context(), on={"starttls": reply})
    async with SmtpServer(behaviour) as server, channel_to(server, security="starttls") as channel:
        outcome = await channel.send(message())
        assert (type(outcome), outcome.reason) == (Retry, Reason.PROVIDER_DOWN)
        assert [command.split()[0] for command in server.commands] == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_trusts_stops_the_mail(certificates, security):
    behaviour = Behaviour(security=security, tls=certificates.server_context())
    async with SmtpServer(behaviour) as server:
        async with channel_to(server, security=security) as channel:
            outcome = await channel.send(message())
            assert (type(outcome), outcome.reason) == (Retry, Reason.PROVIDER_DOWN)
            assert "CERTIFICATE_VERIFY_FAILED" in (outcome.detail or "")
            assert not any(command.startswith("MAIL") for command in server.commands)
        async with channel_to(server, security=security, verify=False) as channel:
            assert isinstance(await channel.send(message()), Accepted)


async def test_a_certificate_for_another_name_stops_the_mail(tmp_path):
    elsewhere = make_certificates(tmp_path, hosts=("elsewhere.example",))
    behaviour = Behaviour(security="tls", tls=elsewhere.server_context())
    async with (
        SmtpServer(behaviour) as server,
        channel_to(server, security="tls", ca_file=str(elsewhere.ca_file)) as channel,
    ):
        outcome = await channel.send(message())
        assert (type(outcome), outcome.reason) == (Retry, Reason.PROVIDER_DOWN)


async def test_a_plain_server_behind_a_tls_setting_is_a_retry():
    async with SmtpServer() as server, channel_to(server, security="tls", connect_timeout_s=2) as channel:
        assert isinstance(await channel.send(message()), Retry)


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        ("535 5.7.8 bad credentials", Rejected, Reason.ACCOUNT_PROBLEM),
        ("534 5.7.9 too weak", Rejected, Reason.ACCOUNT_PROBLEM),
        ("530 5.7.0 no", Rejected, Reason.ACCOUNT_PROBLEM),
        ("454 4.7.0 later", Retry, Reason.PROVIDER_DOWN),
        ("421 4.3.0 closing", Retry, Reason.PROVIDER_DOWN),
        (Do.DROP, Retry, Reason.PROVIDER_DOWN),
    ],
)
async def test_a_refused_login_is_the_account_and_tried_once(reply, outcome, reason):
    behaviour = Behaviour(users={"gateway": "s3cret"}, on={"auth": reply})
    async with SmtpServer(behaviour) as server, channel_to(server, username="gateway", password="s3cret") as channel:
        found = await channel.send(message())
        assert (type(found), found.reason) == (outcome, reason)
        assert server.commands.count("AUTH") == 1
        assert "s3cret" not in (found.detail or "")


async def test_a_server_that_offers_no_login_is_an_account_problem():
    async with SmtpServer() as server, channel_to(server, username="gateway", password="s3cret") as channel:
        outcome = await channel.send(message())
        assert (type(outcome), outcome.reason) == (Rejected, Reason.ACCOUNT_PROBLEM)


async def test_checking_sends_no_mail():
    async with SmtpServer() as server, channel_to(server) as channel:
        assert (await channel.check()).ok
        await server.wait_for_command("QUIT")
        assert [command.split()[0] for command in server.commands] == ["EHLO", "NOOP", "QUIT"]


# Settings


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"username": "a"}, "password"),
        ({"password": "a"}, "password"),
        ({"ca_file": "no/such/file.pem"}, "ca_file"),
        ({"host": "mail.example.com\r\nX"}, "host"),
        ({"local_hostname": "a b"}, "local_hostname"),
        ({"message_id_domain": ""}, "message_id_domain"),
    ],
)
def test_settings_that_cannot_work_name_their_key(settings, field):
    with pytest.raises(SettingsFault) as fault:
        SmtpChannel(SmtpSettings(**({"host": "mail.example.com"} | settings)), Recorder().tools)
    assert fault.value.field == field


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("none", 25)])
def test_the_port_follows_the_security_unless_it_is_given(security, port):
    channel = SmtpChannel(SmtpSettings(host="mail.example.com", security=security), Recorder().tools)
    assert channel._dial.port == port
    assert channel.limits.concurrency == 8
    assert channel.limits.attachments


# Somebody else's server


class Keeps:
    def __init__(self):
        self.envelopes: list[aiosmtpd.Envelope] = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(envelope)
        return "250 2.0.0 OK"


async def test_another_implementation_of_smtp_takes_our_mail_over_starttls(certificates):
    kept = Keeps()
    context = certificates.server_context()

    def session():
        return aiosmtpd.SMTP(kept, enable_SMTPUTF8=True, tls_context=context, require_starttls=True, hostname="mx")

    listening = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)

    class Address:
        port = listening.sockets[0].getsockname()[1]

    async with (
        listening,
        channel_to(Address, security="starttls", ca_file=str(certificates.ca_file), connections=1) as channel,
    ):
        sent = [message(1, to="jürgen@example.com"), message(2, cc=["b@example.com"]), message(3)]
        for each in sent:
            assert isinstance(await channel.send(each), Accepted)
        assert [envelope.content for envelope in kept.envelopes] == [channel.raw(each) for each in sent]
        assert kept.envelopes[1].rcpt_tos == ["ada@example.com", "b@example.com"]


def test_certificates_of_the_tests_are_real(certificates):
    assert certificates.client_context().verify_mode is ssl.CERT_REQUIRED
