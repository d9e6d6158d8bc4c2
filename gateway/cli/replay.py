"""`gateway replay`: send again what failed, by filter, straight on the configured database."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.options import Moment, fail, read_settings, unix_ms, with_config

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.storage.contract import DeliveryFilter, DeliveryView

_STATUSES: Final = ("failed", "bounced", "expired", "unknown")
_PAGE: Final = 200


@click.command(epilog="gateway replay --status failed --since 2h --provider smtp-main --dry-run")
@with_config
@click.option(
    "--status",
    "statuses",
    type=click.Choice(_STATUSES),
    multiple=True,
    default=("failed",),
    show_default=True,
    help="May be repeated.",
)
@click.option("--since", type=Moment(), metavar="TIME", help="Accepted since then: 2h, 1d, or 2026-11-23T09:00:00Z.")
@click.option("--until", type=Moment(), metavar="TIME", help="Accepted before then.")
@click.option("--channel")
@click.option("--provider", help="The provider of the last attempt.")
@click.option("--category")
@click.option("--reason", metavar="REASON", help="Such as provider_down or timed_out.")
@click.option("--project", help="Default: all projects.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="At most so many.")
@click.option("--force", is_flag=True, help="Also what is unknown: it may have arrived, and may arrive twice.")
@click.option("--dry-run", is_flag=True, help="Only list what would be sent again.")
def replay(config: Path | None, *, limit: int, force: bool, dry_run: bool, **given: Any) -> None:
    """Send again what failed.

    Each becomes a new delivery that names the old one (retry_of); the gateway or worker on this database sends it.
    What was sent again before is left out.
    """
    from gateway.errors import GatewayError
    from gateway.model import ids

    if "unknown" in given["statuses"] and not force:
        raise click.UsageError("What is unknown may have arrived: add --force to send it a second time.")
    where = _filter(**given)
    settings = read_settings(config)
    try:
        found = asyncio.run(_replay(settings, where, limit=limit, force=force, dry_run=dry_run))
    except (GatewayError, OSError) as error:
        fail(f"Not done: {error}")
    for one in found:
        old = one.id if one.retry_of is None or dry_run else one.retry_of
        reason = "" if one.reason is None else f" {one.reason.value}"
        click.echo(f"{ids.show(ids.DELIVERY, old)} {one.channel}{f' {one.status.value}{reason}' if dry_run else ''}")
    words = "would be sent again" if dry_run else "will be sent again"
    click.echo(f"{len(found)} {words}{f' (the limit of {limit} is reached)' if len(found) >= limit else ''}.", err=True)


def _filter(
    *,
    statuses: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    reason: str | None,
    **names: str | None,
) -> DeliveryFilter:
    from gateway.model.states import Status, Why
    from gateway.storage.contract import DeliveryFilter

    try:
        why = None if reason is None else Why(reason)
    except ValueError:
        raise click.UsageError(f"--reason must be one of {', '.join(Why)}.") from None
    return DeliveryFilter(
        project=names["project"],
        statuses=tuple(Status(one) for one in statuses),
        channel=names["channel"],
        provider=names["provider"],
        category=names["category"],
        reason=why,
        since=unix_ms(since),
        until=unix_ms(until),
    )


async def _replay(
    settings: Settings,
    where: DeliveryFilter,
    *,
    limit: int,
    force: bool,
    dry_run: bool,
) -> list[DeliveryView]:
    from gateway import bootstrap
    from gateway.storage.contract import Page

    if not dry_run:
        async with bootstrap.open_gateway(settings) as gateway:
            return list(await gateway.changes.retry_many(where.project, where, force=force, limit=limit))
    found: list[DeliveryView] = []
    async with bootstrap.open_store(settings) as store:
        page = Page(limit=_PAGE)
        while len(found) < limit and (rows := await store.find_deliveries(where, page)):
            found += [row for row in rows if row.address is not None and not row.retried]
            page = Page(limit=_PAGE, before=rows[-1].id)
    return found[:limit]
