"""Dagster's own storage: in our PostgreSQL, with pools of connections; what is stored there is Dagster's business.

dagster.yaml names `PooledPostgresStorage`, so that the UI, the daemon, the code server, every run process and a plain
`dagster dev` find or start the same database as our commands do.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

from dagster import DagsterInstance
from dagster._config import UserConfigSchema
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresScheduleStorage

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.defs.instance.check_states import EventLog
from kline_pipeline.defs.instance.home import write_dagster_home
from kline_pipeline.defs.instance.known_schema import RunsOfKnownTables
from kline_pipeline.log.redaction import protect

_STATEMENT_TIMEOUT_MS: Final = 60_000
_RECYCLE_S: Final = 3600
_OVERFLOW: Final = 10
_NO_OUTPUT: Final = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
_EVENT_BATCH: Final = "500"  # 53 -> 1800 materializations per second (dagster.md 1.2); Dagster reads the environment


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage in schema `dagster` of the database of the settings.

    Dagster opens a connection per event, 877 of them in a run over a year of months; a pool takes that from 8.8 s to
    2.2 s (dagster.md 8). An embedded server is held to the end of the process: Dagster keeps the
    parts of the storage and not the storage itself, so nothing else says when it is done.
    """

    def __init__(self, database: Database, inst_data: ConfigurableClassData | None = None) -> None:
        self.postgres_url, self.should_autocreate_tables = database.dagster_url, True
        self._inst_data = inst_data
        self._run_storage = RunsOfKnownTables(database.dagster_url)
        self._event_log_storage = EventLog(database.dagster_url)
        self._schedule_storage = PostgresScheduleStorage(database.dagster_url)
        # DagsterPostgresStorage itself would make parts of its own, each of which connects.
        super(DagsterPostgresStorage, self).__init__()  # type: ignore[no-untyped-call]
        for part in (self._event_log_storage, self._run_storage, self._schedule_storage):
            part.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, _RECYCLE_S, _OVERFLOW)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return the fields that dagster.yaml may set: none, the settings say all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Return the storage of the settings; the embedded server is found or started.

        Raises:
            ConfigError: a setting cannot work.
            DatabaseUnavailable: no server answers.
        """
        del config_value
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _EVENT_BATCH)
        settings = Settings.load()
        protect(settings.secrets())  # every process of Dagster comes here, also those whose lines are not ours
        database = connect(settings)
        database.engine.dispose()  # Dagster connects by its own engines; the hold on an embedded server stays
        return cls(database, inst_data)


@contextmanager
def open_instance(settings: Settings, *, keep_output: bool = True) -> Iterator[DagsterInstance]:
    """Open the Dagster instance of KLINE_HOME; its connections are closed at the end of the block.

    The settings and DAGSTER_HOME are written to the environment, so that processes started inside agree with this one.

    Args:
        settings: of the KLINE_HOME.
        keep_output: what runs of this process print goes to the page of the run too, for which Dagster starts four
            processes in each run (0.4 s of CPU); our log lines are among its events in any case.

    Raises:
        DatabaseUnavailable: no database server answers.
    """
    settings.export()
    folder = write_dagster_home(settings)
    os.environ["DAGSTER_HOME"] = str(folder)
    overrides = {} if keep_output else {"compute_logs": _NO_OUTPUT}
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides=overrides)) as instance:
        yield instance
