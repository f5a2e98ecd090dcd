"""The datasets that datasets.toml declares, and their partitions; how the file is changed is told in datasets_file.

A dataset is one (category, interval) with its symbols, first date, grain and sinks. A partition is one cell of it: a
date, the first one of the grain, and a symbol.
"""

import tomllib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

from kline_pipeline.dataset_automation import Follow, Schedule, read_follow, read_schedule
from kline_pipeline.errors import DatasetsError, UnknownSeries
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series, check_category
from kline_pipeline.market.window import Window, to_ms

GRAINS: Final = ("day", "month", "year")
SINKS: Final = ("postgres", "parquet")
# The month of the first candle of each category (bybit-v5.md 5.1).
_HISTORY_BEGINS: Final = {"linear": date(2020, 3, 1), "spot": date(2021, 7, 1), "inverse": date(2018, 11, 1)}
_KEYS: Final = frozenset(
    {"category", "interval", "start", "grain", "symbols", "follow", "exclude", "sinks", "schedule"}
)


class Cell(NamedTuple):
    """One partition of a dataset: the first date of its grain, and its symbol."""

    date: date
    symbol: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One (category, interval) as datasets.toml declares it.

    Attributes:
        start: first date, already floored to the grain.
        grain: day, month or year.
        symbols: always present, in the order of the file.
        exclude: taken out by `series remove`.
        sinks: postgres, parquet or both.
        follow: what of the exchange's instruments is added by itself; None for nothing.
        schedule: when it is brought up to date by itself.
    """

    category: str
    interval: Interval
    start: date
    grain: str
    symbols: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    sinks: tuple[str, ...] = SINKS
    follow: Follow | None = None
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def name(self) -> str:
        """The name of the group of assets: linear_1."""
        return f"{self.category}_{self.interval.code}"

    def series(self, symbol: str) -> Series:
        """Return the series of a symbol of this dataset."""
        return Series(self.category, symbol, self.interval)

    def follows(self, symbol: str, quote: str, status: str) -> bool:
        """Return whether an instrument of its category is one to be taken up: followed and not excluded."""
        taken = self.follow is not None and self.follow.matches(symbol=symbol, quote=quote, status=status)
        return taken and symbol not in self.exclude

    def floor(self, day: date) -> date:
        """Return the date of the partition that contains `day`."""
        return floor_date(day, self.grain)

    def dates(self, now_ms: int) -> list[date]:
        """Return the dates of all partitions, ascending, up to and including the one that contains `now_ms`."""
        today = datetime.fromtimestamp(now_ms / 1000, tz=UTC).date()
        found, day = [], self.start
        while day <= today:
            found.append(day)
            day = next_date(day, self.grain)
        return found

    def window(self, day: date) -> Window:
        """Return the window of a partition: from its first open time on the grid to its last one plus the interval.

        Raises:
            DatasetsError: `day` is not the first date of a partition.
        """
        if self.floor(day) != day:
            msg = f"{day} is not the first date of a partition of {self.name} (grain {self.grain})"
            raise DatasetsError(msg)
        start_ms = self.interval.ceil(_midnight_ms(day))
        return Window(start_ms, max(start_ms, self.interval.ceil(_midnight_ms(next_date(day, self.grain)))))

    def date_of(self, open_time_ms: int) -> date:
        """Return the date of the partition that a candle belongs to."""
        return self.floor(datetime.fromtimestamp(open_time_ms / 1000, tz=UTC).date())


def floor_date(day: date, grain: str) -> date:
    """Return the first date of the day, month or year that contains `day`."""
    if grain == "year":
        return day.replace(month=1, day=1)
    return day.replace(day=1) if grain == "month" else day


def next_date(day: date, grain: str) -> date:
    """Return the first date of the next day, month or year."""
    return floor_date(floor_date(day, grain) + timedelta(days={"day": 1, "month": 32, "year": 366}[grain]), grain)


def load(path: Path | None) -> tuple[Dataset, ...]:
    """Return the datasets of a file, in its order; of the packaged default when `path` is None.

    Raises:
        DatasetsError: the file cannot be read, is not TOML, or declares something that cannot be.
    """
    where = str(path or "the packaged datasets.toml")
    try:
        entries = tomllib.loads(read_text(path)).get("dataset", [])
    except tomllib.TOMLDecodeError as exc:
        raise DatasetsError(f"{where} is not TOML: {exc}; mend that line") from exc
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetsError(f"{where}: every dataset begins with a line [[dataset]]")
    found = tuple(_dataset(entry, f"{where}, dataset {number}") for number, entry in enumerate(entries, start=1))
    names = [dataset.name for dataset in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DatasetsError(f"{where} declares {', '.join(sorted(twice))} twice; join the two entries")
    return found


def undeclared(category: str, interval: Interval) -> Dataset:
    """Return the dataset that `datasets_file.add_symbol` would declare where there is none, without symbols."""
    return _dataset({"category": category, "interval": interval.code}, "a new dataset")


def read_text(path: Path | None) -> str:
    """Return the text of a datasets.toml, of the packaged one when `path` is None.

    Raises:
        DatasetsError: it cannot be read.
    """
    try:
        return path.read_text() if path else (files("kline_pipeline") / "datasets.toml").read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetsError(f"{path} cannot be read: {exc}; check KLINE_DATASETS_FILE") from exc


def _dataset(entry: dict[str, Any], where: str) -> Dataset:
    if unknown := sorted(set(entry) - _KEYS):
        raise DatasetsError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    try:
        category, interval = check_category(str(entry["category"])), Interval(str(entry["interval"]))
        default_grain = "year" if interval.code in ("D", "W", "M") else "month"
        grain = _one_of("grain", entry.get("grain", default_grain), GRAINS)
        start = entry.get("start", _HISTORY_BEGINS[category])
        if not isinstance(start, date) or isinstance(start, datetime):
            raise DatasetsError(f"start = {start!r} must be a date such as 2024-01-01, without quotes")
        dataset = Dataset(
            category,
            interval,
            floor_date(start, grain),
            grain,
            _names("symbols", entry.get("symbols", [])),
            _names("exclude", entry.get("exclude", [])),
            tuple(_one_of("sinks", sink, SINKS) for sink in _names("sinks", entry.get("sinks", list(SINKS)))),
            read_follow(entry["follow"], category) if "follow" in entry else None,
            read_schedule(entry.get("schedule", {})),
        )
        for symbol in dataset.symbols:
            dataset.series(symbol)
    except KeyError as exc:
        raise DatasetsError(f"{where}: {exc.args[0]} is missing") from exc
    except (UnknownSeries, DatasetsError) as exc:
        raise DatasetsError(f"{where}: {exc}") from exc
    if not dataset.sinks:
        raise DatasetsError(f"{where}: sinks is empty; name postgres, parquet or both")
    return dataset


def _names(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DatasetsError(f"{key} = {value!r} must be a list of texts")
    return tuple(dict.fromkeys(value))


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise DatasetsError(f"{key} = {value!r} must be one of {', '.join(allowed)}")
    return str(value)


def _midnight_ms(day: date) -> int:
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
