"""Which database: what may differ between the two is tried on both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres import Postgres

BOTH = [pytest.param("sqlite"), pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BOTH)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty database, by its URL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return await server.clean_database()
