"""`gateway providers` and `gateway check --online`, on a real file and real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.gateway import write_config
from tests.support.http_server import HttpServer, Reply

GOOD = {"GET /server": Reply(200, json={"ID": 1})}
BAD = {"GET /server": Reply(401, json={"ErrorCode": 10, "Message": "no such token"})}


@contextlib.contextmanager
def answering(*routes: dict[str, Reply]) -> Iterator[list[str]]:
    """Run servers beside the command, which brings an event loop of its own; gives their addresses."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(made: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(made, loop).result(10)

    stack = contextlib.AsyncExitStack()
    try:
        yield [wait(stack.enter_async_context(HttpServer(each))).url for each in routes]
    finally:
        wait(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str, urls: list[str] = ["http://127.0.0.1:9"]) -> Result:  # noqa: B006 - only read
        providers: dict[str, Any] = {
            f"postmark-{number}": {
                "use": "email_postmark",
                "server_token": "s3cret-token",
                "base_url": url,
                "proxy": "direct",
            }
            for number, url in enumerate(urls, 1)
        }
        config = {
            "environment": "production",
            "public_url": "https://notify.example.com",
            "database": f"sqlite:///{tmp_path}/gateway.db",
            "secret_key": "the-secret-key-of-these-tests-000000001",
            "providers": {**providers, "hooks": {"use": "hook_signed"}},
            "channels": {
                "email": {"providers": list(providers), "sender": "a@example.com"},
                "webhook": {"providers": ["hooks"]},
            },
        }
        path = write_config(tmp_path / "gateway.toml", config)
        return CliRunner(env={"GATEWAY_CONFIG": str(path)}).invoke(main, arguments, catch_exceptions=False)

    return go


def test_a_provider_is_paused_listed_and_resumed(run: Callable[..., Result]) -> None:
    paused = run("providers", "pause", "postmark-1")
    assert (paused.exit_code, paused.output) == (0, "postmark-1 is paused.\n")
    shown = run("providers", "list", "--json")
    assert "s3cret" not in shown.output
    listed = json.loads(shown.stdout)
    assert [(one["name"], one["status"]) for one in listed] == [("postmark-1", "paused"), ("hooks", "ok")]
    assert listed[0]["paused_by"] == "command line"
    assert run("providers", "resume", "postmark-1").output == "postmark-1 is in use.\n"
    table = run("providers", "list").stdout.splitlines()
    assert table[0].split()[:5] == ["name", "use", "channel", "position", "status"]
    assert table[1].split()[:5] == ["postmark-1", "email_postmark", "email", "1", "ok"]


@pytest.mark.parametrize("word", ["pause", "resume", "check"])
def test_an_unknown_name_ends_with_1_and_names_the_known(run: Callable[..., Result], word: str) -> None:
    result = run("providers", word, "nobody")
    assert result.exit_code == 1
    assert "There is no provider nobody; configured are: postmark-1, hooks." in result.stderr


def test_checking_online_asks_every_provider_and_prints_a_line_each(run: Callable[..., Result]) -> None:
    with answering(GOOD, GOOD) as urls:
        result = run("check", "--online", urls=urls)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[-3:]
    assert [line.split()[:2] for line in lines] == [
        ["postmark-1", "ok"],
        ["postmark-2", "ok"],
        ["hooks", "unchecked"],
    ]
    assert lines[2].endswith("cannot be checked without sending")


def test_checking_online_ends_with_1_where_one_is_refused_and_shows_no_secret(run: Callable[..., Result]) -> None:
    with answering(GOOD, BAD) as urls:
        result = run("check", "--online", urls=urls)
        named = run("providers", "check", "postmark-1", urls=urls)
    assert result.exit_code == 1
    assert "postmark-2  failed     HTTP 401: no such token" in result.stdout
    assert "s3cret" not in result.output
    assert (named.exit_code, len(named.stdout.splitlines())) == (0, 1)


def test_checking_without_online_connects_to_nothing(run: Callable[..., Result]) -> None:
    with answering(GOOD) as urls:
        assert run("check", urls=urls).exit_code == 0
    assert run("check", urls=["http://127.0.0.1:9"]).exit_code == 0
