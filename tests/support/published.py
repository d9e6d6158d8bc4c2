"""The schemas that providers publish of their requests, as judges. Where they come from: `tests/channels/judges`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

JUDGES = Path(__file__).parents[1] / "channels" / "judges"


def schema(name: str) -> dict[str, Any]:
    """Read one."""
    return json.loads((JUDGES / f"{name}.json").read_text())


def faults(name: str, body: Any) -> list[str]:
    """Say what the schema has against a body."""
    return [f"{one.json_path}: {one.message}" for one in Draft202012Validator(schema(name)).iter_errors(body)]
