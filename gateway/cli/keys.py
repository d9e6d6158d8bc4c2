"""`gateway keys`: API keys, straight on the configured database."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from gateway.cli.options import MISUSED, Moment, fail, read_settings, table, unix_ms, utc, with_config

if TYPE_CHECKING:
    from gateway.storage.contract import KeyRow, Store

_Answer = TypeVar("_Answer")
_PROJECT: Final = re.compile(r"[A-Za-z0-9._-]{1,63}").fullmatch
_NAME_MOST: Final = 100


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    Works on the configured database, whether or not a gateway is running: the way in when no key is known. A running
    gateway notices within five seconds.
    """


@keys.command()
@with_config
@click.option("--name", required=True, help="Who uses it: shown in lists and logs.")
@click.option("--project", default="default", show_default=True, help="Whose notifications it sends and sees.")
@click.option(
    "--mode",
    type=click.Choice(["live", "team", "test"]),
    default="live",
    show_default=True,
    help="team reaches only allowlisted addresses; test never leaves the gateway.",
)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["send", "read", "manage", "admin"]),
    multiple=True,
    default=("send",),
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--expires", type=Moment(ahead=True), metavar="TIME", help="90d, or 2027-01-01T00:00:00Z. Default: never."
)
@click.option("--rate", help="Its own limit, such as 100/s, instead of its mode's.")
def create(config: Path | None, rate: str | None, expires: datetime | None, **given: Any) -> None:
    """Make a key and print it, alone, on standard output.

    It is shown this once: only its hash is stored.
    """
    import secrets
    import time

    from gateway.config.settings import Rate
    from gateway.model import ids
    from gateway.model.keys import hash_key, hint, make_key
    from gateway.model.states import Mode, Scope
    from gateway.storage.contract import KeyRow

    now = time.time_ns() // 1_000_000
    expires_at = unix_ms(expires)
    _refuse_bad(given["name"], given["project"], expires_at, now)
    try:
        rule = None if rate is None else str(Rate.parse(rate))
    except ValueError as error:
        raise click.UsageError(f"--rate: {error}") from None
    key = make_key(Mode(given["mode"]), secrets.token_bytes)
    row = KeyRow(
        id=ids.IdSource().new(now),
        name=given["name"],
        project=given["project"],
        mode=Mode(given["mode"]),
        scopes=tuple(dict.fromkeys(Scope(scope) for scope in given["scopes"])),
        hash=hash_key(key),
        hint=hint(key),
        rate=rule,
        created_at=now,
        expires_at=expires_at,
    )
    _with_store(config, lambda store: store.add_key(row))
    click.echo(f"{ids.show(ids.KEY, row.id)} ({row.mode.value}; {', '.join(row.scopes)}): keep it now.", err=True)
    click.echo(key)


def _refuse_bad(name: str, project: str, expires_at: int | None, now: int) -> None:
    if not name.strip() or len(name) > _NAME_MOST or not name.isprintable():
        raise click.UsageError(f"--name must be one printable line of at most {_NAME_MOST} characters.")
    if _PROJECT(project) is None:
        raise click.UsageError("--project is made of letters, digits, dots, hyphens and underscores (at most 63).")
    if expires_at is not None and expires_at <= now:
        raise click.UsageError("--expires must be in the future.")


@keys.command("list")
@with_config
@click.option("--project", help="Only this project's. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def list_(config: Path | None, project: str | None, *, as_json: bool) -> None:
    """List keys, newest first, revoked ones too. The keys themselves are not stored."""
    rows = _with_store(config, lambda store: store.keys(project))
    shown = [_shown(row) for row in rows]
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif shown:
        click.echo(table(tuple(shown[0]), [tuple(str(cell) for cell in one.values()) for one in shown]))
    else:
        click.echo("There are no keys.", err=True)


@keys.command()
@with_config
@click.argument("key_id", metavar="ID")
def revoke(config: Path | None, key_id: str) -> None:
    """Revoke the key with this ID (key_…, from `gateway keys list`). Safe to repeat."""
    import time

    from gateway.model import ids

    id_ = ids.read(ids.KEY, key_id)
    if id_ is None:
        # What was given may be the key itself: it is not repeated.
        fail("That is no key's id: they begin with key_ (see `gateway keys list`).", MISUSED)
    if not _with_store(config, lambda store: store.revoke_key(id_, time.time_ns() // 1_000_000)):
        fail(f"There is no key {key_id}.")
    click.echo(f"{key_id} is revoked.")


def _shown(row: KeyRow) -> dict[str, str]:
    from gateway.model import ids

    return {
        "id": ids.show(ids.KEY, row.id),
        "name": row.name,
        "project": row.project,
        "mode": row.mode.value,
        "scopes": ",".join(row.scopes),
        "hint": f"…{row.hint}",
        "rate": row.rate or "-",
        "created": utc(row.created_at),
        "expires": utc(row.expires_at),
        "revoked": utc(row.revoked_at),
        "last_used": utc(row.last_used_at),
    }


def _with_store(config: Path | None, act: Callable[[Store], Awaitable[_Answer]]) -> _Answer:
    """Open the configured store, act, close it; end with 1 if the database cannot be used."""
    from gateway import bootstrap
    from gateway.errors import GatewayError

    settings = read_settings(config)

    async def run() -> _Answer:
        async with bootstrap.open_store(settings) as store:
            return await act(store)

    try:
        return asyncio.run(run())
    except (GatewayError, OSError) as error:
        fail(f"The database cannot be used: {error}")
