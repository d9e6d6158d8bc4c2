"""Looks over a page as axe-core does: for what people with assistive technology would stumble over."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from playwright.async_api import Page

_FILE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"


@cache
def _source() -> str:
    return _FILE.read_text(encoding="utf-8")


async def violations(page: Page) -> list[str]:
    """List every violation, with where it is. Runs beside the page's Content-Security-Policy, as a debugger does."""
    await page.evaluate(_source())
    found = await page.evaluate("axe.run(document)")
    assert found["passes"], "axe looked at nothing"
    return [f"{one['id']}: {one['help']} {[node['html'] for node in one['nodes']]}" for one in found["violations"]]
