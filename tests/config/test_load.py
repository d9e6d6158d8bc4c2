"""Loading: the file, the variables over it, secrets, and every fault at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import SettingsFault, Tools
from gateway.config.describe import STARS, describe, without_password
from gateway.config.document import locate
from gateway.config.faults import AdapterFault
from gateway.config.load import ConfigurationFaults, load
from gateway.config.settings import Environment, Rate, Secret, Settings
from gateway.model.states import OnUnknown

CONTRACT = """
environment = "development"
bootstrap_key = { env = "GATEWAY_BOOTSTRAP_KEY" }

[staging]
allow     = ["*@example.com", "+1555010*", "slack:qa-*", "user:qa-*"]
otherwise = "capture"
redirect  = { email = "qa@example.com", phone = "+15550100001" }

[providers.mail-main]
use  = "fake_mail"
host = "mail.example.com"
port = 587
password = { env = "MAIL_PASSWORD" }
rate = "50/s"

[channels.email]
providers = ["mail-main"]
sender    = "Shop <no-reply@example.com>"
retry     = { attempts = 8, first_s = 5, factor = 3, most_s = 3600 }
per_recipient = "20/h"

[destinations.slack]
ops = { webhook = { env = "SLACK_OPS_URL" } }

[categories.orders]
channels = ["email", "web_push"]
on_unknown = "hold"
[categories.sign-in]
required = true
"""


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int = 25
    username: str | None = None
    password: str | None = None
    headers: dict[str, str] = {}
    flags: list[str] = []
    verify: bool = True


class FakeMail:
    kind = "email"
    Settings = FakeSettings

    def __init__(self, settings: FakeSettings, tools: Tools) -> None:
        if settings.username and not settings.password:
            raise SettingsFault("password", "Is needed with a username.")


class FakePigeon(FakeMail):
    kind = "pigeon"


class Adapters:
    """The installed adapters, and which of them were imported."""

    def __init__(self) -> None:
        self.imported: list[str] = []

    def names(self) -> tuple[str, ...]:
        return ("broken", "fake_mail", "fake_pigeon")

    def adapter(self, name: str) -> Any:
        self.imported.append(name)
        if name == "broken":
            raise AdapterFault("The adapter broken cannot be imported.")
        if name not in self.names():
            raise AdapterFault(f"There is no adapter {name}; did you mean fake_mail?")
        return {"fake_mail": FakeMail, "fake_pigeon": FakePigeon}[name]

    def kinds(self) -> frozenset[str]:
        return frozenset({"email", "pigeon"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, environ: dict[str, str] | None = None, *, at: Path) -> Settings:
    file = at / "gateway.toml"
    file.write_text(text)
    return load(file, environ or {}, Adapters())


def faults_of(text: str, environ: dict[str, str] | None = None, *, at: Path) -> dict[str, tuple[int | None, str]]:
    with pytest.raises(ConfigurationFaults) as caught:
        read(text, environ, at=at)
    return {fault.path: (fault.line, fault.message) for fault in caught.value.faults}


# --- where it comes from ---


def test_no_file_at_all_is_a_working_development_gateway(here: Path) -> None:
    assert load(None, {}, Adapters()) == Settings()


def test_the_file_in_the_working_folder_is_found(here: Path) -> None:
    (here / "gateway.toml").write_text('environment = "staging"')
    assert load(None, {}, Adapters()).environment is Environment.STAGING


def test_the_file_that_the_variable_names_wins_over_the_one_here(here: Path) -> None:
    (here / "gateway.toml").write_text('environment = "staging"')
    (here / "other.toml").write_text('environment = "production"')
    assert load(None, {"GATEWAY_CONFIG": "other.toml"}, Adapters()).is_production
    assert load(Path("gateway.toml"), {"GATEWAY_CONFIG": "other.toml"}, Adapters()).environment is Environment.STAGING


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"a = ", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a = 1\na = 2\n", "not valid TOML"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_a_named_file_that_cannot_be_read_is_a_fault(here: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (here / "named.toml").write_bytes(content)
    with pytest.raises(ConfigurationFaults, match=words):
        load(None, {"GATEWAY_CONFIG": "named.toml"}, Adapters())


def test_a_syntax_error_has_its_line(here: Path) -> None:
    assert faults_of("[server]\nport = 1\nhost = oops\n", at=here)[""][0] == 3


# --- the contract's example ---


def test_the_example_of_the_contract_loads_without_the_secrets_that_nothing_needs(here: Path) -> None:
    settings = read(CONTRACT, {"MAIL_PASSWORD": "hunter2"}, at=here)
    assert settings.bootstrap_key is None
    assert settings.destinations == {"slack": {}}
    provider = settings.providers["mail-main"]
    assert provider.rate == Rate(50, 1)
    assert provider.settings == FakeSettings(host="mail.example.com", port=587, password="hunter2")
    assert settings.channels["email"].per_recipient == Rate(20, 3600)
    assert settings.categories["orders"].on_unknown is OnUnknown.HOLD


def test_an_unset_secret_that_a_provider_needs_is_a_fault(here: Path) -> None:
    faults = faults_of(CONTRACT, at=here)
    assert list(faults) == ["providers.mail-main.password"]
    assert faults["providers.mail-main.password"] == (14, "The environment variable MAIL_PASSWORD is not set.")


def test_an_unset_destination_is_a_fault_once_its_channel_has_a_provider(here: Path) -> None:
    text = '[providers.p]\nuse = "fake_pigeon"\nhost = "x"\n[channels.pigeon]\nproviders = ["p"]\n'
    text += '[destinations.pigeon]\nops = { loft = { env = "LOFT" }, name = "north" }\n'
    assert list(faults_of(text, at=here)) == ["destinations.pigeon.ops.loft"]
    assert read(text, {"LOFT": "x"}, at=here).destinations == {
        "pigeon": {"ops": {"loft": Secret("x"), "name": "north"}}
    }


@pytest.mark.parametrize(
    ("entry", "path", "words"),
    [
        ('{ webhok = "https://hooks.slack.com/services/T/B/x" }', "destinations.slack.ops.webhok", "mean webhook?"),
        ('{ webhok = { env = "UNSET" } }', "destinations.slack.ops.webhok", "mean webhook?"),
        ('{ url = "https://hooks.slack.com/services/T/B/x" }', "destinations.slack.ops.url", "no such key."),
        ('{ webhook = "https://hooks.slack.com/x", channel = "C7" }', "destinations.slack.ops", "not both"),
        ('{ webhook = "https://hooks.slack.com/x", chanel = "C7" }', "destinations.slack.ops.chanel", "mean channel?"),
    ],
)
def test_a_misspelt_or_second_key_of_a_destination_is_a_fault(here: Path, entry: str, path: str, words: str) -> None:
    faults = faults_of(f"[destinations.slack]\nops = {entry}\n", at=here)
    assert list(faults) == [path]
    assert faults[path][0] == 2
    assert words in faults[path][1]


@pytest.mark.parametrize(
    ("channel", "entry"),
    [
        ("slack", 'webhook = "https://hooks.slack.com/x"'),
        ("slack", 'channel = "C7"'),
        ("discord", 'webhook = "https://discord.com/api/webhooks/1/x"'),
        ("webhook", 'url = "https://hooks.example.com/in"'),
    ],
)
def test_a_destination_has_the_key_of_its_channel(here: Path, channel: str, entry: str) -> None:
    found = read(f"[destinations.{channel}]\nops = {{ {entry} }}\n", at=here).destinations
    assert list(found[channel]["ops"]) == [entry.split(" ", 1)[0]]


def test_only_the_configured_adapters_are_imported(here: Path) -> None:
    (here / "gateway.toml").write_text(CONTRACT)
    adapters = Adapters()
    load(None, {"MAIL_PASSWORD": "x"}, adapters)
    assert adapters.imported == ["fake_mail"]


# --- variables ---


def test_every_key_can_be_set_by_a_variable(here: Path) -> None:
    environ = {
        "MAIL_PASSWORD": "x",
        "GATEWAY__ENVIRONMENT": "staging",
        "GATEWAY__SERVER__PORT": "9000",
        "GATEWAY__STAGING__ALLOW": '["qa@example.com"]',
        "GATEWAY__PROVIDERS__MAIL_MAIN__HOST": "other.example.com",
        "GATEWAY__PROVIDERS__MAIL_MAIN__USERNAME": "12345",
        "GATEWAY__PROVIDERS__MAIL_MAIN__VERIFY": "False",
        "GATEWAY__PROVIDERS__MAIL_MAIN__RATE": "5/m",
        "GATEWAY__PROVIDERS__MAIL_MAIN__HEADERS__X_TEAM": "shop",
        "GATEWAY__CATEGORIES__SIGN_IN__REQUIRED": "false",
        "GATEWAY__CHANNELS__EMAIL__RETRY__ATTEMPTS": "3",
        "GATEWAY__LIMITS__LIVE": "7/h",
        "PATH": "/bin",
    }
    settings = read(CONTRACT, environ, at=here)
    assert settings.environment is Environment.STAGING
    assert settings.server.port == 9000
    assert settings.staging.allow == ["qa@example.com"]
    provider = settings.providers["mail-main"]
    assert provider.settings.host == "other.example.com"
    assert provider.settings.username == "12345"
    assert provider.settings.verify is False
    assert provider.settings.headers == {"x_team": "shop"}
    assert provider.rate == Rate(5, 60)
    assert settings.categories["sign-in"].required is False
    assert settings.channels["email"].retry.attempts == 3
    assert settings.limits.live == Rate(7, 3600)


def test_variables_alone_make_a_whole_configuration(here: Path) -> None:
    environ = {
        "GATEWAY__PROVIDERS__MAIN__USE": "fake_mail",
        "GATEWAY__PROVIDERS__MAIN__HOST": "mail.example.com",
        "GATEWAY__PROVIDERS__MAIN__PASSWORD": '{ env = "SECRET" }',
        "SECRET": "hunter2",
        "GATEWAY__CHANNELS__EMAIL": '{ providers = ["main"], sender = "a@example.com" }',
        "GATEWAY__CHANNELS__EMAIL__SENDER": "b@example.com",
    }
    settings = load(None, environ, Adapters())
    assert settings.providers["main"].settings.password == "hunter2"
    assert settings.channels["email"].sender == "b@example.com"


def test_the_short_variables_win_over_the_file_and_the_long_ones_over_them(here: Path) -> None:
    text = 'database = "sqlite:///file.db"\nbootstrap_key = "' + "f" * 32 + '"'
    environ = {"GATEWAY_DATABASE_URL": "sqlite:///short.db", "GATEWAY_BOOTSTRAP_KEY": "s" * 32}
    settings = read(text, environ, at=here)
    assert settings.database.reveal() == "sqlite:///short.db"
    assert settings.bootstrap_key == Secret("s" * 32)
    settings = read(text, environ | {"GATEWAY__DATABASE": "sqlite:///long.db"}, at=here)
    assert settings.database.reveal() == "sqlite:///long.db"


def test_an_empty_short_variable_is_one_that_is_not_set(here: Path) -> None:
    assert load(None, {"GATEWAY_BOOTSTRAP_KEY": "", "GATEWAY_DATABASE_URL": ""}, Adapters()) == Settings()


def test_a_fault_of_a_variable_names_the_variable(here: Path) -> None:
    environ = {
        "GATEWAY__SERVER__PORT": "many",
        "GATEWAY__SERVER__PROT": "1",
        "GATEWAY__SERVER__HOST__NAME": "x",
        "GATEWAY____PORT": "1",
        "GATEWAY__NONSENSE": "1",
    }
    faults = faults_of('[server]\nhost = "x"\n', environ, at=here)
    assert faults["server.port"] == (None, "Must be a whole number, not a string. (set by GATEWAY__SERVER__PORT)")
    assert "did you mean port? (set by GATEWAY__SERVER__PROT)" in faults["server.prot"][1]
    assert "GATEWAY__SERVER__HOST__NAME" in faults["server.host"][1]
    assert "GATEWAY__NONSENSE" in faults["nonsense"][1]
    assert "GATEWAY____PORT" in faults[""][1]


def test_a_variable_that_could_mean_two_names_is_a_fault(here: Path) -> None:
    text = '[providers.a-b]\nuse = "fake_mail"\nhost = "x"\n[providers.a_b]\nuse = "fake_mail"\nhost = "x"\n'
    assert "a-b and a_b" in faults_of(text, {"GATEWAY__PROVIDERS__A_B__PORT": "1"}, at=here)["providers"][1]


@given(st.text(max_size=30))
def test_a_variable_cannot_bring_further_keys(text: str) -> None:
    environ = {"GATEWAY__TEMPLATES__PRODUCT": text}
    settings = load(None, environ, Adapters()) if not text.startswith("{") else None
    assert settings is None or settings.templates.product == text


# --- secrets ---


def test_a_secret_file_loses_one_line_break_at_its_end(here: Path) -> None:
    (here / "secret").write_bytes(b"hun ter2\n\r\n")
    text = '[providers.p]\nuse = "fake_mail"\nhost = "x"\npassword = { file = "secret" }\n'
    assert read(text, at=here).providers["p"].settings.password == "hun ter2\n"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * 70_000])
def test_a_secret_file_that_is_missing_or_no_secret_is_a_fault(here: Path, content: bytes | None) -> None:
    if content is not None:
        (here / "secret").write_bytes(content)
    assert list(faults_of('bootstrap_key = { file = "secret" }', at=here)) == ["bootstrap_key"]


def test_a_table_that_only_looks_like_a_reference_stays_a_table(here: Path) -> None:
    text = '[providers.p]\nuse = "fake_mail"\nhost = "x"\nheaders = { env = "PATH" }\n'
    assert read(text, at=here).providers["p"].settings.headers == {"env": "PATH"}


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f'bootstrap_key = "{SECRET}"',
        f'database = "mysql://user:{SECRET}@host/db"',
        f'database = "postgresql://user:{SECRET}@host"',
        f'[providers.p]\nuse = "fake_mail"\nport = 1\npassword = ["{SECRET}"]',
        f'[providers.p]\nuse = "fake_mail"\nport = "{SECRET}"',
        f'[limits]\nlive = "{SECRET}"',
        f'environment = "{SECRET}"',
        f'[outbound]\nproxy = "ftp://u:{SECRET}@h"',
        f'x = "{SECRET}\n"',
    ],
)
def test_no_fault_ever_prints_a_value(here: Path, text: str) -> None:
    with pytest.raises(ConfigurationFaults) as caught:
        read(text, at=here)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.faults)


def test_the_description_shows_everything_but_secrets(here: Path) -> None:
    text = CONTRACT + '[outbound]\nproxy = "http://u:hunter2@proxy.example.com:3128"\n'
    text = text.replace('password = { env = "MAIL_PASSWORD" }', 'password = "hunter2"\nusername = { env = "NAME" }')
    environ = {
        "NAME": "hunter2",
        "SLACK_OPS_URL": "https://hooks.slack.com/hunter2",
        "GATEWAY_DATABASE_URL": "postgresql://gateway:hunter2@db.example.com/gateway?password=hunter2",
        "GATEWAY_BOOTSTRAP_KEY": "hunter2" * 5,
    }
    settings = read(text, environ, at=here)
    shown = describe(settings)
    assert "hunter2" not in msgspec.json.encode(shown).decode()
    assert "hunter2" not in repr(settings.database) + repr(settings.bootstrap_key) + repr(settings.destinations)
    assert shown["database"] == f"postgresql://gateway:{STARS}@db.example.com/gateway?{STARS}"
    assert shown["destinations"] == {"slack": {"ops": STARS}}
    assert shown["providers"]["mail-main"]["host"] == "mail.example.com"
    assert shown["limits"]["live"] == "10000/s"


def test_a_database_may_have_several_hosts(here: Path) -> None:
    url = "postgresql://gateway:hunter2@one:5432,two/gateway"
    settings = read(f'database = "{url}"', at=here)
    assert settings.database.reveal() == url
    assert without_password(url) == f"postgresql://gateway:{STARS}@one:5432,two/gateway"


@pytest.mark.parametrize("url", ["sqlite:///var/gateway.db", "sqlite:////srv/gateway.db", "postgresql://h/db"])
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert without_password(url) == url


# --- faults ---


def test_every_fault_is_told_at_once_with_path_and_line(here: Path) -> None:
    text = """enviroment = "development"
environment = "prod"
public_url = "ftp://x"
bootstrap_key = "short"
database = "postgres://h/db"
[server]
port = 70000
porrt = 1
poll_s = inf
trusted_proxies = ["10.0.0.1/8"]
[staging]
allow = ["*", "qa@example.com", 5]
otherwise = "redirect"
[quiet_hours]
start = "25:00"
timezone = "Mars/Base"
[limits]
live = "fast"
[templates]
folder = "nowhere"
default_locale = "de_AT"
[providers.main]
use = "fake_male"
[providers.second]
use = "fake_mail"
port = "587"
hosst = "x"
password = { env = "NOPE" }
rate = "50"
[providers.third]
use = "broken"
[providers.fourth]
host = "x"
[providers.simulator]
use = "fake_mail"
host = "x"
username = "u"
[providers."Bad Name"]
use = "fake_pigeon"
host = "x"
[channels.email]
providers = ["main", "main", "secnd", "Bad Name"]
sender = "Shop"
senders = ["example.com"]
retry = { attempts = 0, first_s = 5, most_s = 2 }
[channels.emial]
[categories.default]
required = true
channels = ["sms", "carrier-pigeon", "pigeon", "sms"]
digest = { window_s = 0 }
[destinations.slak]
ops = "x"
"""
    found = {path: line for path, (line, _) in faults_of(text, at=here).items()}
    assert found == {
        "enviroment": 1,
        "environment": 2,
        "public_url": 3,
        "bootstrap_key": 4,
        "database": 5,
        "server.port": 7,
        "server.porrt": 8,
        "server.poll_s": 9,
        "server.trusted_proxies[0]": 10,
        "staging.allow[2]": 12,
        "staging.redirect": 11,
        "quiet_hours.start": 15,
        "quiet_hours.end": 14,
        "quiet_hours.timezone": 16,
        "limits.live": 18,
        "templates.folder": 20,
        "templates.default_locale": 21,
        "providers.main.use": 23,
        "providers.second.host": 24,
        "providers.second.port": 26,
        "providers.second.hosst": 27,
        "providers.second.password": 28,
        "providers.second.rate": 29,
        "providers.third.use": 31,
        "providers.fourth.use": 32,
        "providers.simulator": 34,
        "providers.simulator.password": 34,
        "providers.Bad Name": 38,
        "channels.email.providers[1]": 42,
        "channels.email.providers[2]": 42,
        "channels.email.providers[3]": 42,
        "channels.email.sender": 43,
        "channels.email.senders[0]": 44,
        "channels.email.retry.attempts": 45,
        "channels.emial": 46,
        "categories.default.required": 48,
        "categories.default.channels[1]": 49,
        "categories.default.channels[3]": 49,
        "categories.default.digest.window_s": 50,
        "destinations.slak": 51,
        "destinations.slak.ops": 52,
    }


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ('[channels.email]\nproviders = ["p"]', "channels.email.sender", "needed"),
        ("[channels.email]\nretry = { first_s = 9, most_s = 2 }", "channels.email.retry.most_s", "first_s"),
        ("[categories.x]\ndigest = {}", "categories.x.digest", "either window_s or schedule"),
        ('[categories.x]\ndigest = { window_s = 9, schedule = "08:00" }', "categories.x.digest", "either"),
        ('[categories.x]\ndigest = { schedule = "8 am" }', "categories.x.digest.schedule", "mon,thu 08:00"),
        ('[categories.x]\ndigest = { window_s = 9, timezone = "Moon" }', "categories.x.digest.timezone", "IANA"),
        ('[categories.x]\ndigest = { window_s = 9 }\npriority = "critical"', "categories.x.digest", "does not wait"),
        ('[categories.x]\ndigest = { window_s = 9 }\nstrategy = "escalate"', "categories.x.digest", "escalates"),
        ("[categories.x]\ndigest = { window_s = 9 }\nexpires_after_s = 9", "categories.x.digest.window_s", "shorter"),
        ('[categories.x]\nthrottle = { rate = "3/w" }', "categories.x.throttle.rate", "Must be a rate"),
        ('[categories.x]\nthrottle = { rate = "3/d", then = "digest" }', "categories.x.throttle.then", "window_s"),
        ('[categories.x]\nthrottle = { rate = "3/d" }\nrequired = true', "categories.x.throttle", "never throttled"),
        ('[categories.x]\nthrottle = { rate = "3/d" }\npriority = "critical"', "categories.x.throttle", "never"),
        ("[channels.email]\nbreaker = { first_s = 9, most_s = 2 }", "channels.email.breaker.most_s", "first_s"),
        ('[staging]\nredirect = { email = "qa" }', "staging.redirect.email", "@"),
        ('[staging]\nredirect = { phone = "123" }', "staging.redirect.phone", "\\+"),
        ('[staging]\nredirect = { sms = "+15550100001" }', "staging.redirect.sms", "phone"),
        ('[staging]\nallow = ["*"]', "staging.allow[0]", "everything"),
        ('[quiet_hours]\nstart = "22:00"\nend = "22:00"', "quiet_hours.end", "differ"),
        ('database = "sqlite:///:memory:"', "database", "file"),
        ('database = "postgresql://h:x/db"', "database", "postgresql"),
        ('database = "postgresql://h:1,i:x/db"', "database", "postgresql"),
        ('database = "postgresql://h:1,/db"', "database", "postgresql"),
        ('database = "postgresql://h:1,i:2"', "database", "postgresql"),
        ('environment = "staging"\ndatabase = "postgresql://h/db"', "secret_key", "PostgreSQL"),
        ('public_url = "https://u:p@example.com"', "public_url", "no user name"),
        ("[categories.x]\nchannels = []", "categories.x.channels", "empty"),
        ("[categories.Big]\n", "categories.Big", "lower-case"),
        ('secret_key = { env = "NOPE" }', "secret_key", "NOPE"),
        ('[links]\nold_keys = ["short"]', "links.old_keys[0]", "at least 32"),
        ("[links]\nunsubscribe_days = 29", "links.unsubscribe_days", "30"),
        ('providers = "x"', "providers", "table"),
        ("[providers]\nx = 1", "providers.x", "table"),
        ("[channels]\nemail = 1", "channels.email", "an object"),
        ("server = 2026-11-23T09:00:00Z", "server", "datetime"),
        ("[server]\nport = 1.5", "server.port", "whole number"),
        ("[server]\nport = true", "server.port", "whole number"),
    ],
)  # fmt: skip
def test_each_rule_has_its_sentence(here: Path, text: str, path: str, words: str) -> None:
    faults = faults_of(text, at=here)
    assert re.search(words, faults[path][1]), faults


def test_faults_read_as_lines_an_editor_can_jump_to(here: Path) -> None:
    with pytest.raises(ConfigurationFaults) as caught:
        read("[server]\nport = 0.5\n", at=here)
    assert str(caught.value) == f"{here}/gateway.toml:2: server.port: Must be a whole number, not a number."


# --- lines ---


def test_lines_are_found_in_tables_dotted_keys_and_after_multi_line_text() -> None:
    text = 'a.b = 1\n[c."d e"]\nf = """\ng = 1\n"""\nh = [\n  1,\n]\n[[i]]\nj = 1\n'
    assert locate(text) == {"a": 1, "a.b": 1, "c": 2, "c.d e": 2, "c.d e.f": 3, "c.d e.h": 6, "i": 9, "i.j": 10}


@given(st.text(alphabet="ab[]{}=.\"'#\n ", max_size=60))
def test_finding_lines_never_fails_on_a_file_that_is_toml(text: str) -> None:
    import tomllib  # noqa: PLC0415 - only here

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    locate(text)


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-5, 99_999), st.floats(), st.text(max_size=5), st.datetimes()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "environment", "database", "server", "limits", "staging", "providers", "channels", "categories",
            "destinations", "quiet_hours", "logging", "bootstrap_key", "nonsense",
        ],
    ),
)  # fmt: skip
def test_whatever_stands_in_a_table_there_is_an_answer(value: Any, section: str) -> None:
    from gateway.config.decode import Decoder  # noqa: PLC0415 - only here
    from gateway.config.load import _Loading  # noqa: PLC0415 - only here

    loading = _Loading({section: value}, Decoder({}), Adapters())
    settings = loading.settings()
    assert loading.decoder.faults or isinstance(settings, Settings)
