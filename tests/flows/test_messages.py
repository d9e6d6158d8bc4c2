"""What arrives: files byte for byte, templates as they were when accepted, one-click unsubscribe."""

from __future__ import annotations

import base64
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from tests.support.gateway import parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

SHIPPED = Path(__file__).parents[2] / "templates"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


async def test_attachments_and_inline_images_arrive_byte_for_byte(tmp_path):
    noise = os.urandom(200_000)
    files = [
        {"filename": "réçu №1.pdf", "content_type": "application/pdf", "content": base64.b64encode(noise).decode()},
        {
            "filename": "pixel.png",
            "content_type": "image/png",
            "content": base64.b64encode(PIXEL).decode(),
            "content_id": "pixel",
        },
        {"filename": "dots.txt", "content_type": "text/plain", "content": base64.b64encode(b".\r\n..\n.\n").decode()},
    ]
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send([{"email": "a@example.com"}, {"email": "b@example.com"}], attachments=files)
        await gw.all_final(answer["id"])
        assert len(server.messages) == 2
        for mail in server.messages:
            parts = {part.get_filename(): part for part in parsed(mail).walk() if part.get_filename()}
            assert parts["réçu №1.pdf"].get_payload(decode=True) == noise
            assert parts["pixel.png"].get_payload(decode=True) == PIXEL
            assert parts["pixel.png"]["content-id"] == "<pixel>"
            assert parts["dots.txt"].get_payload(decode=True) == b".\r\n..\n.\n"


async def test_a_captured_message_keeps_its_files(tmp_path):
    content = base64.b64encode(b"\x00\xff data").decode()
    one = {"filename": "a.bin", "content_type": "application/octet-stream", "content": content}
    async with running_gateway(tmp_path, {"environment": "development"}) as gw:
        await gw.final(await gw.send(attachments=[one]))
        [listed] = (await gw.get("/v1/captured"))["items"]
        shown = await gw.get(f"/v1/captured/{listed['id']}")
        [file] = shown["attachments"]
        assert (file["filename"], base64.b64decode(file["content"])) == ("a.bin", b"\x00\xff data")


async def test_a_category_that_asks_for_it_gets_one_click_unsubscribe_unfolded(tmp_path):
    categories = {"categories": {"marketing": {"unsubscribe": True}}}
    async with (
        SmtpServer() as server,
        running_gateway(tmp_path, smtp(server, public_url="https://notify.example.com", **categories)) as gw,
    ):
        await gw.final(await gw.send(category="marketing"))
        await gw.final(await gw.send())
        first, second = server.messages
        lines = first.content.split(b"\r\n")
        [line] = [one for one in lines if one.lower().startswith(b"list-unsubscribe:")]
        assert line.split(b" ", 1)[1].startswith(b"<https://notify.example.com/unsubscribe/")
        assert line.endswith(b">")
        assert parsed(first)["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
        assert parsed(second)["list-unsubscribe"] is None


WELCOME = {"template": "welcome", "data": {"start_url": "https://app.example.com/start"}}


async def test_a_template_is_pinned_when_accepted_and_survives_a_deploy_before_sending(tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(SHIPPED, folder)
    async with SmtpServer() as server:
        config = smtp(server, templates={"folder": str(folder)})
        async with running_gateway(tmp_path, config) as gw:
            at = datetime.fromtimestamp(gw.clock() / 1000 + 60, UTC).isoformat()
            answer = await gw.send(**WELCOME, send_at=at)
            before = await gw.explain(**WELCOME)
            pinned = (await gw.get(f"/v1/notifications/{answer['id']}"))["template"]
        for path in (folder / "welcome").rglob("*"):
            if path.is_file() and path.suffix != ".toml":
                path.write_text(path.read_text().replace("Welcome", "Farewell"))
        async with running_gateway(tmp_path, config) as gw:
            gw.clock.advance(120)
            await gw.final(answer)
            now = await gw.explain(**WELCOME)
            [mail] = server.messages
            assert parsed(mail)["subject"] == before["rendered"]["subject"]
            assert "Welcome" in parsed(mail)["subject"]
            assert "Farewell" in now["rendered"]["subject"]
            assert pinned["version"].startswith("sha256:")


async def test_a_template_folder_may_lose_a_template_that_waits(tmp_path):
    folder = tmp_path / "templates"
    shutil.copytree(SHIPPED, folder)
    async with SmtpServer() as server:
        config = smtp(server, templates={"folder": str(folder)})
        async with running_gateway(tmp_path, config, work=False) as gw:
            answer = await gw.send(**WELCOME)
        shutil.rmtree(folder / "welcome")
        async with running_gateway(tmp_path, config) as gw:
            assert (await gw.final(answer))["status"] == "sent"
            assert (await gw.post(template="welcome", data={})).status_code == 422
