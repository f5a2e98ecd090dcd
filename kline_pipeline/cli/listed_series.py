"""Which series the datasets have: those of datasets.toml, and those that Dagster knows besides; none is added here."""

from collections.abc import Sequence
from dataclasses import dataclass

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect, has_database
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.symbols import known_symbols
from kline_pipeline.evidence import instruments, listings
from kline_pipeline.market.series import Series


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """One series of a dataset.

    Attributes:
        series: its key.
        declared: datasets.toml names it; otherwise it is followed, or was added in the UI.
        delisted: the exchange no longer lists it, as far as was seen.
    """

    series: Series
    declared: bool
    delisted: bool = False

    def as_json(self) -> dict[str, object]:
        """Return what --json prints."""
        return {"series": str(self.series), "declared": self.declared, "delisted": self.delisted}


def declared_series(declared: Sequence[Dataset]) -> list[ListedSeries]:
    """Return the series that datasets.toml names, in its order; nobody is asked."""
    return [ListedSeries(dataset.series(symbol), declared=True) for dataset in declared for symbol in dataset.symbols]


def all_series(settings: Settings, declared: Sequence[Dataset]) -> list[ListedSeries]:
    """Return every series of the datasets: the declared ones first, then those that Dagster knows besides.

    Where nothing was ever stored there is no database to ask, and none is made.

    Raises:
        StorageError: the database does not answer.
    """
    if not has_database(settings):
        return declared_series(declared)
    with open_instance(settings) as instance, connect(settings) as database:
        known = {dataset.name: known_symbols(instance, dataset) for dataset in declared}
        gone = {category: _delisted(database, category) for category in {one.category for one in declared}}
    return [
        ListedSeries(dataset.series(symbol), symbol in dataset.symbols, symbol in gone[dataset.category])
        for dataset in declared
        for symbol in dict.fromkeys([*dataset.symbols, *known[dataset.name]])
    ]


def _delisted(database: Database, category: str) -> set[str]:
    with database.translate_errors(), database.engine.begin() as connection:
        seen = instruments.seen(connection, category)
        going_on = listings.going_on(connection, category)
    closed = {symbol for symbol, one in seen.items() if one.status == instruments.CLOSED}
    # Spot that vanished from instruments-info is known by its candles alone.
    return closed | {symbol for symbol, goes_on in going_on.items() if not goes_on and symbol not in seen}
