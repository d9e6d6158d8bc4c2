"""The frame of the fault suite: one PostgreSQL, one table at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.frame import LONG, SEED, Faults, Row, table_of
from tests.support.postgres import Postgres, running_postgres

_ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def faults(request: pytest.FixtureRequest, tmp_path) -> Iterator[Faults]:
    rows = request.config.stash.setdefault(_ROWS, [])
    made = Faults(
        name=request.node.name,
        folder=tmp_path,
        rows=rows,
        postgres=lambda: request.getfixturevalue("postgres"),
    )
    yield made
    made.no_secret_in_any_log()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and what was left out."""
    rows = terminalreporter.config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section(f"faults, {'long' if LONG else 'short'} form, SEED={SEED}")
    terminalreporter.write_line(table_of(rows))
    left = sorted(
        f"left out: {report.nodeid.rpartition('::')[2]}: {report.longrepr[2].removeprefix('Skipped: ')}"
        for report in terminalreporter.stats.get("skipped", [])
        if "tests/faults/" in report.nodeid
    )
    for line in left:
        terminalreporter.write_line(line)
