"""What `doctor` sees of folders, object stores and cache, and whether all hold candles of the configured exchange."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from kline_pipeline.bybit.cache.stores import Store
from kline_pipeline.bybit.cache.upkeep import open_store
from kline_pipeline.cli.checkup.database import DatabaseLooks
from kline_pipeline.cli.checkup.exchange import ExchangeLooks
from kline_pipeline.cli.checkup.finding import Seen, not_asked
from kline_pipeline.cli.checkup.machine import may_write, nearest
from kline_pipeline.config import Settings
from kline_pipeline.database import migrate
from kline_pipeline.database.venue import recorded_venue
from kline_pipeline.errors import KlineError
from kline_pipeline.files import Folder


class StoreLooks:
    """Looks at what keeps candles, and at which exchange each says they are from."""

    def __init__(self, settings: Settings, database: DatabaseLooks, exchange: ExchangeLooks) -> None:
        self._settings = settings
        self._database = database
        self._exchange = exchange

    def folder(self, variable: str, url: str) -> Seen:
        """Look whether a folder can be read and written; in an object store a file of a name of its own is tried."""
        folder = Folder(url)
        if "://" not in url or url.startswith("file://"):
            there = nearest(Path(url.removeprefix("file://")))
            if may_write(there):
                return "ok", f"{url} can be written"
            return "FAIL", f"{there} is no folder that can be written; mend it, or set another {variable}"
        name = f".doctor-{secrets.token_hex(4)}"
        try:
            folder.replace(name, b"of doctor")
            content = folder.read(name)
            folder.delete(name)
        except KlineError:
            raise
        except Exception as exc:  # noqa: BLE001 - each kind of object store has errors of its own
            told = f"could not write to {url} ({type(exc).__name__})"
            return "FAIL", f"{told}; check {variable}, its credentials and rights"
        if content != b"of doctor":
            return "FAIL", f"{url} does not give back what was written; check {variable}"
        return "ok", f"{url} can be written"

    def cache(self) -> Seen:
        """Look whether the cache answers; the pipeline does not need it, `fetch` and `latest` do."""
        url = self._settings.cache_url
        if url is None:
            return "ok", "there is none, as BYBIT_CACHE_URL says"
        with self._opened_cache() as store:
            store.owner()
            if (folder := url.get_secret_value().removeprefix("file:")) != url.get_secret_value():
                there = nearest(Path(folder))
                if not may_write(there):
                    return "FAIL", f"{there} is no folder that can be written; mend it, or set another BYBIT_CACHE_URL"
            return "ok", f"{store.location} can be used"

    def venue(self) -> Seen:
        """Compare the exchange that each store has recorded with the one that answers."""
        if self._exchange.venue is None:
            return not_asked("the exchange did not say which one it is")
        told, unread = self._recorded()
        if strange := [f"{store} holds candles of {venue}" for store, venue in told if venue != self._exchange.venue]:
            advice = "use another KLINE_HOME or database, or point BYBIT_BASE_URL at the exchange they belong to"
            return "FAIL", f"{'; '.join(strange)}; the exchange is {self._exchange.venue}: {advice}"
        if unread:
            return "warn", f"not known of {', '.join(unread)}, see there"
        what = ", ".join(store for store, _ in told)
        return "ok", f"all candles are those of {self._exchange.venue}: {what}" if told else "no candle is stored yet"

    def _recorded(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Return what stores have recorded, and the names of those that could not be read."""
        looks: dict[str, Callable[[], str | None]] = {
            "the database": self._of_database,
            "the work folder": partial(_of_folder, self._settings.work_url),
            "snapshots": partial(_of_folder, self._settings.snapshot_url),
            "the cache": self._of_cache,
        }
        told, unread = [], []
        for name, look in looks.items():
            try:
                venue = look()
            except (KlineError, OSError):
                unread.append(name)
                continue
            if venue is not None:
                told.append((name, venue))
        return told, unread

    def _of_database(self) -> str | None:
        if self._database.answering is None:
            return None
        with self._database.answering.translate_errors(), self._database.answering.engine.connect() as connection:
            return None if migrate.current(connection) is None else recorded_venue(connection)

    def _of_cache(self) -> str | None:
        if self._settings.cache_url is None:
            return None
        with self._opened_cache() as store:
            return store.owner()

    @contextmanager
    def _opened_cache(self) -> Iterator[Store]:
        assert self._settings.cache_url is not None  # noqa: S101
        days = self._settings.bybit.cache_ttl_days
        with closing(
            open_store(self._settings.cache_url.get_secret_value(), ttl_days=days, clock_ms=lambda: 0)
        ) as store:
            yield store


def _of_folder(url: str) -> str | None:
    return (Folder(url).read("venue") or b"").decode(errors="replace").strip() or None
