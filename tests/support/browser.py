"""Starts the system's Chromium for tests that look at pages. Downloads none, and talks to nobody.

A test that needs it is marked `browser` and asks for `chromium_or_skip()`: without a Chromium it is reported as left
out, and with `CI=true` in the environment it fails, so that a build cannot pass by having no browser.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # tests often run as root in a container, where Chromium refuses its own sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> Path | None:
    """Find a Chromium: the one `CHROMIUM` names, or one on the path."""
    named = os.environ.get("CHROMIUM")
    if named:
        return Path(named)
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else None


def chromium_or_skip() -> Path:
    """Answer the browser, or leave the test out; in CI its absence is a failure."""
    path = find_chromium()
    if path is None:
        reason = "left out: there is no Chromium on this machine (Debian: apt-get install chromium)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Open a headless Chromium and close it again."""
    path = chromium_or_skip()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()
