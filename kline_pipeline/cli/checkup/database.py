"""What `doctor` sees of the database: our tables, and Dagster's storage and daemon; nothing is made or started."""

from contextlib import ExitStack
from typing import Final

from kline_pipeline.cli.checkup.finding import Seen, not_asked
from kline_pipeline.config import Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.cluster import Cluster
from kline_pipeline.database.embedded import EmbeddedServer
from kline_pipeline.database.engine import Database, connect

_SILENT_S: Final = 300  # a daemon shows its life every 30 s
_NO_DAEMON: Final = "no daemon runs: schedules, sensors and alerts do nothing"


class DatabaseLooks:
    """The database of the settings, as far as it answers.

    Attributes:
        shared: of KLINE_DATABASE_URL with our tables at the newest revision; None otherwise.
        answering: whatever answers, embedded or not, with tables or not; None where nothing does.
    """

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self.shared: Database | None = None
        self.answering: Database | None = None
        self._absent = "the database does not answer"

    def ours(self) -> Seen:
        """Look at the database of KLINE_DATABASE_URL, or at the embedded one if it runs."""
        if self._settings.database_url is None:
            return self._embedded(EmbeddedServer(self._settings.home))
        database = self._stack.enter_context(connect(self._settings, migrate=False))
        revision, seen = _revision(database, database.where, self._settings.program)
        self.answering = database
        self.shared = database if revision == migrate.head() else None
        return seen

    def _embedded(self, server: EmbeddedServer) -> Seen:
        cluster = Cluster(server.folder)
        state = cluster.state()
        if state == "unreachable":
            return "FAIL", f"the {server.describe()} runs and its socket is gone; run kline-pipeline db stop"
        if state == "ready":
            database = self._stack.enter_context(Database(server.url, None))
            seen = _revision(database, server.describe(), self._settings.program)[1]
            self.answering = database
            return seen
        does = f"is {state}" if state != "absent" else "is stopped" if cluster.data.exists() else "is not made yet"
        self._absent = ""
        return "ok", f"the {server.describe()} {does}; the next command that needs it starts it"

    def dagster(self, now_ms: int) -> Seen:
        """Look at Dagster's tables, and whether its daemon shows its life, at a time in UTC milliseconds."""
        up = f"{self._settings.program} up"
        if self.answering is None and self._absent:
            return not_asked(self._absent)
        if self.answering is None:
            return "ok", f"its tables are in the database, which does not run, and {_NO_DAEMON}; {up} runs all of it"
        # Loading Dagster takes a second, which those without a database need not pay.
        from kline_pipeline.defs.instance.health import look

        seen = look(self.answering)
        if seen is None:
            return "warn", f"it has no tables in the database yet, and {_NO_DAEMON}; run {up}"
        if seen.revision != seen.newest_revision:
            has = f"its tables are at revision {seen.revision} instead of {seen.newest_revision}"
            home = self._settings.home / "dagster"
            return "FAIL", f"{has}; stop `up`, then run DAGSTER_HOME={home} dagster instance migrate"
        waiting = f"; {seen.queued_runs} runs wait for it" if seen.queued_runs else ""
        age_s = None if seen.heartbeat_s is None else now_ms / 1000 - seen.heartbeat_s
        if age_s is None or age_s > _SILENT_S:
            return "warn", f"its tables are there, and {_NO_DAEMON}{waiting}; run {up}"
        return "ok", f"its tables are at revision {seen.revision}, its daemon showed its life {max(0, age_s):.0f} s ago"


def _revision(database: Database, where: str, program: str) -> tuple[str | None, Seen]:
    with database.translate_errors(), database.engine.connect() as connection:
        revision, newest = migrate.current(connection), migrate.head()
    if revision == newest:
        return revision, ("ok", f"{where} answers, its tables are at revision {revision}")
    if revision is not None and revision > newest:
        has = (
            f"{where} answers and is at revision {revision}, which this release does not know (its newest is {newest})"
        )
        return revision, ("FAIL", f"{has}; install the release that upgraded it")
    has = "has no tables of ours yet" if revision is None else f"is at revision {revision} instead of {newest}"
    return revision, ("warn", f"{where} answers and {has}; run {program} db upgrade, or any command that uses it")
