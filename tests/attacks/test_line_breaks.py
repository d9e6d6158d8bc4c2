"""Line breaks and other controls in everything a caller may write into a mail: judged by a real server and parser.

Either the request is refused with the field's name, or exactly one message goes to exactly the named recipient, with
no header that the same message without the attack has not.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from channels.testing_server import HttpServer, Reply
from tests.support.gateway import parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

BREAKS = ["\r", "\n", "\r\n", "\0", "\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1b", "\x7f", "\r\n.\r\n", "\n\n"]
EVIL = ("evil@example.net", "X-Evil", "pwned")


def spoiled(text: str, cut: str) -> str:
    """Put an envelope, a header and a body of the attacker's behind a break in the middle of a text."""
    return f"{text[:1]}{cut}Bcc: {EVIL[0]}{cut}{EVIL[1]}: 1{cut}RCPT TO:<{EVIL[0]}>{cut}{EVIL[2]}{text[1:]}"


def _overrides(**email: Any) -> dict[str, Any]:
    return {"overrides": {"email": email}}


def _attached(**more: str) -> dict[str, Any]:
    file = {"filename": "a.txt", "content_type": "text/plain", "content": base64.b64encode(b"x").decode(), **more}
    return {"attachments": [file]}


WHERE: dict[str, Any] = {
    "to.email": lambda cut: {"to": {"email": spoiled("ada@example.com", cut)}},
    "to.email, quoted": lambda cut: {"to": {"email": f'"{spoiled("ada", cut)}"@example.com'}},
    "to.name": lambda cut: {"to": {"email": "ada@example.com", "name": spoiled("Ada", cut)}},
    "content.title": lambda cut: {"content": {"title": spoiled("Hello", cut)}},
    "content.url": lambda cut: {"content": {"title": "t", "url": spoiled("https://example.com/", cut)}},
    "subject": lambda cut: _overrides(subject=spoiled("Hello", cut)),
    "from": lambda cut: _overrides(**{"from": spoiled("shop@example.com", cut)}),
    "from, its name": lambda cut: _overrides(**{"from": f"{spoiled('Shop', cut)} <shop@example.com>"}),
    "reply_to": lambda cut: _overrides(reply_to=spoiled("desk@example.com", cut)),
    "cc": lambda cut: _overrides(cc=[spoiled("bob@example.com", cut)]),
    "bcc": lambda cut: _overrides(bcc=[spoiled("bob@example.com", cut)]),
    "a header": lambda cut: _overrides(headers={"X-A": spoiled("value", cut)}),
    "a header's name": lambda cut: _overrides(headers={spoiled("X-A", cut): "value"}),
    "filename": lambda cut: _attached(filename=spoiled("a.txt", cut)),
    "content_type": lambda cut: _attached(content_type=spoiled("text/plain", cut)),
    "content_id": lambda cut: _attached(content_id=spoiled("logo", cut)),
    "reference": lambda cut: {"reference": spoiled("r", cut)},
    "collapse_key": lambda cut: {"collapse_key": spoiled("c", cut)},
    "metadata and tags": lambda cut: {"metadata": {spoiled("m", cut): spoiled("v", cut)}, "tags": [spoiled("t", cut)]},
    "a template's variable": lambda cut: {"template": "hello", "data": {"x": spoiled("v", cut)}},
}


def _templates(folder: Path) -> str:
    """Write one template that puts its variable into the subject."""
    for path, text in {
        "hello/template.toml": "[variables.x]\n",
        "hello/en/title.txt": "Hello {{ x }}",
        "hello/en/body.md": "It works, {{ x }}.",
    }.items():
        (folder / "t" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "t" / path).write_text(text)
    return str(folder / "t")


@pytest.mark.parametrize("where", WHERE)
async def test_no_line_break_adds_a_header_a_recipient_or_a_message(tmp_path: Path, where: str):
    async with SmtpServer() as server, running_gateway(tmp_path, _config(tmp_path, server)) as gw:
        plain = await gw.final(await gw.send())
        assert plain["status"] == "sent"
        known = {name.lower() for name in parsed(server.messages[0])} | {"x-a", "reply-to", "cc"}
        for cut in BREAKS:
            before = len(server.messages)
            answer = await gw.post(**WHERE[where](cut))
            if answer.status_code != 202:
                assert (answer.status_code, answer.json()["type"]) == (422, "/errors/validation"), (cut, answer.text)
                assert all(one["field"].isprintable() for one in answer.json()["errors"])
                continue
            done = await gw.final(answer.json())
            assert done["status"] in {"sent", "failed"}, (cut, done)
            arrived = server.messages[before:]
            assert len(arrived) == (done["status"] == "sent")
            for mail in arrived:
                assert mail.rcpt_tos == ("ada@example.com",)
                assert {name.lower() for name in parsed(mail)} <= known, cut
                assert not any(char in str(parsed(mail)["subject"]) for char in "\r\n\0\u2028\u2029\x85\v\f\x1c\x1b")
        assert not any(line.startswith(("RCPT", "MAIL")) and "evil" in line for line in server.commands)


def _config(folder: Path, server: SmtpServer) -> dict[str, Any]:
    config = smtp(server, templates={"folder": _templates(folder)})
    config["channels"]["email"]["senders"] = ["*@example.com"]
    return config


async def test_no_line_break_reaches_an_api_that_would_make_a_header_of_it(tmp_path: Path):
    taken = Reply(200, json={"MessageID": "1", "ErrorCode": 0, "Message": "OK"})
    async with HttpServer(taken) as server:
        provider = {"use": "email_postmark", "server_token": "t", "base_url": server.url}
        config = {
            "environment": "production",
            "providers": {"postmark": provider},
            "channels": {"email": {"providers": ["postmark"], "sender": "Shop <shop@example.com>"}},
            "templates": {"folder": _templates(tmp_path)},
        }
        async with running_gateway(tmp_path, config) as gw:
            accepted = 0
            for where, attack in WHERE.items():
                for cut in ("\r\n", "\u2028"):
                    answer = await gw.post(**attack(cut))
                    assert answer.status_code in {202, 422}, (where, answer.text)
                    if answer.status_code == 202:
                        await gw.final(answer.json())
                        accepted += 1
        assert accepted >= len(("reference", "metadata", "variable"))
        for request in server.requests:
            sent = request.json()
            one_line = [sent["From"], sent["To"], sent["Subject"], sent.get("Cc", ""), sent.get("ReplyTo", "")]
            one_line += [text for header in sent.get("Headers", ()) for text in header.values()]
            one_line += [file["Name"] for file in sent.get("Attachments", ())]
            assert not any(char in text for text in one_line for char in "\r\n\0\u2028"), one_line
            assert sent["To"] in {"ada@example.com", '"Ada" <ada@example.com>'}


SMUGGLED = "\n.\nMAIL FROM:<evil@example.net>\nRCPT TO:<evil@example.net>\nDATA\nSubject: pwned\n\npwned\n.\n"
BODIES = [
    "one\n.\ntwo",
    "one\r\n.\r\ntwo",
    "one\r.\rtwo",
    "one\n.\r\ntwo",
    "one\r\n.\ntwo",
    ".",
    "..",
    SMUGGLED,
    SMUGGLED.replace("\n", "\r\n"),
    "--=_boundary\nContent-Type: text/html\n\n<p>pwned</p>",
    "From evil@example.net\nFrom: evil@example.net",
]


@pytest.mark.parametrize("pipelining", [True, False])
async def test_no_dot_ends_a_message_before_its_end(tmp_path: Path, pipelining: bool):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        if not pipelining:
            server.behaviour = type(server.behaviour)(extensions=("8BITMIME",))
        for body in BODIES:
            file = base64.b64encode(body.encode()).decode()
            attachments = [{"filename": "a.txt", "content_type": "text/plain", "content": file}]
            done = await gw.final(await gw.send(content={"title": "Dots", "body": body}, attachments=attachments))
            assert done["status"] == "sent"
        assert len(server.messages) == len(BODIES)
        for mail, body in zip(server.messages, BODIES, strict=True):
            assert (mail.mail_from, mail.rcpt_tos) == ("shop@example.com", ("ada@example.com",))
            # No octet pair that one server reads as a line's end and another does not (SMTP smuggling, 2023).
            assert b"\n" not in mail.content.replace(b"\r\n", b"")
            assert b"\r" not in mail.content.replace(b"\r\n", b"")
            [file] = parsed(mail).iter_attachments()
            assert file.get_payload(decode=True) == body.encode()
        starts = [line.split(" ")[0].upper() for line in server.commands]
        assert starts.count("MAIL") == starts.count("RCPT") == starts.count("DATA") == len(BODIES)
