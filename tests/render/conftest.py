"""A templates folder of the test's own, and the words every render call needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels.contract import Content
from gateway.model.requests import ContentRequest
from gateway.render.renderer import Person, Renderer
from gateway.render.template import Template

Write = Callable[[dict[str, str]], Path]
Render = Callable[..., Content]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below a templates folder; a template without a manifest gets one."""

    def write_files(files: dict[str, str]) -> Path:
        folder = tmp_path / "templates"
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        for home in folder.iterdir():
            if not home.name.startswith("_") and not (home / "template.toml").exists():
                (home / "template.toml").write_text("", encoding="utf-8")
        return folder

    return write_files


@pytest.fixture
def make(write: Write) -> Callable[..., Renderer]:
    """Make a renderer over files that must have no faults."""

    def make_renderer(files: dict[str, str], **settings: Any) -> Renderer:
        renderer = Renderer(write(files), public_url="https://notify.example.com", product="Example Shop", **settings)
        faults = [str(fault) for fault in renderer.load()]
        assert faults == []
        return renderer

    return make_renderer


@pytest.fixture(scope="session")
def shipped() -> Renderer:
    renderer = Renderer(None, public_url="https://notify.example.com", product="Example Shop")
    assert renderer.load() == []
    return renderer


@pytest.fixture(scope="session")
def render() -> Render:
    """Call `render` with everything a test does not care about filled in."""

    def call(
        renderer: Renderer,
        what: str | Template | ContentRequest,
        data: dict[str, Any] | None = None,
        *,
        channel: str = "email",
        locale: str | None = "en",
        name: str | None = None,
        timezone: str | None = None,
        layout: Template | None = None,
        **others: Any,
    ) -> Content:
        template = renderer.current(what) if isinstance(what, str) else what if isinstance(what, Template) else layout
        settings = {"category": "default", "reference": None, "unsubscribe_url": None, **others}
        return renderer.render(
            template=template,
            content=what if isinstance(what, ContentRequest) else None,
            channel=channel,
            data=data or {},
            person=Person(name=name, locale=locale, timezone=timezone),
            **settings,
        )

    return call
