"""What operators are given is true: alerts and panels name real figures, manifests name real commands and keys."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.load import load
from gateway.observe.metrics import Metrics
from gateway.registry import Registry
from tests.faults.configured import config_in
from tests.faults.oracle import all_settled, arrived
from tests.support.gateway import body, write_config
from tests.support.process import serving
from tests.support.smtp_server import SmtpServer

DEPLOY = Path(__file__).parents[2] / "deploy"
_NAME = re.compile(r"\b(?:gateway|process)_[a-z_]+\b")
_LABELS = re.compile(r"(?:by|without) \(([a-z_, ]+)\)")


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    return group["rules"]


def panels() -> list[dict[str, Any]]:
    return json.loads((DEPLOY / "grafana.json").read_text())["panels"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in alerts()] + [target["expr"] for panel in panels() for target in panel["targets"]]


def known_figures() -> tuple[set[str], set[str]]:
    """Every sample the gateway shows once it has worked, and every label."""
    metrics = Metrics()
    metrics.accepted("live")
    metrics.delivery("email", "sent", None)
    metrics.attempt("smtp-main", "accepted", 0.1)
    metrics.batch("accept", 3)
    metrics.request("/v1/notifications", "POST", 202, 0.01)
    metrics.spending("sms", 1.0, granted=True)
    metrics.spending("sms", 1.0, granted=False)
    metrics.provider_health("smtp-main", "email", healthy=True)

    class Depth:
        lane, waiting, due, oldest_due_at = "email:normal", 3, 1, 0

    metrics.queue([Depth()], 1000)
    names: set[str] = set()
    labels: set[str] = {"le", "instance", "process"}
    for line in metrics.render()[0].decode().splitlines():
        if not line.startswith("#"):
            names.add(re.split(r"[{ ]", line, maxsplit=1)[0])
            labels.update(re.findall(r'([a-z_]+)="', line))
    return names, labels


def test_every_alert_and_panel_asks_for_figures_and_labels_that_exist() -> None:
    names, labels = known_figures()
    asked = expressions()
    assert len(asked) > 20
    for expression in asked:
        used = set(_NAME.findall(re.sub(r'"[^"]*"', '""', expression)))
        assert used or expression.startswith("up{"), expression
        assert used <= names | {"process"}, expression
        for group in _LABELS.findall(expression):
            assert {label.strip() for label in group.split(",")} <= labels, expression


def test_operators_find_each_alert_explained_under_its_name() -> None:
    headings = set(re.findall(r"^### (\w+)$", (DEPLOY / "OPERATING.md").read_text(), re.MULTILINE))
    assert headings == {rule["alert"] for rule in alerts()}


def commands() -> list[list[str]]:
    compose = yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())
    pods = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return [one["command"] for name, one in compose["services"].items() if name != "postgres"] + [
        container["args"]
        for document in pods
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_container_runs_a_command_that_exists(command: list[str]) -> None:
    assert isinstance(main, click.Group)
    words = [*command, "--help"]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    for option in (word for word in command if word.startswith("--")):
        assert option in answer.output


def test_the_variables_of_the_manifests_are_keys_of_the_configuration() -> None:
    text = (DEPLOY / "compose.postgres.yaml").read_text() + (DEPLOY / "kubernetes.yaml").read_text()
    names = set(re.findall(r"\bGATEWAY_[A-Z_]+\b", text)) - {"GATEWAY_CONFIG", "GATEWAY_SECRET_KEY"}
    assert names == {"GATEWAY_DATABASE_URL", "GATEWAY_BOOTSTRAP_KEY", "GATEWAY__SECRET_KEY"}
    environ = dict.fromkeys(names, "k" * 40) | {"GATEWAY_DATABASE_URL": "postgresql://u:p@localhost/g"}
    settings = load(DEPLOY / "gateway.example.toml", environ, Registry.load())
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == "k" * 40


def test_every_pod_runs_as_an_ordinary_user_with_a_read_only_root() -> None:
    pods = 0
    for document in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()):
        pod = document.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        pods += 1
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pods == 3


def test_the_image_is_built_from_files_that_are_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert sources
    assert all((DEPLOY.parent / name).exists() for name in sources)
    let_in = set(re.findall(r"^!(.+)$", (DEPLOY.parent / ".dockerignore").read_text(), re.MULTILINE))
    assert set(sources) <= let_in


async def test_a_copy_made_while_it_runs_holds_all_that_was_accepted_before(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    async with SmtpServer() as server:
        far = "2099-01-01T00:00:00Z"
        async with serving(write_config(old / "gateway.toml", config_in(old, server))) as (_, client):
            accepted = []
            for number in range(40):
                more = {"send_at": far} if number % 2 else {}
                answer = await client.post("/v1/notifications", json=body(f"user{number}@example.com", **more))
                assert answer.status_code == 202
                accepted.append(answer.json()["id"])
            copy = sqlite3.connect(old / "gateway.db")
            copy.execute("VACUUM INTO ?", (str(new / "gateway.db"),))
            copy.close()
            late = await client.post("/v1/notifications", json=body("late@example.com"))
        before = arrived(server)
        async with serving(write_config(new / "gateway.toml", config_in(new, server))) as (_, client):
            for id_ in accepted:
                assert (await client.get(f"/v1/notifications/{id_}")).status_code == 200
            assert (await client.get(f"/v1/notifications/{late.json()['id']}")).status_code == 404
            scheduled = [one for one in accepted if (await client.get(f"/v1/notifications/{one}")).json()["send_at"]]
            assert len(scheduled) == 20
            for id_ in scheduled:
                assert (await client.post(f"/v1/notifications/{id_}/cancel")).status_code == 200
            await all_settled(client)
        assert before.keys() <= arrived(server).keys()
        assert len(arrived(server)) >= 20
