"""`gateway serve`, `work`, `migrate` and `check`: running a gateway, and what comes before."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.options import FAILED, fail, read_settings, with_config
from gateway.cli.providers import check_online, said_good

if TYPE_CHECKING:
    from gateway.config.settings import Settings


@click.command()
@with_config
@click.option("--host", help="Listen on this address instead of [server] host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Listen on this port instead of [server] port.")
@click.option("--no-work", is_flag=True, help="Only the API: leave the sending to `gateway work` processes.")
@click.option("--processes", type=click.IntRange(1, 64), help="Run so many processes instead of [server] processes.")
def serve(config: Path | None, host: str | None, port: int | None, processes: int | None, *, no_work: bool) -> None:
    """Run the API, and send what is accepted.

    SIGTERM or Ctrl-C stops it gently: what is being sent is finished or given back. In development without a
    bootstrap_key, a key is made on the first start, kept beside the database, and shown with a ready-to-paste request.
    """
    gc.disable()  # until it runs: what is built at the start stays, and looking through it takes a tenth of the time
    from msgspec import structs

    from gateway import bootstrap
    from gateway.cli.banner import banner, reachable_url
    from gateway.config.development import development_key
    from gateway.config.settings import Environment, Secret
    from gateway.errors import GatewayError

    settings = read_settings(config)
    here = host if host is not None else settings.server.host
    wanted = port if port is not None else settings.server.port
    settings = structs.replace(settings, public_url=reachable_url(settings, here, wanted))
    made: str | None = None
    try:
        if settings.bootstrap_key is None and settings.environment is Environment.DEVELOPMENT:
            made = development_key(settings)
            settings = structs.replace(settings, bootstrap_key=Secret(made))

        def listening(bound: int) -> None:
            click.echo(banner(settings, host=here, port=bound, made_key=made))

        code = bootstrap.serve(
            settings,
            host=here,
            port=wanted,
            work=not no_work,
            processes=processes or settings.server.processes,
            banner=listening,
        )
    except (GatewayError, OSError) as error:
        fail(f"The gateway did not start: {error}")
    raise click.exceptions.Exit(code)


@click.command()
@with_config
@click.option("--processes", type=click.IntRange(1, 64), help="Run so many processes instead of [server] processes.")
def work(config: Path | None, processes: int | None) -> None:
    """Send what is accepted, without an API.

    Any number of these may run on one PostgreSQL database, beside `gateway serve --no-work`.
    """
    gc.disable()  # as in `serve`
    from gateway import bootstrap
    from gateway.errors import GatewayError

    settings = read_settings(config)
    try:
        code = bootstrap.work(settings, processes=processes or settings.server.processes)
    except (GatewayError, OSError) as error:
        fail(f"The worker did not start: {error}")
    raise click.exceptions.Exit(code)


@click.command()
@with_config
def migrate(config: Path | None) -> None:
    """Bring the database's schema up to date.

    Safe to run again, and while an older gateway is running. SQLite is migrated by `gateway serve` itself.
    """
    from gateway.errors import GatewayError

    settings = read_settings(config)
    try:
        done = asyncio.run(_migrate(settings))
    except (GatewayError, OSError) as error:
        fail(f"Not migrated: {error}")
    for revision in done:
        click.echo(f"applied {revision}")
    click.echo("The schema is up to date.")


async def _migrate(settings: Settings) -> list[str]:
    from gateway.clock import Clock
    from gateway.model.ids import IdSource
    from gateway.storage.store import SqlStore

    store = SqlStore(settings.database.reveal(), clock=Clock(), ids=IdSource())
    try:
        return list(await store.migrate())
    finally:
        await store.close()


@click.command()
@with_config
@click.option("--show", is_flag=True, help="Print the whole configuration, defaults included, with stars for secrets.")
@click.option("--online", is_flag=True, help="Also ask each provider whether the credentials are good.")
def check(config: Path | None, *, show: bool, online: bool) -> None:
    """Check the configuration, and list every fault with its line.

    Reads the file, the GATEWAY_ variables and the secrets they name, and connects to nothing; with --online, to each
    provider, where it sends nothing to anyone. Exit code 2 with faults, 1 if a provider says no.
    """
    from gateway.config.describe import describe

    settings = read_settings(config)
    shown = describe(settings)
    if show:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo(f"environment  {shown['environment']}")
    click.echo(f"database     {shown['database']}")
    for name, channel in settings.channels.items():
        click.echo(f"channel      {name} through {', '.join(channel.providers) or 'no provider'}")
    for name, provider in settings.providers.items():
        click.echo(f"provider     {name} ({provider.use})")
    if not settings.is_production:
        allowed = ", ".join(settings.staging.allow) or "nothing"
        click.echo(f"may leave    {allowed}; the rest: {settings.staging.otherwise.value}")
    click.echo("The configuration is good.")
    if online and not said_good(check_online(settings)):
        raise click.exceptions.Exit(FAILED)
