"""What `gateway serve` prints once it answers requests: where, and what to paste to see it work."""

from __future__ import annotations

from typing import Final

import gateway
from gateway.config.describe import without_password
from gateway.config.development import DEVELOPMENT_KEY_FILE, state_folder
from gateway.config.settings import Environment, Settings

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - read, not bound
_EXAMPLE: Final = '{"to": {"email": "someone@example.com"}, "content": {"title": "Hello", "body": "It **works**."}}'


def banner(settings: Settings, *, host: str, port: int, made_key: str | None) -> str:
    """Write it. Only a key that this gateway made for itself is shown; a configured one never is."""
    url = f"http://{_shown(host)}:{port}"
    database = without_password(settings.database.reveal())
    lines = [
        f"Notification gateway {gateway.__version__} · {settings.environment.value} · {database}",
        "",
        f"  listening on  {url}",
        f"  API page      {url}/schema",
    ]
    if settings.is_production:
        return "\n".join([*lines, ""])
    if made_key is not None:
        lines.append(f"  API key       {made_key}  (kept in {state_folder(settings) / DEVELOPMENT_KEY_FILE})")
    bearer = f"'Authorization: Bearer {made_key}'" if made_key is not None else '"Authorization: Bearer $GATEWAY_KEY"'
    return "\n".join(
        [
            *lines,
            "",
            "Send a message:",
            "",
            f"  curl -sS {url}/v1/notifications -H {bearer} -H 'Content-Type: application/json' -d '{_EXAMPLE}'",
            "",
            f"{_what_leaves(settings)} See what would have gone out:",
            "",
            f"  curl -sS {url}/v1/captured -H {bearer}",
            "",
        ],
    )


def reachable_url(settings: Settings, host: str, port: int) -> str:
    """Name the public URL: in development, where none is configured, the place this gateway listens on.

    Else the links in the first answer somebody sees would lead to another port than the one they chose.
    """
    chosen = settings.public_url != Settings().public_url
    if chosen or settings.environment is not Environment.DEVELOPMENT or port == 0:
        return settings.public_url
    return f"http://{_shown(host)}:{port}"


def _what_leaves(settings: Settings) -> str:
    where = settings.environment.value
    if settings.staging.allow:
        return f"In {where}, only what [staging] allow names leaves."
    return f"In {where}, nothing leaves: messages are captured."


def _shown(host: str) -> str:
    if host in _EVERYWHERE:
        return _EVERYWHERE[host]
    return f"[{host}]" if ":" in host else host
