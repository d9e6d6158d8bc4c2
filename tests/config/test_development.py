"""The development key: made once, kept for its owner alone, never outside development."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from gateway.config.development import development_key, kept_secret, state_folder
from gateway.config.settings import Environment, Secret, Settings
from gateway.model.keys import is_well_formed


def settings_at(folder: Path, environment: Environment = Environment.DEVELOPMENT) -> Settings:
    return Settings(environment=environment, database=Secret(f"sqlite:///{folder}/state/gateway.db"))


def test_the_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    key = development_key(settings_at(tmp_path))
    assert is_well_formed(key)
    assert development_key(settings_at(tmp_path)) == key


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    development_key(settings_at(tmp_path))
    file = tmp_path / "state" / "development.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one.name for one in file.parent.iterdir()] == ["development.key"]


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_no_key_is_made_up_elsewhere(tmp_path: Path, environment: Environment) -> None:
    with pytest.raises(ValueError, match="set bootstrap_key"):
        development_key(settings_at(tmp_path, environment))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [b"", b"cut sho", b"\xff" * 50])
def test_a_damaged_file_is_replaced(tmp_path: Path, left: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(left)
    assert kept_secret(file, lambda: "n" * 40) == "n" * 40
    assert file.read_text() == "n" * 40 + "\n"


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    found: list[str] = []

    def start(letter: str) -> None:
        barrier.wait()
        found.append(kept_secret(tmp_path / "new" / "key", lambda: letter * 40))

    threads = [threading.Thread(target=start, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_state_lies_beside_the_database_file() -> None:
    assert state_folder(Settings()) == Path("var")
    assert state_folder(Settings(database=Secret("sqlite:////srv/g/gateway.db"))) == Path("/srv/g")
    assert state_folder(Settings(database=Secret("postgresql://h/db"))) == Path("var")
