"""What several commands share: reading the configuration, times as people write them, and how to end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import click

if TYPE_CHECKING:
    from gateway.config.settings import Settings

FAILED: Final = 1
MISUSED: Final = 2

_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])").fullmatch
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

with_config: Final[Callable[[Any], Any]] = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The configuration file. Default: the one GATEWAY_CONFIG names, else gateway.toml here, if there is one.",
)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say on standard error what went wrong, and end."""
    click.echo(message, err=True)
    raise click.exceptions.Exit(code)


def read_settings(config: Path | None) -> Settings:
    """Read the configuration; with faults, list them all on standard error and end with 2."""
    from gateway.config.faults import ConfigurationFaults
    from gateway.config.load import load
    from gateway.registry import Registry

    try:
        return load(config, os.environ, Registry.load())
    except ConfigurationFaults as faults:
        count = len(faults.faults)
        fail(
            f"{faults}\n\n{count} fault{'' if count == 1 else 's'} in the configuration: nothing was started.", MISUSED
        )


def logs_aside(settings: Settings) -> None:
    """Keep what is logged out of a command's own output: errors alone, on standard error."""
    import sys

    from msgspec import structs

    from gateway.config.settings import LogLevel
    from gateway.observe.logging import configure

    configure(structs.replace(settings.logging, level=LogLevel.ERROR), sys.stderr)


def json_object(text: str, option: str) -> dict[str, Any]:
    """Read an option that holds a JSON object."""
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f'{option} must be a JSON object, such as \'{{"name": "Ada"}}\'.')
    return cast("dict[str, Any]", value)


class Moment(click.ParamType[datetime]):
    """A time in RFC 3339, or a span such as `2h` from now: back for `--since`, ahead for `--expires`."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self._sign = 1 if ahead else -1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, as UTC."""
        if isinstance(value, datetime):
            return value
        span = _SPAN(value)
        if span is not None:
            return datetime.now(UTC) + self._sign * timedelta(**{_UNITS[span[2]]: int(span[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write 90d, 2h, 30m, or 2026-11-23T09:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} names no offset from UTC: add Z or +02:00", param, ctx)
        return moment.astimezone(UTC)


def unix_ms(moment: datetime | None) -> int | None:
    """Turn a time into Unix milliseconds."""
    return None if moment is None else int(moment.timestamp() * 1000)


def utc(at_ms: int | None) -> str:
    """Write Unix milliseconds as RFC 3339 to the second; a dash for none."""
    return "-" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Lay rows out in columns."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)
