"""The SMTP server of the tests, as the program that flows start, and the bench's sink."""

from __future__ import annotations

import asyncio
import mailbox
import smtplib
import sys
from contextlib import asynccontextmanager, closing

import pytest


@asynccontextmanager
async def program(module, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(15):
            word, port = (await process.stdout.readline()).split()
        assert word == b"listening"
        yield int(port), process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def send(port, *bodies):
    """Speak through somebody else's client."""
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        for body in bodies:
            client.sendmail("from@example.com", ["to@example.com", "b@example.com"], body)


@pytest.mark.parametrize("folder", [False, True])
async def test_the_server_program_keeps_a_mailbox_that_others_can_read(tmp_path, folder):
    path = tmp_path / "mails"
    if folder:
        path.mkdir()
    async with program("tests.support.smtp_server", "--mailbox", str(path)) as (port, _):
        await asyncio.to_thread(
            send, port, "Subject: one\r\n\r\nFrom here\r\n.\r\nend\r\n", "Subject: two\r\n\r\nx\r\n"
        )
    if folder:
        assert sorted(file.name for file in path.iterdir()) == ["000001.eml", "000002.eml"]
        return
    with closing(mailbox.mbox(path)) as kept:
        first, second = kept
    assert (first["subject"], second["subject"]) == ("one", "two")
    assert first["X-Envelope-To"] == "to@example.com, b@example.com"
    assert first.get_payload() == ">From here\n.\nend\n"


async def test_the_sink_counts_and_tells_when_each_message_came():
    async with program("tests.bench.sink", "--record") as (port, process):
        large = "X-Bench-Id: big\r\n\r\n" + ("y" * 70 + "\r\n.\r\n") * 3000
        await asyncio.to_thread(send, port, "Message-ID: <a@x>\r\n\r\nx\r\n", large)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()

        async def ask(word: bytes) -> list[str]:
            writer.write(word + b"\r\n")
            lines = [(await reader.readline()).decode().strip()]
            while lines[-1][3] == "-":
                lines.append((await reader.readline()).decode().strip())
            return lines

        (stat,) = await ask(b"XSTAT")
        assert stat.split()[:2] == ["250", "2"]
        assert [line.split()[0] for line in await ask(b"XSEEN")] == ["250-a@x", "250-big", "250"]
        assert await ask(b"XRESET") == ["250 0"]
        assert (await ask(b"XSTAT"))[0].startswith("250 0 ")
        assert (await ask(b"XQUIT"))[0].startswith("221")
        writer.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
