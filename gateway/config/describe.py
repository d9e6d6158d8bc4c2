"""The configuration in plain words for `gateway check`: what is set, with stars where a secret stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import structs

from gateway.config.document import is_list, is_table
from gateway.config.settings import Provider, Rate, Secret, Settings
from gateway.model.collect import child

STARS: Final = "****"
_SECRET_NAME: Final = re.compile(r"pass|secret|token|credential|auth|private|webhook|(?:^|_)key(?:$|_)", re.IGNORECASE)
_NO_SECRET: Final = frozenset({"allow_private", "webhook_origins"})
"""What only sounds like one."""
_SECRET_CHARS: Final = 8
"""A shorter one is no secret, and would be found inside ordinary words."""
_PASSWORD: Final = re.compile(r"://([^:/@\s]*):.*@")
_QUERY: Final = re.compile(r"\?.*")


def describe(settings: Settings) -> dict[str, Any]:
    """Show the whole configuration, defaults included, as JSON-like values without any secret."""
    shown = {name: _plain(getattr(settings, name)) for name in settings.__struct_fields__}
    shown["database"] = without_password(settings.database.reveal())
    shown["providers"] = {name: _provider(provider) for name, provider in settings.providers.items()}
    shown["destinations"] = {
        channel: dict.fromkeys(destinations, STARS) for channel, destinations in settings.destinations.items()
    }
    return shown


def without_password(text: str) -> str:
    """Show text with stars for the password and the query of a URL in it; too many stars rather than too few."""
    return _QUERY.sub(f"?{STARS}", _PASSWORD.sub(rf"://\1:{STARS}@", text)) if "://" in text else text


def _provider(provider: Provider) -> dict[str, Any]:
    own = _masked(_plain(provider.settings), provider.secrets, "")
    return {"use": provider.use, "rate": _plain(provider.rate), **own}


def _masked(value: Any, secrets: frozenset[str], path: str) -> Any:
    """Put stars for what came from a variable or a file, and for what its name gives away as a secret."""
    if is_table(value):
        return {name: _masked(item, secrets, child(path, name)) for name, item in value.items()}
    if is_list(value):
        return [_masked(item, secrets, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    return STARS if _is_secret(path, secrets) else value


def _is_secret(path: str, secrets: frozenset[str]) -> bool:
    name = path.rpartition(".")[2]
    return path in secrets or (name.partition("[")[0] not in _NO_SECRET and _SECRET_NAME.search(name) is not None)


def secrets_of(provider: Provider) -> tuple[str, ...]:
    """List what must not be repeated when the provider itself repeats it: the longest first."""
    found = set(_secrets_in(msgspec.to_builtins(provider.settings, enc_hook=str), provider.secrets, ""))
    return tuple(sorted((one for one in found if len(one) >= _SECRET_CHARS), key=len, reverse=True))


def _secrets_in(value: Any, secrets: frozenset[str], path: str) -> Iterator[str]:
    if is_table(value):
        for name, item in value.items():
            yield from _secrets_in(item, secrets, child(path, name))
    elif is_list(value) or isinstance(value, tuple):
        for index, item in enumerate(cast("Sequence[Any]", value)):
            yield from _secrets_in(item, secrets, f"{path}[{index}]")
    elif isinstance(value, str) and _is_secret(path, secrets):
        yield value


def _plain(value: Any) -> Any:
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {field.encode_name: _plain(getattr(value, field.name)) for field in structs.fields(type(value))}
    if is_table(value):
        return {name: _plain(item) for name, item in value.items()}
    if is_list(value) or isinstance(value, tuple):
        # A tuple too: left as it is, `_masked` would not look into an adapter's list of secrets.
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, str):
        return without_password(str(value))
    # What is left is a number, an enumeration, a time; a secret or bytes, of which nothing may be shown.
    return STARS if isinstance(value, Secret | bytes) else msgspec.to_builtins(value, enc_hook=lambda _: STARS)
