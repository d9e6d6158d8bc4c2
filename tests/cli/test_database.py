"""The commands that work on the database, on a real SQLite file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.bootstrap import open_store
from gateway.cli import main
from gateway.config.settings import Settings
from gateway.model.ids import DELIVERY, IdSource, show
from gateway.model.keys import hash_key, is_well_formed
from gateway.model.states import Mode, OnUnknown, Scope, Status, Why
from gateway.storage.contract import Acceptance, DeliveryFilter, DeliveryRow, NotificationRow, Page


@pytest.fixture(autouse=True)
def _fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner(env={"GATEWAY_CONFIG": ""}).invoke(main, arguments, catch_exceptions=False)


def on_store(act: Callable[[Any], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with open_store(Settings()) as store:
            return await act(store)

    return asyncio.run(opened())


def test_a_key_is_made_listed_and_revoked() -> None:
    made = run(
        "keys", "create", "--name", "ci", "--mode", "test", "--scope", "send", "--scope", "read", "--rate", "5/s"
    )
    assert made.exit_code == 0
    key = made.stdout.removesuffix("\n")
    assert is_well_formed(key)
    row = on_store(lambda store: store.key_by_hash(hash_key(key)))
    assert (row.name, row.project, row.mode, row.scopes, row.rate) == (
        "ci",
        "default",
        Mode.TEST,
        (Scope.SEND, Scope.READ),
        "5/s",
    )
    [listed] = json.loads(run("keys", "list", "--json").stdout)
    assert listed["hint"] == f"…{key[-4:]}"
    assert key not in run("keys", "list").stdout
    assert run("keys", "revoke", listed["id"]).exit_code == 0
    assert run("keys", "revoke", listed["id"]).exit_code == 0
    assert on_store(lambda store: store.key_by_hash(hash_key(key))).revoked_at is not None


def test_an_expiry_is_kept() -> None:
    key = run("keys", "create", "--name", "x", "--expires", "90d").stdout.strip()
    row = on_store(lambda store: store.key_by_hash(hash_key(key)))
    assert abs(row.expires_at - (time.time() + 90 * 86_400) * 1000) < 60_000


def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    result = run("keys", "revoke", "key_" + "0" * 32)
    assert result.exit_code == 1
    assert "There is no key" in result.stderr


def test_a_database_that_cannot_be_used_ends_with_1_and_a_reason() -> None:
    Path("var").write_text("a file where a folder should be")
    for command in (["keys", "list"], ["replay", "--dry-run"], ["migrate"]):
        result = run(*command)
        assert result.exit_code == 1, command
        assert result.stderr.strip()
        assert "Traceback" not in result.stderr


def test_migrating_twice_is_safe() -> None:
    first, second = run("migrate"), run("migrate")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "applied" in first.stdout
    assert "applied" not in second.stdout


async def store_deliveries(store: Any, *statuses: Status) -> list[str]:
    """Keep one notification with a delivery of each status; answers their ids."""
    source = IdSource()
    now = time.time_ns() // 1_000_000
    rows = [
        DeliveryRow(
            id=source.new(now),
            channel="email",
            lane="email:normal",
            position=position,
            address=f"someone{position}@example.com",
            user_id=None,
            recipient=b"{}",
            status=status,
            final=True,
            reason=Why.PROVIDER_DOWN,
            due_at=now,
            deadline_at=now + 1000,
            on_unknown=OnUnknown.RESEND,
        )
        for position, status in enumerate(statuses)
    ]
    notification = NotificationRow(
        id=source.new(now),
        project="default",
        mode=Mode.LIVE,
        category="default",
        priority="normal",
        template_key=None,
        template_version=None,
        reference=None,
        request=b'{"content":{"title":"x"}}',
        created_at=now,
    )
    await store.accept(Acceptance(notification=notification, deliveries=tuple(rows)))
    return [show(DELIVERY, row.id) for row in rows]


def test_replay_sends_again_what_failed_once_and_only_that() -> None:
    failed, unknown, _ = on_store(
        lambda store: store_deliveries(store, Status.FAILED, Status.UNKNOWN, Status.DELIVERED),
    )
    assert run("replay", "--dry-run").stdout == f"{failed} email failed provider_down\n"
    assert run("replay", "--channel", "sms").stdout == ""
    assert run("replay", "--since", "1h", "--reason", "timed_out").stdout == ""
    assert run("replay").stdout == f"{failed} email\n"
    assert run("replay").stdout == ""
    assert run("replay", "--status", "unknown", "--force").stdout == f"{unknown} email\n"
    found = on_store(lambda store: store.find_deliveries(DeliveryFilter(), Page(limit=10)))
    again = {show(DELIVERY, one.retry_of): one.status for one in found if one.retry_of is not None}
    assert again == {failed: Status.QUEUED, unknown: Status.QUEUED}
