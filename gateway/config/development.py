"""What a gateway without a configuration makes for itself, and keeps beside its database.

Owns the state folder and the secrets kept there. A key is made only in development: elsewhere the operator names one,
or makes one with `gateway keys create`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.config.rules import KEY_LEAST
from gateway.config.settings import Environment, Settings
from gateway.model.keys import make_key
from gateway.model.states import Mode

DEVELOPMENT_KEY_FILE: Final = "development.key"
_STATE_FOLDER: Final = Path("var")
"""Where state is kept when the database is on another machine."""


def state_folder(settings: Settings) -> Path:
    """Name the folder beside the SQLite file, or `var` in the working folder."""
    url = settings.database.reveal()
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///").partition("?")[0]).parent
    return _STATE_FOLDER


def kept_secret(file: Path, make: Callable[[], str]) -> str:
    """Read a secret that this gateway made for itself, making it the first time; readable by its owner alone.

    Two processes that start at once agree on one: the file appears whole or not at all.
    """
    kept = _read(file)
    if kept is not None:
        return kept
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(make() + "\n")
        try:
            os.link(fresh, file)
        except FileExistsError:
            if _read(file) is None:  # empty or cut short by a full disk
                fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return file.read_text(encoding="ascii").strip()


def development_key(settings: Settings) -> str:
    """Give the key that a development gateway accepts without being told one; raises `ValueError` elsewhere."""
    if settings.environment is not Environment.DEVELOPMENT:
        raise ValueError(f"a key is never made up in {settings.environment}: set bootstrap_key")
    return kept_secret(
        state_folder(settings) / DEVELOPMENT_KEY_FILE,
        lambda: make_key(Mode.LIVE, secrets.token_bytes),
    )


def _read(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return text if len(text) >= KEY_LEAST else None
