"""Bounce mail about what was really sent: handed in raw, believed by its Message-ID and address, both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import RunningGateway, parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

SECRET = "a-secret-of-our-own-mail-server"
BEARER = {"Authorization": f"Bearer {SECRET}", "Content-Type": "message/rfc822"}


def config(server: SmtpServer) -> dict[str, Any]:
    secret = {"callback_secret": SECRET, "return_path": "bounces@example.com"}
    categories = {"marketing": {"unsubscribe": True}, "news": {"unsubscribe": True}}
    return smtp(server, providers={"smtp-1": secret}, categories=categories)


def report(sent: bytes, *recipients: tuple[str, str, str], kind: str = "delivery-status", fields: str = "") -> bytes:
    """Wrap what was sent, header and all, in a report about some (recipient, action, status)."""
    blocks = "".join(
        f"Final-Recipient: rfc822; {who}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n"
        for who, action, status in recipients
    )
    head = (
        "From: MAILER-DAEMON@mx.example.com\r\nTo: bounces@example.com\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: message/{kind}\r\n\r\n{fields}\r\n{blocks}--b\r\nContent-Type: message/rfc822\r\n\r\n"
    )
    return head.encode() + sent + b"\r\n--b--\r\n"


async def hand_in(gw: RunningGateway, mail: bytes) -> int:
    answer = await gw.client.post("/v1/callbacks/smtp-1", content=mail, headers=BEARER)
    assert answer.status_code == 200, answer.text
    return answer.json()["changed"]


async def suppressed(gw: RunningGateway) -> list[tuple[str, str, str]]:
    return [(one["address"], one["reason"], one["source"]) for one in (await gw.get("/v1/suppressions"))["items"]]


async def test_a_hard_bounce_is_believed_and_the_next_mail_not_sent(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        delivery = await gw.final(await gw.send("Ada@example.com"))
        [mail] = server.messages
        assert mail.mail_from == "bounces@example.com"
        bounce = report(mail.content, ("ada@EXAMPLE.com", "failed", "5.1.1"))
        assert [await hand_in(gw, bounce) for _ in range(3)] == [1, 0, 0]
        found = await gw.delivery(delivery["id"])
        assert (found["status"], found["reason"]) == ("bounced", "address_dead")
        assert await suppressed(gw) == [("ada@example.com", "address_dead", "smtp-1")]
        again = await gw.final(await gw.send("Ada@example.com"))
        assert (again["status"], again["reason"]) == ("skipped", "suppressed")


@pytest.mark.parametrize(
    ("action", "status", "expected", "reason"),
    [
        ("delayed", "4.4.1", "sent", None),
        ("delivered", "2.0.0", "delivered", None),
        ("relayed", "2.0.0", "delivered", None),
        ("failed", "5.7.1", "bounced", "policy"),
        ("failed", "5.2.2", "bounced", "retry"),
    ],
)
async def test_what_is_no_dead_address_suppresses_nobody(
    tmp_path: Path, action: str, status: str, expected: str, reason: str | None
):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        delivery = await gw.final(await gw.send())
        await hand_in(gw, report(server.messages[0].content, ("ada@example.com", action, status)))
        found = await gw.delivery(delivery["id"])
        assert (found["status"], found["reason"]) == (expected, reason)
        assert await suppressed(gw) == []


async def test_a_copys_bounce_is_not_the_recipients(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        delivery = await gw.final(await gw.send(overrides={"email": {"cc": ["boss@example.com"]}}))
        bounce = report(
            server.messages[0].content, ("boss@example.com", "failed", "5.1.1"), ("ada@example.com", "delayed", "4.0.0")
        )
        assert await hand_in(gw, bounce) == 0
        assert (await gw.delivery(delivery["id"]))["status"] == "sent"
        assert await suppressed(gw) == []


async def test_a_complaint_suppresses_and_an_opt_out_leaves_one_category(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        marketing = await gw.final(await gw.send(category="marketing"))
        opt_out = report(server.messages[0].content, kind="feedback-report", fields="Feedback-Type: opt-out\r\n")
        assert await hand_in(gw, opt_out) == 1
        assert (await gw.delivery(marketing["id"]))["engagement"] == ["unsubscribed"]
        again = await gw.final(await gw.send(category="marketing"))
        assert (again["status"], again["reason"]) == ("skipped", "opted_out")
        assert (await gw.final(await gw.send(category="news")))["status"] == "sent"
        assert await suppressed(gw) == []
        abuse = report(server.messages[1].content, kind="feedback-report", fields="Feedback-Type: abuse\r\n")
        assert await hand_in(gw, abuse) == 1
        assert await suppressed(gw) == [("ada@example.com", "complained", "smtp-1")]


async def test_the_message_id_on_the_wire_is_the_one_that_is_looked_for(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        delivery = await gw.final(await gw.send())
        assert str(parsed(server.messages[0])["message-id"]) == f"<{delivery['id']}@example.com>"
