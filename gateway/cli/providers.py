"""`gateway providers`: how the configured providers stand, and an operator's word about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.options import FAILED, fail, logs_aside, read_settings, table, utc, with_config

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.router.attending import Attending, ProviderState
    from gateway.router.checking import Checked

_Answer = TypeVar("_Answer")
_BY: str = "command line"


@click.group()
def providers() -> None:
    """List, pause, resume and check providers.

    Works on the configured database, whether or not a gateway is running. A running one notices within two seconds.
    """


@providers.command("list")
@with_config
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def list_(config: Path | None, *, as_json: bool) -> None:
    """List providers by channel, in failover order: in use, failing, stopped or paused."""
    shown = [_shown(one) for one in _attended(read_settings(config), lambda desk: desk.states())]
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif shown:
        rows = [tuple("-" if cell is None else str(cell) for cell in one.values()) for one in shown]
        click.echo(table(tuple(shown[0]), rows))
    else:
        click.echo("No provider is configured.", err=True)


@providers.command()
@with_config
@click.argument("name")
def pause(config: Path | None, name: str) -> None:
    """Pause the provider NAME: the next one of its channel takes over, or its deliveries wait. Safe to repeat."""
    settings = _naming(config, name)
    _attended(settings, lambda desk: desk.pause(name, _BY))
    click.echo(f"{name} is paused.")


@providers.command()
@with_config
@click.argument("name")
def resume(config: Path | None, name: str) -> None:
    """Take the provider NAME into use again, even if it was left alone for failing. Safe to repeat."""
    settings = _naming(config, name)
    _attended(settings, lambda desk: desk.resume(name, _BY))
    click.echo(f"{name} is in use.")


@providers.command()
@with_config
@click.argument("names", metavar="[NAME]...", nargs=-1)
def check(config: Path | None, names: tuple[str, ...]) -> None:
    """Ask providers, all or those named, whether their credentials are good. Sends nothing to anyone.

    Exit code 1 if one of them says no.
    """
    settings = read_settings(config)
    for name in names:
        _refuse_unknown(settings, name)
    if not said_good(check_online(settings, names)):
        raise click.exceptions.Exit(FAILED)


def check_online(settings: Settings, names: Sequence[str] = ()) -> list[Checked]:
    """Ask the named providers, or all of them at once. Needs no database."""
    from gateway import bootstrap

    logs_aside(settings)
    return asyncio.run(bootstrap.check_providers(settings, tuple(names) or tuple(settings.providers)))


def said_good(found: Sequence[Checked]) -> bool:
    """Print a line for each, and say whether none of them failed."""
    width = max((len(one.provider) for one in found), default=0)
    for one in found:
        word = "unchecked" if one.ok is None else "ok" if one.ok else "failed"
        click.echo(f"{one.provider.ljust(width)}  {word.ljust(9)}  {one.detail}")
    if not found:
        click.echo("No provider is configured.", err=True)
    return all(one.ok is not False for one in found)


def _naming(config: Path | None, name: str) -> Settings:
    settings = read_settings(config)
    _refuse_unknown(settings, name)
    return settings


def _refuse_unknown(settings: Settings, name: str) -> None:
    if name not in settings.providers:
        known = ", ".join(settings.providers) or "none"
        fail(f"There is no provider {name}; configured are: {known}.")


def _shown(one: ProviderState) -> dict[str, Any]:
    found = one.found
    return {
        "name": one.handle.name,
        "use": one.handle.use,
        "channel": one.channel,
        "position": one.position,
        "status": one.status.value,
        "until": None if found.until is None else utc(found.until),
        "last": found.last_outcome,
        "last_at": None if found.last_at is None else utc(found.last_at),
        "paused_by": one.handle.standing.paused_by,
        "detail": found.detail,
    }


def _attended(settings: Settings, act: Callable[[Attending], Awaitable[_Answer]]) -> _Answer:
    """Open the store and the providers, act, close them; end with 1 if the database cannot be used."""
    from gateway import bootstrap
    from gateway.errors import GatewayError

    async def run() -> _Answer:
        async with bootstrap.open_attending(settings) as desk:
            return await act(desk)

    logs_aside(settings)
    try:
        return asyncio.run(run())
    except (GatewayError, OSError) as error:
        fail(f"The database cannot be used: {error}")
