"""What the mail server answers, and what becomes of the delivery: one real SMTP server, one whole gateway."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.gateway import message_ids, parsed, running_gateway, smtp
from tests.support.smtp_server import Behaviour, Do, SmtpServer
from tests.support.tls import make_certificates


async def test_an_accepted_message_arrives_and_is_sent(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send("ada@example.com", reference="order-1", overrides={"email": {"subject": "Grüße"}})
        assert (answer["status"], answer["mode"], answer["reference"]) == ("processing", "live", "order-1")
        sent = await gw.final(answer)
        assert (sent["status"], sent["reason"], sent["provider"], sent["due_at"]) == ("sent", None, "smtp-1", None)
        assert "queued as Q000001" in sent["detail"]
        [tried] = sent["attempts"]
        assert (tried["number"], tried["provider"], tried["outcome"]) == (1, "smtp-1", "accepted")
        assert tried["provider_id"] == "Q000001"
        [mail] = server.messages
        assert mail.rcpt_tos == ("ada@example.com",)
        assert (mail.mail_from, parsed(mail)["from"]) == ("shop@example.com", "Shop <shop@example.com>")
        assert parsed(mail)["subject"] == "Grüße"
        assert sent["id"] in parsed(mail)["message-id"]
        done = await gw.get(f"/v1/notifications/{answer['id']}")
        assert (done["status"], done["counts"]) == ("completed", {"sent": 1})


async def test_a_refusal_for_now_is_tried_again_on_the_schedule_until_it_is_taken(tmp_path):
    greylisting = Behaviour(rcpt={"ada@example.com": ["451 4.7.1 come back", "451 4.7.1 come back", "250 2.1.5 OK"]})
    retry = {"channels": {"email": {"retry": {"attempts": 5, "first_s": 10, "factor": 3, "most_s": 3600}}}}
    async with SmtpServer(greylisting) as server, running_gateway(tmp_path, smtp(server, **retry)) as gw:
        answer = await gw.send()
        first = await gw.held(answer, "retry", attempts=1)
        assert 5 <= _wait_s(first) <= 10.1
        gw.clock.advance(4)
        await gw.keep_house()
        assert (await gw.delivery(answer))["status"] == "held"
        gw.clock.advance(7)
        second = await gw.held(answer, "retry", attempts=2)
        assert 15 <= _wait_s(second) <= 30.1
        gw.clock.advance(31)
        sent = await gw.final(answer)
        assert sent["status"] == "sent"
        assert [(one["number"], one["outcome"], one["reason"]) for one in sent["attempts"]] == [
            (1, "retry", "retry"),
            (2, "retry", "retry"),
            (3, "accepted", None),
        ]
        assert "451 4.7.1 come back" in sent["attempts"][0]["detail"]
        assert len(server.messages) == 1


def _wait_s(delivery) -> float:
    due, updated = (datetime.fromisoformat(delivery[name]) for name in ("due_at", "updated_at"))
    return (due - updated).total_seconds()


async def test_retries_that_are_used_up_end_failed_and_say_so(tmp_path):
    busy = Behaviour(rcpt={"ada@example.com": "450 4.2.1 busy"})
    retry = {"channels": {"email": {"retry": {"attempts": 2, "first_s": 1}}}}
    async with SmtpServer(busy) as server, running_gateway(tmp_path, smtp(server, **retry)) as gw:
        answer = await gw.send()
        await gw.held(answer, "retry")
        gw.clock.advance(2)
        failed = await gw.final(answer)
        assert (failed["status"], failed["reason"], len(failed["attempts"])) == ("failed", "gave_up", 2)
        assert "450 4.2.1 busy" in failed["detail"]


@pytest.mark.parametrize(
    ("reply", "reason", "suppressed"),
    [
        ("550 5.1.1 no such user", "address_dead", True),
        ("550 5.7.1 we do not like you", "policy", False),
        ("550 no such user", "invalid_address", False),
        ("552 5.2.2 mailbox full", "invalid_address", False),
    ],
)
async def test_a_refusal_for_good_fails_and_only_a_dead_address_is_suppressed(tmp_path, reply, reason, suppressed):
    behaviour = Behaviour(rcpt={"Ada@example.com": reply, "ADA@example.com": reply})
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send("Ada@Example.com")
        failed = await gw.final(answer)
        assert (failed["status"], failed["reason"], len(failed["attempts"])) == ("failed", reason, 1)
        assert reply in failed["detail"]
        listed = (await gw.get("/v1/suppressions"))["items"]
        assert [one["address"] for one in listed] == (["ada@example.com"] if suppressed else [])
        again = await gw.send("ADA@example.com")
        if suppressed:
            [skipped] = again["deliveries"]
            assert (skipped["status"], skipped["reason"]) == ("skipped", "suppressed")
            assert again["status"] == "completed"
        else:
            assert (await gw.final(again))["reason"] == reason
        assert server.messages == []


async def test_a_refused_copy_is_recorded_and_the_recipient_decides(tmp_path):
    behaviour = Behaviour(rcpt={"cc@example.com": "550 5.1.1 unknown", "bcc@example.com": "451 4.3.0 later"})
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server)) as gw:
        copies = {"email": {"cc": ["cc@example.com", "fine@example.com"], "bcc": ["bcc@example.com"]}}
        sent = await gw.final(await gw.send(overrides=copies))
        assert (sent["status"], len(sent["attempts"])) == ("sent", 1)
        assert "cc@example.com refused: 550 5.1.1" in sent["detail"]
        assert "bcc@example.com refused: 451 4.3.0" in sent["detail"]
        [mail] = server.messages
        assert mail.rcpt_tos == ("ada@example.com", "fine@example.com")
        assert "bcc" not in mail.content.decode().lower()
        assert (await gw.get("/v1/suppressions"))["items"] == []


async def test_a_refused_recipient_fails_even_if_a_copy_would_be_taken(tmp_path):
    behaviour = Behaviour(rcpt={"ada@example.com": "550 5.1.1 unknown"})
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server)) as gw:
        failed = await gw.final(await gw.send(overrides={"email": {"cc": ["fine@example.com"]}}))
        assert (failed["status"], failed["reason"]) == ("failed", "address_dead")
        assert server.messages == []


async def test_one_refused_recipient_of_a_list_is_nobody_elses_affair(tmp_path):
    behaviour = Behaviour(rcpt={"no@example.com": "550 5.1.1 unknown"})
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send(
            [{"email": "yes@example.com"}, {"email": "no@example.com"}, {"email": "also@example.com"}]
        )
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"sent": 2, "failed": 1}
        assert sorted(mail.rcpt_tos[0] for mail in server.messages) == ["also@example.com", "yes@example.com"]


@pytest.mark.parametrize("step", ["mail", "data", "dot"])
@pytest.mark.parametrize(
    ("reply", "status"),
    [("452 4.3.1 full", "held"), ("421 4.3.2 going down", "held"), ("554 5.7.1 spam", "failed")],
)
async def test_a_refusal_at_any_command_is_known_not_to_be_sent(tmp_path, step, reply, status):
    behaviour = Behaviour(on={step: [reply, "250 2.0.0 OK" if step != "data" else "354 go ahead"]})
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send()
        found = await gw.until(answer, {"held", "failed"})
        assert found["status"] == status, found
        if status == "held":
            gw.clock.advance(3600)
            assert (await gw.final(answer))["status"] == "sent"
            assert len(server.messages) == 1


async def test_a_lost_answer_is_unknown_where_the_category_holds_and_sent_again_only_by_force(tmp_path):
    losing = Behaviour(on={"dot": [Do.DROP, "250 2.0.0 OK"]})
    careful = {"categories": {"careful": {"on_unknown": "hold"}}}
    async with SmtpServer(losing) as server, running_gateway(tmp_path, smtp(server, **careful)) as gw:
        answer = await gw.send(category="careful")
        lost = await gw.final(answer)
        assert (lost["status"], lost["reason"]) == ("unknown", "timed_out")
        assert [one["outcome"] for one in lost["attempts"]] == ["unknown"]
        assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "completed"
        gw.clock.advance(86_400)
        await gw.keep_house()
        assert (await gw.delivery(answer))["status"] == "unknown"
        refused = await gw.client.post(f"/v1/deliveries/{lost['id']}/retry", json={})
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (409, "not_retryable")
        forced = await gw.client.post(f"/v1/deliveries/{lost['id']}/retry", json={"force": True})
        assert forced.status_code == 202
        assert forced.json()["retry_of"] == lost["id"]
        assert (await gw.final(forced.json()))["status"] == "sent"


async def test_a_lost_answer_is_sent_again_under_the_same_message_id_where_the_rule_says_so(tmp_path):
    keeping = Behaviour(keep_after=Do.DROP)
    retry = {"channels": {"email": {"retry": {"attempts": 2, "first_s": 5}}}}
    async with SmtpServer(keeping) as server, running_gateway(tmp_path, smtp(server, **retry)) as gw:
        answer = await gw.send()
        held = await gw.held(answer, "retry")
        assert held["attempts"][0]["outcome"] == "unknown"
        assert held["detail"].startswith("answer lost")
        gw.clock.advance(6)
        lost = await gw.final(answer)
        assert (lost["status"], lost["reason"]) == ("unknown", "timed_out")
        assert [one["outcome"] for one in lost["attempts"]] == ["unknown", "unknown"]
        assert len(server.messages) == 2
        assert len(set(message_ids(server.messages))) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_over_tls_and_with_a_login(tmp_path, security):
    certificates = make_certificates(tmp_path)
    behaviour = Behaviour(security=security, tls=certificates.server_context(), users={"gateway": "sesame"})
    more = {"security": security, "ca_file": str(certificates.ca_file), "username": "gateway", "password": "sesame"}
    async with (
        SmtpServer(behaviour) as server,
        running_gateway(tmp_path, smtp(server, providers={"smtp-1": {**more, "host": "localhost"}})) as gw,
    ):
        assert (await gw.final(await gw.send()))["status"] == "sent"
        assert (server.messages[0].encrypted, server.messages[0].user) == (True, "gateway")


@pytest.mark.parametrize("trouble", ["not offered", "unknown authority"])
async def test_nothing_is_sent_in_clear_where_tls_is_asked_for(tmp_path, trouble):
    certificates = make_certificates(tmp_path)
    offered = {"security": "starttls", "tls": certificates.server_context()} if trouble != "not offered" else {}
    more = {"providers": {"smtp-1": {"security": "starttls", "host": "localhost"}}}
    async with SmtpServer(Behaviour(**offered)) as server, running_gateway(tmp_path, smtp(server, **more)) as gw:
        held = await gw.held(await gw.send(), "retry")
        assert held["attempts"][0]["outcome"] == "retry"
        assert server.messages == []
        assert not any(command.startswith("MAIL") for command in server.commands)


@pytest.mark.parametrize("then", ["refused", "too late"])
async def test_a_lost_answer_is_not_forgotten_when_the_next_attempt_fails(tmp_path, then):
    behaviour = Behaviour(on={"mail": ["250 2.1.0 OK", "550 5.7.1 no more of this"]}, keep_after=Do.DROP)
    quick = {"categories": {"quick": {"expires_after_s": 600}}}
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server, **quick)) as gw:
        answer = await gw.send(category="quick")
        await gw.held(answer, "retry")
        assert len(server.messages) == 1, "it did arrive"
        gw.clock.advance(60 if then == "refused" else 601)
        await gw.keep_house()
        assert (await gw.final(answer))["status"] == "unknown"
