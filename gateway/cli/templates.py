"""`gateway templates`: what is wrong with them, and what they look like, without a gateway running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import fail, json_object, read_settings, with_config

if TYPE_CHECKING:
    from channels.contract import Content
    from gateway.render.renderer import Renderer
    from gateway.render.template import Template


@click.group()
def templates() -> None:
    """Check and preview the templates of the configured folder."""


@templates.command("check")
@with_config
def check_templates(config: Path | None) -> None:
    """Compile every template, render each on every channel, and list every fault and what fits its medium badly."""
    renderer, faults = _load(config)
    faults += renderer.try_examples()
    for fault in faults:
        click.echo(str(fault), err=True)
    errors = sum(fault.severity == "error" for fault in faults)
    if errors:
        fail(f"{errors} fault{'' if errors == 1 else 's'} in the templates.")
    found = renderer.templates()
    click.echo(f"{len(found)} template{'' if len(found) == 1 else 's'}, all good.")


@templates.command()
@with_config
@click.argument("key")
@click.option("--data", metavar="JSON", help="Its variables. Default: the examples of its template.toml.")
@click.option("--locale", help="The reader's language, such as de-AT.")
@click.option("--channel", help="Only this channel. Default: every one.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write KEY.CHANNEL.html, .txt and .json files there.",
)
def preview(config: Path | None, key: str, data: str | None, locale: str | None, **given: Any) -> None:
    """Show what the template KEY looks like, as text, or as files to open in a browser."""
    renderer, faults = _load(config)
    template = renderer.current(key)
    if template is None:
        for fault in faults:
            click.echo(str(fault), err=True)
        known = ", ".join(one.key for one in renderer.templates())
        fail(f"There is no template {key}. There are: {known}.")
    variables = _variables(template, data)
    out: Path | None = given["out"]
    channels = [given["channel"]] if given["channel"] else _channels_of(template)
    for channel in channels:
        content = _render(renderer, template, channel, variables, locale)
        if out is None:
            click.echo(_as_text(channel, content))
        else:
            for file in _write(out, f"{key}.{channel}", content):
                click.echo(str(file))


def _channels_of(template: Template) -> list[str]:
    from gateway.render.renderer import channels_of

    return channels_of(template)


def _load(config: Path | None) -> tuple[Renderer, list[Any]]:
    from gateway.render.renderer import Renderer

    settings = read_settings(config)
    wanted = settings.templates
    renderer = Renderer(
        None if wanted.folder is None else Path(wanted.folder),
        default_locale=wanted.default_locale,
        public_url=settings.public_url,
        product=wanted.product,
    )
    return renderer, renderer.load()


def _variables(template: Template, data: str | None) -> dict[str, Any]:
    if data is None:
        examples = template.examples()
        if examples is None:
            raise click.UsageError("This template has variables without an example: give --data.")
        return examples
    given = json_object(data, "--data")
    faults = template.data_faults(given)
    if faults:
        fail("\n".join(f"{field}: {message}" for field, _, message in faults))
    return given


def _render(
    renderer: Renderer,
    template: Template,
    channel: str,
    data: dict[str, Any],
    locale: str | None,
) -> Content:
    from gateway.render.renderer import Person
    from gateway.render.sandbox import RenderFailed

    try:
        return renderer.render(
            template=template,
            content=None,
            channel=channel,
            data=data,
            person=Person(name="Ada Example", locale=locale),
            category=template.category or "default",
            reference=None,
            unsubscribe_url="https://example.com/unsubscribe/preview",
            preferences_url="https://example.com/preferences/preview",
        )
    except RenderFailed as error:
        fail(f"{template.key} on {channel}: {error.detail}")


def _as_text(channel: str, content: Content) -> str:
    parts = [f"--- {channel}"]
    if content.subject is not None:
        parts.append(f"Subject: {content.subject}\n")
    if content.text is not None:
        parts.append(content.text)
    if content.data:
        parts.append(json.dumps(content.data, indent=2, ensure_ascii=False, default=str))
    return "\n".join(parts)


def _write(folder: Path, name: str, content: Content) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    data = json.dumps(content.data, indent=2, ensure_ascii=False, default=str) if content.data else None
    for suffix, text in (("txt", content.text), ("html", content.html), ("json", data)):
        if text is not None:
            file = folder / f"{name}.{suffix}"
            file.write_text(text, encoding="utf-8")
            written.append(file)
    return written
