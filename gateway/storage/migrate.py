"""Bringing the schema up to date.

Owns how Alembic is driven, without its command line and without a file of settings. Knows no tables: `migrations`
does. Alembic is imported only when there is something to run, since a start must be quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect

from gateway.storage import migrations

_HERE = Path(migrations.__file__).parent


class UnknownRevision(Exception):
    """The schema is of a revision that this code does not know."""


def pending(conn: Connection) -> list[str]:
    """Name the revisions that have not run; raises `UnknownRevision` for a schema newer than this code."""
    if not inspect(conn).has_table("alembic_version"):
        return list(migrations.REVISIONS)
    current = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if current is None:
        return list(migrations.REVISIONS)
    if current not in migrations.REVISIONS:
        raise UnknownRevision(
            f"has the schema {current!r}, which this version of the gateway does not know "
            f"(it knows up to {migrations.REVISIONS[-1]!r}). Run the newer version.",
        )
    return list(migrations.REVISIONS[migrations.REVISIONS.index(current) + 1 :])


def is_empty(conn: Connection) -> bool:
    """Say whether the database has no table at all."""
    return not inspect(conn).get_table_names()


def upgrade(conn: Connection) -> list[str]:
    """Run what is pending in the caller's transaction; answers what ran. Nothing pending: nothing happens."""
    todo = pending(conn)
    if todo:
        _run(conn)
    return todo


def _run(conn: Connection) -> None:
    # Half of a quick start would go into importing what most starts never use.
    from alembic.config import Config  # noqa: PLC0415 - see above
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - see above
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    script = ScriptDirectory(str(_HERE))

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the recipe of Alembic's own `command.upgrade`, which would insist on an env.py

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=conn, transactional_ddl=False)
        environment.run_migrations()
