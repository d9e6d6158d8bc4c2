"""What the attacks are made against: a gateway as `gateway serve` runs it, on real sockets, shared by the whole folder.

It runs in development, so that nothing leaves, and tells everything it knows into a log that is read at the end.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import ADMIN, SECRET, write_config
from tests.support.process import GatewayProcess


@dataclass
class House:
    """A gateway in a process of its own. `client` speaks with every scope; `call` opens bare sockets to `port`."""

    process: GatewayProcess
    client: httpx.Client
    folder: Path
    closing: contextlib.ExitStack

    @property
    def port(self) -> int:
        return int(str(self.process.url).rpartition(":")[2])

    @property
    def lines(self) -> list[str]:
        """What it has logged so far; its banner is not part of the log."""
        return [line for line in self.process.log.read_text().splitlines() if line.startswith("{")]

    def key(self, *scopes: str, **more: Any) -> str:
        """Make a key."""
        wanted = {"name": "attack", "mode": "live", "scopes": list(scopes), **more}
        answer = self.client.post("/v1/keys", json=wanted)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"]

    def speaking(self, key: str | None) -> httpx.Client:
        """Speak with another key, or with none."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=str(self.process.url), headers=headers, timeout=30)
        return self.closing.enter_context(client)

    def is_well(self) -> bool:
        """Say whether it still answers, quickly."""
        began = time.monotonic()
        answer = self.client.post("/v1/notifications/explain", json=a_send())
        return answer.status_code == 200 and time.monotonic() - began < 5


def a_send(to: Any = "ada@example.com", **more: Any) -> dict[str, Any]:
    """Make the smallest request."""
    return {"to": {"email": to} if isinstance(to, str) else to, "content": {"title": "Hello", "body": "Hi."}, **more}


@contextlib.contextmanager
def a_house(folder: Path, **config: Any) -> Generator[House]:
    """Run `gateway serve` with this configuration; it is gone afterwards."""
    known = {
        "database": f"sqlite:///{folder}/state/gateway.db",
        "bootstrap_key": ADMIN,
        "secret_key": SECRET,
        "channels": {"email": {"sender": "Shop <shop@example.com>"}},
        "categories": {"news": {"unsubscribe": True}},
        "templates": {"product": "<script>window.pwned = 1</script>"},
        "logging": {"level": "debug", "format": "json"},
    }
    process = GatewayProcess(write_config(folder / "gateway.toml", {**known, **config}), "serve", "--port", "0")
    try:
        url = _ready(process)
        with contextlib.ExitStack() as closing:
            client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30)
            yield House(process, closing.enter_context(client), folder, closing)
    finally:
        process.kill()


def _ready(process: GatewayProcess) -> str:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        assert process.process.poll() is None, process.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if (url := process.url) is not None and httpx.get(f"{url}/health/ready").status_code == 200:
                return url
        time.sleep(0.02)
    raise AssertionError(f"not ready: {process.log.read_text()}")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The one that most attacks share. Afterwards nobody has written a log line of their own, and nothing was a bug."""
    with a_house(tmp_path_factory.mktemp("attacked")) as house:
        yield house
        for line in house.lines:
            found = json.loads(line)
            assert {"timestamp", "level", "event"} <= set(found), line
            assert found["event"] not in {"request_failed", "attacker"}, line
