"""Adapters are found by entry point and imported only when somebody uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.faults import AdapterFault, ConfigurationFaults
from gateway.config.load import load
from gateway.config.settings import Provider
from gateway.registry import Registry, by_name


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "adapters_good.py").write_text(
        "class Good:\n    kind = 'pigeon'\n    Settings = object\n    send = aclose = None\n"
        "    def __init__(self, settings, tools):\n        self.settings, self.tools = settings, tools\n"
        "class Half:\n    kind = 'half'\n",
    )
    (tmp_path / "adapters_broken.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_built_in_adapter_is_found_like_any_other() -> None:
    registry = Registry.load()
    assert "email_smtp" in registry.names()
    assert registry.kind("email_smtp") == "email"


def test_finding_adapters_imports_none() -> None:
    script = (
        "import sys; from gateway.registry import Registry; names = Registry.load().names(); "
        "assert 'email_smtp' in names; sys.exit('channels.email_smtp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_wrong_name_is_told_with_the_closest_one() -> None:
    with pytest.raises(AdapterFault, match=r"no adapter email_smpt; did you mean email_smtp\?"):
        Registry.load().adapter("email_smpt")


def test_an_adapter_that_cannot_be_imported_names_its_package(modules: Path) -> None:
    registry = by_name({"broken": "adapters_broken:X", "good": "adapters_good:Good"})
    with pytest.raises(AdapterFault, match=r"broken of the module adapters_broken .*a_package_that_is_not_there"):
        registry.adapter("broken")
    assert registry.kinds() == {"pigeon"}


def test_something_else_than_a_channel_is_refused(modules: Path) -> None:
    with pytest.raises(AdapterFault, match="lacks Settings, send, aclose"):
        by_name({"half": "adapters_good:Half"}).adapter("half")


def test_one_name_from_two_packages_is_a_fault_and_the_same_target_twice_is_not(modules: Path) -> None:
    [good] = by_name({"x": "adapters_good:Good"})._entries["x"]
    [half] = by_name({"x": "adapters_good:Half"})._entries["x"]
    assert Registry([good, good]).kind("x") == "pigeon"
    with pytest.raises(AdapterFault, match="uninstall one"):
        Registry([good, half]).adapter("x")


def test_a_provider_gets_its_own_settings_and_tools(modules: Path) -> None:
    registry = by_name({"good": "adapters_good:Good"})
    tools = object()
    built = registry.build(Provider(name="p", use="good", settings={"a": 1}), tools)  # type: ignore[arg-type]
    assert built.settings == {"a": 1}
    assert built.tools is tools


@pytest.mark.parametrize("kind", ["name", "data", "phone"])
def test_a_channel_must_not_have_the_name_of_a_recipients_other_key(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'[providers.x]\nuse = "dev_log"\nkind = "{kind}"\n[channels.{kind}]\nproviders = ["x"]\n')
    with pytest.raises(ConfigurationFaults) as caught:
        load(file, {}, Registry.load())
    [fault] = caught.value.faults
    assert fault.path == f"channels.{kind}"
    assert "adapter must call it otherwise" in fault.message
