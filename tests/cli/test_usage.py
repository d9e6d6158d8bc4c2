"""Words and exit codes: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.options import Moment, table

GATEWAY = Path(sys.executable).with_name("gateway")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner(env={"GATEWAY_CONFIG": "", "GATEWAY_KEY": "", "GATEWAY_URL": ""})


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_explains_itself(run: CliRunner, path: tuple[str, ...]) -> None:
    result = run.invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) >= 5


def test_all_promised_commands_are_there() -> None:
    promised = {
        "serve", "work", "migrate", "check", "send", "keys create", "keys list", "keys revoke",
        "templates check", "templates preview", "replay",
    }  # fmt: skip
    assert promised <= {" ".join(path) for path in commands(main)}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom gateway.cli import main\nmain(['serve', '--help'], standalone_mode=False)\n"
        "heavy = {'sqlalchemy', 'litestar', 'uvicorn', 'structlog', 'msgspec', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["check"], 0),
        (["nonsense"], 2),
        (["check", "--config", "missing.toml"], 2),
        (["serve", "--port", "many"], 2),
        (["send", "--to", "a@example.com", "--title", "x", "--url", "http://127.0.0.1:9", "--key", "k"], 1),
    ],
)
def test_the_installed_command_ends_with_the_promised_code(tmp_path: Path, arguments: list[str], code: int) -> None:
    environ = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([GATEWAY, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "--to", "a@example.com", "--title", "x"],
        ["send", "--key", "k", "--title", "x"],
        ["send", "--key", "k", "--to", "a@example.com"],
        ["send", "--key", "k", "--to", "somebody", "--title", "x"],
        ["send", "--key", "k", "--to", "a@example.com", "--title", "x", "--template", "t"],
        ["send", "--key", "k", "--to", "a@example.com", "--template", "t", "--body", "x"],
        ["send", "--key", "k", "--to", "a@example.com", "--template", "t", "--data", "[1]"],
        ["send", "--key", "k", "--to", "a@example.com", "--template", "t", "--data", "{"],
        ["send", "--key", "k", "--to", "a@example.com", "--title", "x", "--url", "ftp://x"],
        ["send", "--key", "k", "--json", "-", "--title", "x"],
        ["replay", "--status", "unknown"],
        ["replay", "--reason", "bad_luck"],
        ["replay", "--since", "yesterday"],
        ["keys", "create"],
        ["keys", "create", "--name", "x", "--rate", "fast"],
        ["keys", "create", "--name", "a\nb"],
        ["keys", "create", "--name", "x", "--project", "a b"],
        ["keys", "create", "--name", "x", "--expires", "2020-01-01T00:00:00Z"],
        ["keys", "revoke", "ntfg_live_secret"],
        ["templates", "preview", "welcome", "--data", "no"],
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(run: CliRunner, arguments: list[str]) -> None:
    result = run.invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "ntfg_live_secret" not in result.stderr


def test_faults_of_the_configuration_are_all_on_standard_error(run: CliRunner) -> None:
    Path("gateway.toml").write_text('environment = "prod"\n[server]\nport = "x"\n')
    for command in (["check"], ["serve"], ["work"], ["migrate"], ["keys", "list"], ["templates", "check"], ["replay"]):
        result = run.invoke(main, command)
        assert result.exit_code == 2, command
        assert result.stdout == ""
        assert "gateway.toml:1: environment: " in result.stderr
        assert "gateway.toml:3: server.port: " in result.stderr
        assert "2 faults" in result.stderr


def test_check_shows_the_configuration_without_its_secrets(run: CliRunner) -> None:
    Path("gateway.toml").write_text(
        '[providers.main]\nuse = "email_smtp"\nhost = "mail.example.com"\nusername = "u"\npassword = "hunter2"\n'
        '[channels.email]\nproviders = ["main"]\nsender = "a@example.com"\n',
    )
    short = run.invoke(main, ["check"])
    assert short.exit_code == 0
    assert "email through main" in short.stdout
    whole = run.invoke(main, ["check", "--show"])
    assert json.loads(whole.stdout)["providers"]["main"]["host"] == "mail.example.com"
    assert "hunter2" not in short.output + whole.output


def test_times_are_spans_or_rfc_3339() -> None:
    back, ahead = Moment(), Moment(ahead=True)
    now = datetime.now(UTC)
    assert abs(back.convert("2h", None, None) - (now - timedelta(hours=2))) < timedelta(seconds=5)
    assert abs(ahead.convert("90d", None, None) - (now + timedelta(days=90))) < timedelta(seconds=5)
    assert back.convert("2026-11-23T09:00:00+02:00", None, None) == datetime(2026, 11, 23, 7, tzinfo=UTC)
    for wrong in ("2026-11-23T09:00:00", "0h", "2w", "-1d", ""):
        with pytest.raises(click.BadParameter):
            back.convert(wrong, None, None)


def test_tables_line_up() -> None:
    assert table(("a", "long"), [("wide one", "x")]) == "a         long\nwide one  x"
