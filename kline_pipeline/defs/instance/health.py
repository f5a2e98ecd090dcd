"""Whether Dagster's storage is there and its daemon lives, looked at without making anything."""

from dataclasses import dataclass

from dagster import DagsterRunStatus, RunsFilter
from dagster_postgres import PostgresRunStorage
from sqlalchemy import text

from kline_pipeline.database.engine import Database
from kline_pipeline.database.tables import DAGSTER_SCHEMA


@dataclass(frozen=True, slots=True)
class DagsterHealth:
    """What is there.

    Attributes:
        revision, newest_revision: of Dagster's tables, and of the installed release.
        heartbeat_s: of the daemon that showed its life last, UTC seconds; None where none ever did.
        queued_runs: runs that wait for the daemon.
    """

    revision: str | None
    newest_revision: str
    heartbeat_s: float | None
    queued_runs: int


def look(database: Database) -> DagsterHealth | None:
    """Return what is there of Dagster in a database; None where its tables are not.

    Raises:
        DatabaseUnavailable: no server answers.
    """
    with database.translate_errors():
        with database.engine.connect() as connection:
            name = {"table": f"{DAGSTER_SCHEMA}.runs"}
            if connection.execute(text("select to_regclass(:table)"), name).scalar() is None:
                return None
        storage = PostgresRunStorage(database.dagster_url, should_autocreate_tables=False)
        version = storage.alembic_version()
        beats = [heartbeat.timestamp for heartbeat in storage.get_daemon_heartbeats().values()]
        queued = storage.get_runs_count(RunsFilter(statuses=[DagsterRunStatus.QUEUED]))
    revision, newest = version or (None, None)
    return DagsterHealth(revision, str(newest), max(beats, default=None), queued)
