"""Bringing the schema to the newest revision, once however many processes ask at once; revisions are in migrations/.

Alembic is loaded where there is something to upgrade: a look whether there is costs no process its loading time.
"""

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

from kline_pipeline.database.locks import migration_lock
from kline_pipeline.database.tables import DAGSTER_SCHEMA, SCHEMA, VERSION_TABLE
from kline_pipeline.errors import StorageError

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK_TIMEOUT_S = 60
_REVISION = re.compile(r"r(\d{4})_\w+\.py")  # the name of a file in migrations/versions


def upgrade(engine: Engine) -> None:
    """Create or upgrade our tables, and the schema that Dagster's go into; nothing happens where all is there.

    Raises:
        StorageError: the database was upgraded by a newer release of this project.
    """
    with engine.begin() as connection:
        if current(connection) == head() and not _absent_schemas(connection):
            return
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.util import CommandError  # noqa: PLC0415

    with engine.begin() as connection:
        connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
        migration_lock(connection)
        for schema in _absent_schemas(connection):
            connection.execute(text(f"create schema {schema}"))
        config = alembic_config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise StorageError(
                f"the database is at revision {current(connection)}, which this release does not know "
                f"(its newest is {head()}); install the release that upgraded it"
            ) from exc


def _absent_schemas(connection: Connection) -> list[str]:
    """Return our schemas that are not there; "create if not exists" asks for the right even where they are."""
    found = set(connection.execute(text("select nspname from pg_namespace")).scalars())
    return [schema for schema in (SCHEMA, DAGSTER_SCHEMA) if schema not in found]


def current(connection: Connection) -> str | None:
    """Return the revision of the database, None where our tables are not."""
    known = connection.execute(text("select to_regclass(:table)"), {"table": f"{SCHEMA}.{VERSION_TABLE}"}).scalar()
    if known is None:
        return None
    return connection.execute(text(f"select version_num from {SCHEMA}.{VERSION_TABLE}")).scalar()  # noqa: S608


@cache
def head() -> str:
    """Return the newest revision of this release."""
    names = [entry.name for entry in files("kline_pipeline.database.migrations.versions").iterdir()]
    revisions = [match[1] for name in names if (match := _REVISION.fullmatch(name))]
    if not revisions:
        msg = "the package has no migrations; install it again"
        raise StorageError(msg)
    return max(revisions)


def alembic_config() -> "Config":
    """Return where the revisions are; a connection is set by the caller as attribute."""
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", "kline_pipeline.database:migrations")
    config.set_main_option("path_separator", "os")
    return config
