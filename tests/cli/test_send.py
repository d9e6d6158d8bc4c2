"""`gateway send` against a real HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.send import recipient_of, request_of


class Gateway(HTTPServer):
    """Answers every request with `answer`, and keeps what it got."""

    answer: tuple[int, bytes] = (202, b'{"id": "ntf_1"}')

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def send(gateway: Gateway, *arguments: str, text: str | None = None) -> Any:
    env = {"GATEWAY_URL": gateway.url, "GATEWAY_KEY": "ntfg_test_key"}
    return CliRunner(env=env).invoke(main, ["send", *arguments], input=text)


def test_the_request_is_posted_and_the_answer_printed(gateway: Gateway) -> None:
    result = send(
        gateway, "--to", "a@example.com", "--title", "Hi", "--body", "-", "--idempotency-key", "k1", text="*x*"
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"id": "ntf_1"}
    [(path, headers, body)] = gateway.got
    assert path == "/v1/notifications"
    assert headers["Authorization"] == "Bearer ntfg_test_key"
    assert headers["Idempotency-Key"] == "k1"
    assert body == {"to": {"email": "a@example.com"}, "content": {"title": "Hi", "body": "*x*"}}


def test_a_whole_request_goes_as_it_is(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"to": [], "anything": 1}')
    assert send(gateway, "--json", str(file)).exit_code == 0
    assert send(gateway, "--json", "-", text='{"from": "stdin"}').exit_code == 0
    assert [body for _, _, body in gateway.got] == [{"to": [], "anything": 1}, {"from": "stdin"}]


@pytest.mark.parametrize("answer", [(422, b'{"detail": "to is missing"}'), (500, b"<h1>"), (302, b""), (503, b"\xff")])
def test_a_refusal_is_printed_on_standard_error_and_ends_with_1(gateway: Gateway, answer: tuple[int, bytes]) -> None:
    gateway.answer = answer
    result = send(gateway, "--to", "a@example.com", "--title", "Hi")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "ntfg_test_key" not in result.stderr


def test_every_option_has_its_place_in_the_request() -> None:
    request = request_of(
        recipients=("a@example.com", "user:42"),
        title=None,
        body=None,
        template="order-shipped",
        data='{"order": 1}',
        channels=("email", "sms"),
        category="orders",
        priority="bulk",
        reference=None,
    )
    assert request == {
        "to": [{"email": "a@example.com"}, {"user": "42"}],
        "template": "order-shipped",
        "data": {"order": 1},
        "channels": ["email", "sms"],
        "category": "orders",
        "priority": "bulk",
    }


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("a@example.com", {"email": "a@example.com"}),
        ("odd:local@example.com", {"odd": "local@example.com"}),
        ("+15550100001", {"phone": "+15550100001"}),
        ("sms:+15550100001", {"phone": "+15550100001"}),
        ("user:42", {"user": "42"}),
        ("topic:release-notes", {"topic": "release-notes"}),
        ("slack:#ops", {"slack": "#ops"}),
        ("webhook:https://example.com/x", {"webhook": "https://example.com/x"}),
    ],
)
def test_a_recipient_is_written_in_one_word(text: str, recipient: dict[str, str]) -> None:
    assert recipient_of(text) == recipient
