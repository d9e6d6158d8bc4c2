"""The frame of the fault suite: one test's part of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.frame import Faults, Row


@pytest.fixture
def faults(request: pytest.FixtureRequest, tmp_path, fault_rows: list[Row]) -> Iterator[Faults]:
    made = Faults(
        name=request.node.name,
        folder=tmp_path,
        rows=fault_rows,
        postgres=lambda: request.getfixturevalue("postgres"),
    )
    yield made
    made.no_secret_in_any_log()
