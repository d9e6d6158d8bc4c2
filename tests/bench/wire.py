"""What delivering is measured against: a bare loop that hands ready bytes to kept aiosmtplib connections.

    python -m tests.bench.wire --port 2525 --connections 8 --count 20000 --size 6000      prints mails a second

No queue, no database, no rendering: each connection says MAIL, RCPT and DATA again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator

import aiosmtplib
import uvloop


def ready(size: int) -> bytes:
    """Make a message of about `size` bytes."""
    head = b"From: no-reply@example.com\r\nTo: person@example.com\r\nSubject: Your order\r\n\r\n"
    line = b"Your order has left our warehouse and should arrive tomorrow, says the shop.\r\n"
    return head + line * max(1, (size - len(head)) // len(line))


async def _deliver(port: int, numbers: Iterator[int], content: bytes) -> None:
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, use_tls=False)
    await client.connect()
    await client.ehlo()
    for number in numbers:
        await client.mail("no-reply@example.com")
        await client.rcpt(f"person{number:08d}@example.com")
        await client.data(content)
    await client.quit()


async def run(*, port: int, connections: int, count: int, size: int) -> float:
    """Deliver `count` messages; answers messages a second."""
    numbers = iter(range(count))
    content = ready(size)
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_deliver(port, numbers, content))
    return count / (time.perf_counter() - start)


def main() -> None:
    """Run once and print the rate."""
    parser = argparse.ArgumentParser(description="Ready bytes over kept connections.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=6000)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rate = runner.run(run(port=given.port, connections=given.connections, count=given.count, size=given.size))
    print(rate)


if __name__ == "__main__":
    main()
