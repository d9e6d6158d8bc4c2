from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.model.ids import IdSource
from gateway.storage import migrations
from gateway.storage.contract import StoreDamaged
from gateway.storage.schema import METADATA
from gateway.storage.store import SqlStore
from tests.storage.rows import Clock
from tests.support.postgres import Postgres


def test_the_list_of_revisions_is_what_lies_in_the_folder() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert tuple(revision.revision for revision in reversed(list(script.walk_revisions()))) == migrations.REVISIONS


def words(text: str) -> str:
    return " ".join(text.replace('"', "").split())


def described_sqlite(conn: Connection) -> dict[str, Any]:
    """Describe tables by their columns, since a column that was added later stands elsewhere in the text."""
    rows = conn.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    found: dict[str, Any] = {name: words(sql) for kind, name, sql in rows if kind != "table"}
    for name in [name for kind, name, _ in rows if kind == "table" and name != "alembic_version"]:
        columns = conn.exec_driver_sql(
            f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_xinfo('{name}')"
        )
        kinds = conn.exec_driver_sql(f"SELECT wr, strict FROM pragma_table_list('{name}')")
        found[name] = [sorted(map(tuple, columns)), *map(tuple, kinds)]
    return found


async def test_migrating_from_empty_makes_the_tables_on_sqlite(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'migrated.db'}", lambda: 0, IdSource())
    assert await store.migrate() == list(migrations.REVISIONS)
    assert await store.migrate() == []
    await store.open()
    migrated = await store._db.read(described_sqlite)
    await store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    with engine.begin() as conn:
        METADATA.create_all(conn)
        made = described_sqlite(conn)
    engine.dispose()
    assert migrated == made


def described_postgres(conn: Connection) -> Any:
    columns = conn.exec_driver_sql(
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2"
    )
    indexes = conn.exec_driver_sql(
        "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2"
    )
    options = conn.exec_driver_sql(
        "SELECT relname, option FROM pg_class, unnest(reloptions) AS option WHERE relkind = 'r' ORDER BY 1, 2"
    )
    return [[tuple(map(str, row)) for row in rows] for rows in (columns, indexes, options)]


@pytest.mark.postgres
async def test_migrating_from_empty_makes_the_tables_on_postgres(postgres: Postgres) -> None:
    migrated_url, made_url = await postgres.empty_database(), await postgres.empty_database()
    store = SqlStore(migrated_url, lambda: 0, IdSource())
    assert await store.migrate() == list(migrations.REVISIONS)
    assert await store.pending() == []
    migrated = await store._db.read(described_postgres)
    await store.close()
    engine = create_async_engine(made_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as conn:
        await conn.run_sync(METADATA.create_all)
        made = await conn.run_sync(described_postgres)
    await engine.dispose()
    assert migrated == made


@pytest.mark.postgres
async def test_an_empty_postgres_gets_its_tables_when_opened_by_two_at_once(postgres: Postgres) -> None:
    url = await postgres.empty_database()
    stores = [SqlStore(url, lambda: 0, IdSource()) for _ in range(2)]
    await asyncio.gather(*[store.open() for store in stores])
    for store in stores:
        assert await store.ready() is None
        await store.close()


@pytest.mark.postgres
async def test_an_older_postgres_waits_for_the_command(postgres: Postgres) -> None:
    url = await postgres.empty_database()
    await change(url, "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)")
    store = SqlStore(url, lambda: 0, IdSource())
    await store.open()
    reason = await store.ready()
    assert reason is not None
    assert "gateway migrate" in reason
    assert await store.migrate() == list(migrations.REVISIONS)
    assert await store.ready() is None
    await store.close()


async def change(url: str, statement: str) -> None:
    """Change a database behind the store's back."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as conn:
        await conn.exec_driver_sql(statement)
    await engine.dispose()


FUTURE = "UPDATE alembic_version SET version_num = '9999'"


async def test_a_file_with_a_schema_from_the_future_is_refused(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'gateway.db'}", lambda: 0, IdSource())
    await store.open()
    await store._db.write(lambda conn: conn.exec_driver_sql(FUTURE))
    await store.close()
    with pytest.raises(StoreDamaged, match=r"gateway\.db has the schema '9999'"):
        await store.open()


@pytest.mark.postgres
async def test_a_postgres_with_a_schema_from_the_future_is_refused(postgres: Postgres) -> None:
    url = await postgres.new_database()
    await change(url, FUTURE)
    store = SqlStore(url, lambda: 0, IdSource())
    with pytest.raises(StoreDamaged, match="9999"):
        await store.open()
    assert "9999" in str(await store.ready())
    await store.close()


async def test_only_the_owner_can_read_the_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "var" / "gateway.db"
    store = SqlStore(f"sqlite:///{path}", clock, IdSource())
    await store.open()
    await store.keep_template("v", "k", b"", 0)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in [path.parent, *path.parent.iterdir()]}
    await store.close()
    assert modes == {
        "var": 0o700,
        "gateway.db": 0o600,
        "gateway.db-wal": 0o600,
        "gateway.db-shm": 0o600,
        "gateway.db-turn": 0o600,
    }


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a file"):
        SqlStore("sqlite://", lambda: 0, IdSource())
