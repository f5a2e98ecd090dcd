"""What of Dagster's memory goes, which Dagster itself never prunes; when it is done is told in automation/housekeeping.

Dagster's pages read, of a cell, its newest event of each type and the newest result of each check, with the runs that
these belong to (partition_status_cache, asset_check_state and sql_event_log of the release that partition_results
names). These stay however old they are, with whatever an unfinished run wrote; so every page of a cell shows the same
before and after, and what stays is bounded by the number of cells and not by the number of ticks. What goes:

    cell events and check results that a newer one replaced   after 36 hours, longer than the alerts look back
    lines of the log of a finished run                        after 7 days
    finished runs to which nothing points that stays          after keep_days, with all their events
    ticks but the newest of each sensor and schedule          after keep_days
    finished backfills of which no run is left                after keep_days

A row that may go stays one that may go: nothing older than the newest becomes the newest. Therefore the rows are chosen
by one query each and deleted in short transactions, beside a daemon and runs that work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from kline_pipeline.database.engine import Database
from kline_pipeline.database.tables import DAGSTER_SCHEMA

REPLACED_KEPT: Final = timedelta(hours=36)
LOG_LINES_KEPT: Final = timedelta(days=7)
_BATCH: Final = 2000
_NAMES: Final = {
    "cell_events": [
        "ASSET_MATERIALIZATION",
        "ASSET_MATERIALIZATION_PLANNED",
        "ASSET_FAILED_TO_MATERIALIZE",
        "ASSET_OBSERVATION",
    ],
    "check_events": ["ASSET_CHECK_EVALUATION", "ASSET_CHECK_EVALUATION_PLANNED"],
    "run_ends": ["SUCCESS", "FAILURE", "CANCELED"],
    "backfill_ends": ["COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"],
    "repeats": ["dagster/parent_run_id", "dagster/root_run_id"],
}

# The page of a check shows its newest execution, which may never have come to a result, and its newest result.
_REPLACED_RESULTS: Final = """
    select id from (
        select id, run_id, execution_status = 'PLANNED' as planned, evaluation_event_timestamp as at,
            max(id) over cell as newest, max(id) filter (where execution_status <> 'PLANNED') over cell as newest_result
        from dagster.asset_check_executions
        window cell as (partition by asset_key, check_name, partition)
    ) old
    where at < :replaced and id < newest and (planned or id < newest_result)
        and not exists (select from dagster.runs r where r.run_id = old.run_id and r.status <> all(:run_ends))
"""
_REPLACED_CELL_EVENTS: Final = """
    select id from (
        select id, run_id, timestamp as at, max(id) over cell as newest
        from dagster.event_logs
        where asset_key is not null and dagster_event_type = any(:cell_events)
        window cell as (partition by asset_key, dagster_event_type, partition)
    ) old
    where at < :replaced and id < newest
        and not exists (select from dagster.runs r where r.run_id = old.run_id and r.status <> all(:run_ends))
"""
_REPLACED_CHECK_EVENTS: Final = """
    select id from dagster.event_logs old
    where timestamp < :replaced and dagster_event_type = any(:check_events)
        and not exists (select from dagster.asset_check_executions e where e.evaluation_event_storage_id = old.id)
        and not exists (select from dagster.runs r where r.run_id = old.run_id and r.status <> all(:run_ends))
"""
_LOG_LINES: Final = """
    select id from dagster.event_logs old
    where timestamp < :log_lines and dagster_event_type is null
        and not exists (select from dagster.runs r where r.run_id = old.run_id and r.status <> all(:run_ends))
"""
# Pages link from a cell to the run of each event that stays, and from a run to the one that it repeats.
_OLD_RUNS: Final = """
    select run_id from dagster.runs old
    where status = any(:run_ends) and coalesce(end_time, extract(epoch from update_timestamp)) < :old_s
        and not exists (
            select from dagster.event_logs e
            where e.run_id = old.run_id and e.dagster_event_type = any(cast(:cell_events as text[]) || :check_events)
        )
        and not exists (select from dagster.asset_check_executions e where e.run_id = old.run_id)
        and not exists (
            select from dagster.run_tags t
            where t.key = any(:repeats) and t.value = old.run_id and t.run_id <> old.run_id
        )
"""
# The daemon goes on from the newest tick.
_OLD_TICKS: Final = """
    select id from (
        select id, timestamp as at, max(id) over (partition by job_origin_id, selector_id) as newest
        from dagster.job_ticks
    ) old
    where at < :old and id < newest
"""
_OLD_BACKFILLS: Final = """
    select key from dagster.bulk_actions old
    where status = any(:backfill_ends) and timestamp < :old
        and not exists (select from dagster.runs r where r.backfill_id = old.key)
"""


@dataclass(slots=True)
class Pruned:
    """What a pruning did.

    Attributes:
        rows: deleted rows per table of schema `dagster`.
        freed_bytes: stored size of the deleted events; the server uses that space again, files seldom shrink.
        run_ids: the deleted runs.
        bytes_before: size of all of Dagster's tables and indexes on disk.
        bytes_after: the same after the pruning.
    """

    rows: dict[str, int] = field(default_factory=dict)
    freed_bytes: int = 0
    run_ids: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0


def prune(database: Database, *, now_ms: int, keep_days: int) -> Pruned:
    """Delete what no page of a cell shows any more and return what was deleted; a second call finds nothing.

    Args:
        database: the one that holds Dagster's tables too.
        now_ms: UTC.
        keep_days: of runs, ticks and backfills that have ended; also the most that replaced events and log lines get.

    Raises:
        DatabaseUnavailable: the server does not answer.
        StorageError: the server refused, or Dagster has never used this database.
    """
    report = Pruned()
    times = _times(now_ms, keep_days)
    with database.translate_errors():
        report.bytes_before = dagster_bytes(database)
        for ids in _chosen(database, _REPLACED_RESULTS, times):
            _delete(database, report, "asset_check_executions", ids, size_of="evaluation_event")
        for chosen in (_REPLACED_CELL_EVENTS, _REPLACED_CHECK_EVENTS, _LOG_LINES):
            for ids in _chosen(database, chosen, times):
                _delete(database, report, "event_logs", ids, size_of="event", also=("asset_event_tags", "event_id"))
        while _delete_runs(database, report, times):  # a repetition goes before the run that it repeats
            pass
        for ids in _chosen(database, _OLD_TICKS, times):
            _delete(database, report, "job_ticks", ids)
        for keys in _chosen(database, _OLD_BACKFILLS, times):
            _delete(database, report, "bulk_actions", keys, by="key", also=("backfill_tags", "backfill_id"))
        _vacuum(database, report)
        report.bytes_after = dagster_bytes(database)
    return report


def dagster_bytes(database: Database) -> int:
    """Return the size of all of Dagster's tables and indexes on disk."""
    statement = text(
        "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class "
        "where relkind = 'r' and relnamespace = (select oid from pg_namespace where nspname = :schema)"
    )
    with database.engine.connect() as connection:
        return int(connection.execute(statement, {"schema": DAGSTER_SCHEMA}).scalar_one())


def _times(now_ms: int, keep_days: int) -> dict[str, Any]:
    """Return the ends of the spans that are pruned, without a zone where Dagster's columns have none."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).replace(tzinfo=None)
    kept = timedelta(days=keep_days)
    return {
        "replaced": now - min(REPLACED_KEPT, kept),
        "log_lines": now - min(LOG_LINES_KEPT, kept),
        "old": now - kept,
        "old_s": now_ms / 1000 - kept.total_seconds(),
    }


def _chosen(database: Database, statement: str, times: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the first column of what a statement chooses, in batches."""
    with database.engine.connect() as connection:
        found = sorted(connection.execute(text(statement), _NAMES | times).scalars())
    for first in range(0, len(found), _BATCH):
        yield found[first : first + _BATCH]


def _delete(
    database: Database,
    report: Pruned,
    table: str,
    keys: Sequence[Any],
    *,
    by: str = "id",
    size_of: str | None = None,
    also: tuple[str, str] | None = None,
) -> None:
    """Delete rows of a table in one transaction, with those of another that point to them."""
    with database.engine.begin() as connection:
        if also is not None:
            _delete_in(connection, report, also[0], also[1], keys)
        _delete_in(connection, report, table, by, keys, size_of=size_of)


def _delete_in(
    connection: Connection, report: Pruned, table: str, by: str, keys: Sequence[Any], *, size_of: str | None = None
) -> None:
    size = f"pg_column_size({size_of})" if size_of else "0"
    statement = text(
        f"with gone as (delete from dagster.{table} where {by} = any(:keys) returning {size} as size) "  # noqa: S608 - names of this module
        "select count(*), coalesce(sum(size), 0) from gone"
    )
    rows, freed = connection.execute(statement, {"keys": list(keys)}).one()
    if rows:
        report.rows[table] = report.rows.get(table, 0) + int(rows)
        report.freed_bytes += int(freed)


def _delete_runs(database: Database, report: Pruned, times: dict[str, Any]) -> bool:
    found = False
    for run_ids in _chosen(database, _OLD_RUNS, times):
        found = True
        with database.engine.begin() as connection:
            _delete_in(connection, report, "event_logs", "run_id", run_ids, size_of="event")
            _delete_in(connection, report, "run_tags", "run_id", run_ids)
            _delete_in(connection, report, "runs", "run_id", run_ids, size_of="run_body")
        report.run_ids += run_ids
    return found


def _vacuum(database: Database, report: Pruned) -> None:
    """Give the space of the deleted rows back to their tables; nobody waits for it."""
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for table in report.rows:
            connection.exec_driver_sql(f"vacuum (analyze) dagster.{table}")
