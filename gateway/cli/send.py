"""`gateway send`: a request to a running gateway, from a shell or a script."""

from __future__ import annotations

import http.client
import json
import sys
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import click

from gateway.cli.options import fail, json_object

_PREFIXES: Final = ("user", "topic")
_MOST_BYTES: Final = 16 * 1024 * 1024
_ACCEPTED: Final = range(200, 300)


@click.command(
    epilog="\b\n"  # click's mark for lines that stay as they are
    'gateway send --to someone@example.com --title Hello --body "It **works**."\n'
    'gateway send --to user:42 --template order-shipped --data \'{"order": "A-1"}\'\n'
    "gateway send --json request.json",
)
@click.option("--url", envvar="GATEWAY_URL", default="http://127.0.0.1:8080", show_default=True, show_envvar=True)
@click.option("--key", envvar="GATEWAY_KEY", show_envvar=True, help="An API key. The variable keeps it out of `ps`.")
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="WHO",
    help="An address, phone number, user:ID, topic:NAME or CHANNEL:ADDRESS; may be repeated.",
)
@click.option("--title", help="The title of a message without a template.")
@click.option("--body", help="Its text, in Markdown; - reads standard input.")
@click.option("--template", metavar="KEY", help="A template instead of title and body.")
@click.option("--data", metavar="JSON", help='The template\'s variables: \'{"name": "Ada"}\'.')
@click.option(
    "--channel", "channels", multiple=True, help="Only this channel; may be repeated, in order of preference."
)
@click.option("--category")
@click.option("--priority", type=click.Choice(["critical", "normal", "bulk"]))
@click.option("--reference", help="Your own word for it, echoed in every event.")
@click.option("--idempotency-key", metavar="TEXT", help="Sending again with the same key sends once.")
@click.option(
    "--json", "whole", type=click.File("rb"), metavar="FILE", help="The whole request; - reads standard input."
)
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=30.0, show_default=True, help="In seconds.")
def send(url: str, key: str | None, whole: Any, idempotency_key: str | None, timeout: float, **parts: Any) -> None:
    """Send a notification through a running gateway, and print its answer."""
    if not key:
        raise click.UsageError("An API key is needed: set GATEWAY_KEY, or give --key.")
    place = urlsplit(url)
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise click.UsageError("--url must be an http or https URL, such as http://127.0.0.1:8080.")
    given = [name for name, value in parts.items() if value]
    if whole is not None and given:
        raise click.UsageError("--json is the whole request: leave the other parts out.")
    body = whole.read(_MOST_BYTES) if whole is not None else json.dumps(request_of(**parts)).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    status, answer = _post(place, body, headers, timeout)
    if status in _ACCEPTED:
        click.echo(_pretty(answer))
    else:
        fail(_pretty(answer) or f"The gateway answered {status}.")


def request_of(
    *,
    recipients: tuple[str, ...],
    title: str | None,
    body: str | None,
    template: str | None,
    data: str | None,
    channels: tuple[str, ...],
    **fields: str | None,
) -> dict[str, Any]:
    """Write the request that the options mean; raises `click.UsageError` for what contradicts itself."""
    if not recipients:
        raise click.UsageError("Say to whom: --to someone@example.com, or --json with a whole request.")
    if (template is None) == (title is None):
        raise click.UsageError("Give either --template, or --title (and --body).")
    to = [recipient_of(one) for one in recipients]
    request: dict[str, Any] = {"to": to[0] if len(to) == 1 else to}
    if template is not None:
        if body is not None:
            raise click.UsageError("--body goes with --title, not with --template.")
        request["template"] = template
    else:
        text = sys.stdin.read() if body == "-" else body
        request["content"] = {"title": title} | ({} if text is None else {"body": text})
    if data is not None:
        request["data"] = json_object(data, "--data")
    if channels:
        request["channels"] = list(channels)
    return request | {name: value for name, value in fields.items() if value is not None}


def recipient_of(text: str) -> dict[str, str]:
    """Read one `--to`."""
    name, colon, rest = text.partition(":")
    if colon and rest and name.isidentifier() and "@" not in name:
        return {"phone" if name == "sms" else name: rest}
    if text.startswith("+"):
        return {"phone": text}
    if "@" in text:
        return {"email": text}
    kinds = ", ".join(f"{one}:…" for one in _PREFIXES)
    raise click.UsageError(f"--to {text}: write an e-mail address, +1555…, {kinds}, or a channel and a colon.")


def _post(place: SplitResult, body: bytes, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
    """Post and read the answer. The standard library's client: no proxies, no redirects, and quick to import."""
    connect = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = connect(place.hostname or "", place.port, timeout=timeout)
    try:
        connection.request("POST", f"{place.path.rstrip('/')}/v1/notifications", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        fail(f"No answer from {place.scheme}://{place.netloc.rpartition('@')[2]}: {error or type(error).__name__}")
    finally:
        connection.close()


def _pretty(answer: bytes) -> str:
    try:
        return json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
    except ValueError:
        return answer.decode("utf-8", "replace")
