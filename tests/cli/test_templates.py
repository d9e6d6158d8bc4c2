"""`gateway templates` on the shipped templates and on broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.render.renderer import shipped_folder


@pytest.fixture(autouse=True)
def _fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner(env={"GATEWAY_CONFIG": ""}).invoke(main, ["templates", *arguments], catch_exceptions=False)


def test_the_shipped_templates_are_good() -> None:
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "all good" in result.stdout


def test_a_broken_template_ends_with_1_and_its_place(tmp_path: Path) -> None:
    shutil.copytree(shipped_folder(), tmp_path / "own")
    broken = next((tmp_path / "own" / "welcome").rglob("*.md"), None) or next(
        (tmp_path / "own" / "welcome").rglob("*.txt")
    )
    broken.write_text("{{ nobody_declared_this }} {% if %}")
    Path("gateway.toml").write_text('[templates]\nfolder = "own"\n')
    result = run("check")
    assert result.exit_code == 1
    assert "welcome" in result.stderr


def test_a_preview_is_text_or_files_to_look_at(tmp_path: Path) -> None:
    shown = run("preview", "welcome")
    assert shown.exit_code == 0
    assert "Subject: " in shown.stdout
    assert run("preview", "welcome", "--locale", "de-AT").stdout != shown.stdout
    written = run("preview", "welcome", "--channel", "email", "--out", "look")
    assert written.stdout.split() == ["look/welcome.email.txt", "look/welcome.email.html"]
    assert "<html" in (tmp_path / "look" / "welcome.email.html").read_text()


def test_a_template_that_is_not_there_is_told_with_those_that_are() -> None:
    result = run("preview", "welcom")
    assert result.exit_code == 1
    assert "welcome" in result.stderr


def test_wrong_data_is_told_by_variable() -> None:
    result = run("preview", "welcome", "--data", '{"nobody_declared_this": 1}')
    assert result.exit_code == 1
    assert "nobody_declared_this" in result.stderr
