"""What holds for every test: one PostgreSQL, one seed for all processes of a run, one table of faults at its end.

Properties have no time limit of their own, as a busy machine is no fault of the code.
"""

from __future__ import annotations

import gc
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.support.postgres import Postgres, running_postgres

settings.register_profile("house", deadline=None)
settings.load_profile("house")

# Before anybody reads it: the processes that pytest-xdist starts inherit it.
os.environ["SEED"] = os.environ.get("SEED") or str(random.SystemRandom().randrange(1_000_000))

from tests.faults.frame import LONG, SEED, Row, table_of  # noqa: E402 - it reads the seed

ROWS = pytest.StashKey[list[Row]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test a name of its own: pytest-xdist runs only one of those that share one, and says nothing."""
    for item in items:
        if item.parent is not None and not item.nodeid.endswith(item.name):  # schemathesis leaves the operation out
            item._id = item.parent.id.child(item.name)
    shared = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if shared:
        raise pytest.UsageError(f"tests share a name: {shared}")


def pytest_collection_finish() -> None:
    """Keep what was imported out of the garbage collector's sight, which would look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Let whoever left a connection open hear of it, and not whoever runs when the collector comes by."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a server, once somebody asks for it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def fault_rows(pytestconfig: pytest.Config) -> list[Row]:
    """Keep the lines of the table of faults."""
    return pytestconfig.stash.setdefault(ROWS, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand this process's lines of the table to the process that prints it, where that is another."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = [row.told() for row in session.config.stash.get(ROWS, [])]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the lines of another process over."""
    told = getattr(node, "workeroutput", {}).get("faults", [])
    node.config.stash.setdefault(ROWS, []).extend(Row(**one) for one in told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, and what was left out."""
    rows = terminalreporter.config.stash.get(ROWS, [])
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
