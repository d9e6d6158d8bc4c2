"""What the configuration says of preferences and quiet hours: by channel, from a file and from variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import ConfigurationFaults, load
from gateway.config.settings import Settings
from gateway.registry import Registry


def read(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "gateway.toml"
    path.write_text(text)
    return load(path, environ, Registry.load())


def test_a_category_is_open_closed_or_locked_by_channel(tmp_path: Path):
    settings = read(
        tmp_path,
        """
        [categories.news]
        default = { sms = false, email = true }
        locked = { web_push = false, email = true }
        [categories.tips]
        default = false
        quiet_hours = false
        [quiet_hours]
        channels = ["sms"]
        """,
        GATEWAY__CATEGORIES__OFFERS__DEFAULT="false",
        GATEWAY__CATEGORIES__ORDERS__LOCKED="{ sms = false }",
        GATEWAY__CATEGORIES__PLAIN__PRIORITY="bulk",
    )
    found = settings.categories
    assert (found["news"].default, found["tips"].default) == ({"sms": False, "email": True}, False)
    assert (found["offers"].default, found["plain"].default) == (False, True)
    assert (found["news"].locked, found["orders"].locked) == ({"web_push": False, "email": True}, {"sms": False})
    assert (found["tips"].quiet_hours, found["plain"].quiet_hours) == (False, True)
    assert settings.quiet_hours.channels == ["sms"]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("[categories.a]\ndefault = { smoke = true }\nlocked = { e-mail = true }", ["default.smoke", "locked.e-mail"]),
        ("[categories.a]\nunsubscribe = true\nlocked = { email = true, sms = false }", ["locked.email"]),
        ("[categories.default]\nlocked = { email = true, sms = false }", ["locked.email"]),
        ('[categories.a]\ndefault = "no"', ["default"]),
        ("[categories.a]\nlocked = { sms = 1 }", ["locked.sms"]),
    ],
)
def test_what_contradicts_itself_or_names_nothing_is_a_fault(tmp_path: Path, text: str, paths: list[str]):
    with pytest.raises(ConfigurationFaults) as caught:
        read(tmp_path, text)
    found = {fault.path.split(".", 2)[2] for fault in caught.value.faults}
    assert found == set(paths)


def test_channels_of_quiet_hours_must_be_channels_each_once(tmp_path: Path):
    with pytest.raises(ConfigurationFaults) as caught:
        read(tmp_path, '[quiet_hours]\nchannels = ["sms", "smoke", "sms"]')
    assert {fault.path for fault in caught.value.faults} == {"quiet_hours.channels[1]", "quiet_hours.channels[2]"}
