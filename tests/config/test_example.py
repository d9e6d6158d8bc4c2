"""The example file is the documentation operators copy: it must load, equal the defaults and name every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.document import locate
from gateway.config.load import load
from gateway.config.settings import (
    BreakerSettings,
    CategorySettings,
    ChannelSettings,
    DigestSettings,
    RetrySettings,
    Section,
    Settings,
    SpendSettings,
)
from gateway.registry import Registry

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "gateway.example.toml"
SECRETS = {
    "SMTP_PASSWORD": "not-a-real-password",
    "SMTP_SPARE_PASSWORD": "not-a-real-password",
    "SMTP_BOUNCE_SECRET": "not-a-real-secret",
    "SLACK_OPS_URL": "https://hooks.slack.com/services/T/B/x",
}


def uncommented(tmp_path: Path) -> Path:
    """Write the example with its examples taken in, each in the place of the default of the same key."""
    text = re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace('"/run/secrets/gateway_secret_key"', f'"{tmp_path / "secret_key"}"')
    (tmp_path / "secret_key").write_text("s" * 40 + "\n")
    kept = [
        line
        for line, following in zip(text.splitlines(), [*text.splitlines()[1:], ""], strict=True)
        if not re.fullmatch(r"(\w+) = (\[\]|\{\})", line) or not following.startswith(line.split(" = ", maxsplit=1)[0])
    ]
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(kept))
    return file


def test_the_example_as_it_stands_is_the_gateway_without_a_file() -> None:
    assert load(EXAMPLE, {}, Registry.load()) == Settings()


def test_every_example_in_it_loads_when_it_is_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = load(uncommented(tmp_path), SECRETS, Registry.load())
    assert settings.staging.allow == ["*@example.com", "+1555010*", "slack:qa-*", "user:qa-*"]
    assert settings.staging.redirect == {"email": "qa@example.com", "phone": "+15550100001"}
    assert settings.quiet_hours.start == "22:00"
    assert settings.channels["email"].providers == ["smtp-main", "smtp-spare"]
    assert settings.providers["smtp-main"].settings.password == "not-a-real-password"
    assert settings.categories["marketing"].digest == DigestSettings(window_s=3600)
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == "s" * 40


def keys_of(type_: type[msgspec.Struct], path: str) -> list[str]:
    found: list[str] = []
    for field in msgspec.structs.fields(type_):
        inner: Any = field.default
        here = f"{path}.{field.encode_name}".removeprefix(".")
        found += keys_of(type(inner), here) if isinstance(inner, Section) else [here]
    return found


def test_the_example_names_every_key(tmp_path: Path) -> None:
    file = uncommented(tmp_path)
    named = set(locate(file.read_text()))
    inline = file.read_text()
    # Inline tables have one line; their keys are looked for in it.
    nested = {
        type_: name
        for name, type_ in (("retry", RetrySettings), ("breaker", BreakerSettings), ("spend", SpendSettings))
    }
    wanted = {
        path for path in keys_of(Settings, "") if path.split(".")[0] not in {"providers", "channels", "categories"}
    }
    assert wanted - {"destinations"} - named == set()
    for type_, name in nested.items():
        [line] = re.findall(rf"^{name} = .*$", inline, flags=re.MULTILINE)
        assert [key for key in keys_of(type_, "") if f"{key} = " not in line] == []
    channel = {f"channels.email.{field.encode_name}" for field in msgspec.structs.fields(ChannelSettings)}
    assert channel - named == set()
    for field in msgspec.structs.fields(CategorySettings):
        assert re.search(rf"^categories\.[a-z-]+\.{field.encode_name}$", "\n".join(named), re.MULTILINE), field
    smtp = {f"providers.smtp-main.{key}" for key in Registry.load().adapter("email_smtp").Settings.__struct_fields__}
    assert smtp - named == {"providers.smtp-main.ca_file"}


def test_no_example_is_commented_out_in_a_way_that_the_test_would_miss() -> None:
    prose = [line for line in EXAMPLE.read_text().splitlines() if line.startswith("# ")]
    assert [line for line in prose if re.match(r"# [a-z_]+ = ", line)] == []
