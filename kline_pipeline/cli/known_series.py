"""Series that a command was given: the exchange is asked about them before anything is written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kline_pipeline import datasets
from kline_pipeline.bybit.lives import probe_lives
from kline_pipeline.bybit.side_by_side import side_by_side
from kline_pipeline.cli.session import say
from kline_pipeline.cli.ui_address import running_up
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.datasets_file import add_symbol
from kline_pipeline.errors import UnknownSeries
from kline_pipeline.evidence import instruments, listings
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.series import Series

if TYPE_CHECKING:
    from kline_pipeline.opening import Opened

Names = tuple[str, str]


def learn(settings: Settings, opened: "Opened", series: Sequence[Series]) -> dict[Names, Listing]:
    """Return the lives of every (category, symbol), asked of the exchange where the database does not know them.

    The venue is claimed and the answers are written only when the exchange knew all of them.

    Raises:
        BadSymbol: the exchange does not know one; nothing was written.
        UnknownSeries: one has no candle yet; nothing was written.
        VenueMismatch: the stores belong to another exchange; nothing was written.
    """
    grace_ms = round(settings.bybit.close_grace_s * 1000)
    known: dict[Names, Listing] = {}
    asked: list[Names] = []
    with opened.database.translate_errors(), opened.database.engine.begin() as connection:
        for names in dict.fromkeys((one.category, one.symbol) for one in series):
            listing = listings.read(connection, *names)
            if listing is None:
                asked.append(names)
            else:
                known[names] = listing
    found = side_by_side(
        lambda names: probe_lives(opened.client, *names, grace_ms=grace_ms), asked, settings.bybit.concurrency
    )
    if nameless := [lives for lives in found if not lives.lives]:
        key = f"{nameless[0].category}:{nameless[0].symbol}"
        raise UnknownSeries(f"{key} has no candle on {opened.client.host} yet; try again later")
    opened.pipeline.claim()
    with opened.database.translate_errors(), opened.database.engine.begin() as connection:
        for lives in found:
            known[lives.category, lives.symbol] = listings.write(connection, lives)
    return known


def declare(settings: Settings, series: Sequence[Series]) -> tuple[Settings, list[Series]]:
    """Write what datasets.toml lacks of the series into it; return the settings that name the file, and what was new.

    An `up` that runs knows the datasets from its start: where one came anew, how its UI comes to show it is said.

    Raises:
        DatasetsError: the file cannot be read or written.
    """
    before = {dataset.name for dataset in datasets.load(settings.datasets_file)}
    added = [one for one in series if not _declared(settings, one)]
    for one in added:
        add_symbol(settings, one)
    anew = reloaded(settings)
    new = [dataset.name for dataset in datasets.load(anew.datasets_file) if dataset.name not in before]
    if new and (ui := running_up(anew.home)):
        say(f"new to the UI: {', '.join(new)}; it shows them after Reload on {ui}/locations")
    return anew, added


def followed(opened: "Opened", declared: Sequence[Dataset], series: Sequence[Series]) -> list[Series]:
    """Return those of the series that their dataset follows: they need no place in datasets.toml.

    Raises:
        DatabaseUnavailable: what is known of their instruments could not be read.
    """
    by_key = {(dataset.category, dataset.interval): dataset for dataset in declared if dataset.follow is not None}
    wanted = [one for one in series if (one.category, one.interval) in by_key]
    with opened.database.translate_errors(), opened.database.engine.begin() as connection:
        seen = {name: instruments.seen(connection, name) for name in {one.category for one in wanted}}
    found = []
    for one in wanted:
        dataset, instrument = by_key[one.category, one.interval], seen[one.category].get(one.symbol)
        if instrument is not None and dataset.follows(one.symbol, instrument.quote_coin, instrument.status):
            found.append(one)
    return found


def reloaded(settings: Settings) -> Settings:
    """Return the settings after datasets.toml was written, which may have made KLINE_HOME/datasets.toml."""
    anew = Settings.load(simulated=settings.simulated).with_base_url(settings.bybit.base_url)
    anew.export()
    return anew


def _declared(settings: Settings, series: Series) -> bool:
    return any(
        (dataset.category, dataset.interval) == (series.category, series.interval) and series.symbol in dataset.symbols
        for dataset in datasets.load(settings.datasets_file)
    )
