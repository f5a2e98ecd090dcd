"""Reads one file of recorded candles into exact columns. Which files belong together: replay."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np

from kline_pipeline.simulator.grid import INTERVALS, floor_all_ms, parse_time_ms
from kline_pipeline.simulator.history import Columns, HistoryError, Numbers

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather")
TIME_NAMES = ("open_time", "timestamp")
NUMBER_NAMES = ("open", "high", "low", "close", "volume")
_NAME = re.compile(r"(?P<symbol>[A-Z0-9-]+)_(?P<interval>[0-9A-Za-z]+)")
_HOURS_AND_DAYS = {"1d": "D", "1D": "D", "1w": "W", "1W": "W", "1M": "M", "1mo": "M"}


@dataclass(frozen=True, slots=True)
class Recording:
    """The candles of one file, oldest first, with the decimals of price, volume and turnover.

    `turnover_known` is False where the file has no such column; then the column is zero.
    """

    path: Path
    symbol: str
    interval: str
    columns: Columns
    decimals: tuple[int, int, int]
    turnover_known: bool


def file_series(path: Path) -> tuple[str, str]:
    """Return (symbol, Bybit's interval code) from a name like BTCUSDT_5m.csv.gz.

    Raises:
        HistoryError: the name does not say them.
    """
    suffix = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s))
    found = _NAME.fullmatch(path.name.removesuffix(suffix))
    interval = interval_code(found["interval"]) if found else None
    if found is None or interval is None:
        raise HistoryError(
            f"The file {path.name} is not named SYMBOL_INTERVAL (such as BTCUSDT_5m.csv): "
            "rename it or take it out of the folder."
        )
    return found["symbol"], interval


def interval_code(text: str) -> str | None:
    """Return Bybit's code of 1m, 240m, 4h, 1d, 1w or a code itself; None if it is neither."""
    if text in INTERVALS:
        return text
    if text in _HOURS_AND_DAYS:
        return _HOURS_AND_DAYS[text]
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in {"m", "h"}:
        return None
    minutes = str(int(number) * (60 if unit == "h" else 1))
    return minutes if minutes in INTERVALS else None


def read_recording(path: Path, *, keep_last: bool) -> Recording:
    """Return the candles of a file, without the last one (it was open) unless `keep_last`.

    Raises:
        HistoryError: the file cannot be read, lacks a column, or holds something that is no candle.
    """
    symbol, interval = file_series(path)
    try:
        names, rows = _csv(path) if ".csv" in path.name else _arrow(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise HistoryError(f"The file {path} cannot be read: {error}.") from error
    time_name = next((name for name in TIME_NAMES if name in names), None)
    wanted = [*NUMBER_NAMES, *(["turnover"] if "turnover" in names else [])]
    absent = [name for name in wanted if name not in names]
    if time_name is None or absent:
        lacking = ", ".join(absent) if time_name else "open_time (or timestamp)"
        raise HistoryError(f"The file {path} has no column {lacking}: it has {', '.join(names)}.")
    at = [names.index(name) for name in (time_name, *wanted)]
    cells = _cells(path, rows, at)
    opens = _open_times(path, interval, [row[0] for row in cells])
    numbers = [[row[place] for row in cells] for place in range(1, len(at))]
    columns, decimals = _exact(path, opens, numbers)
    order = np.argsort(columns.open_time, kind="stable")
    columns = columns.take(order if keep_last else order[:-1])
    return Recording(path, symbol, interval, columns, decimals, "turnover" in names)


def _csv(path: Path) -> tuple[list[str], Iterator[Sequence[Any]]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text)))
    names = [name.strip().lower() for name in lines[0]] if lines else []
    return names, (line for line in lines[1:] if line)


def _arrow(path: Path) -> tuple[list[str], Iterator[Sequence[Any]]]:
    # Imported here: pyarrow takes a third of a second, and most uses need none of it.
    import pyarrow.feather  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    table = pyarrow.parquet.read_table(path) if path.name.endswith(".parquet") else pyarrow.feather.read_table(path)
    names = [name.lower() for name in table.column_names]
    return names, zip(*(column.to_pylist() for column in table.columns), strict=True)


def _cells(path: Path, rows: Iterator[Sequence[Any]], at: list[int]) -> list[list[str]]:
    cells = []
    for number, row in enumerate(rows, start=1):
        if len(row) <= max(at):
            raise HistoryError(f"Row {number} of {path} has only {len(row)} columns.")
        cells.append([_text(row[place]) for place in at])
    if not cells:
        raise HistoryError(f"The file {path} holds no candles.")
    return cells


def _text(value: Any) -> str:
    # A float becomes the shortest text that means it: what the exchange had sent, in practice.
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return "" if value is None else str(value).strip()


def _open_times(path: Path, interval: str, texts: list[str]) -> Numbers:
    opens = []
    for number, text in enumerate(texts, start=1):
        try:
            opens.append(parse_time_ms(text))
        except ValueError as error:
            raise HistoryError(f"Row {number} of {path} has no time: {text!r}.") from error
    column = np.array(opens, dtype=np.int64)
    off = np.flatnonzero(floor_all_ms(interval, column) != column)
    if len(off):
        raise HistoryError(f"Row {off[0] + 1} of {path} opens at {texts[off[0]]}, not on the grid of {interval}.")
    values, counts = np.unique(column, return_counts=True)
    if len(values) < len(column):
        twice = texts[int(np.flatnonzero(column == values[counts > 1][0])[0])]
        raise HistoryError(f"The file {path} has the candle of {twice} more than once.")
    return column


def _exact(path: Path, opens: Numbers, numbers: list[list[str]]) -> tuple[Columns, tuple[int, int, int]]:
    texts = [[_plain(path, row, text) for row, text in enumerate(column, 1)] for column in numbers]
    places = [max(len(text.partition(".")[2]) for text in column) for column in texts]
    price, volume = max(places[:4]), places[4]
    turnover = places[5] if len(places) > len(NUMBER_NAMES) else 0
    decimals = [price] * 4 + [volume, turnover]
    # Python integers: no digits of a recording are too many.
    whole = [np.array(_whole(column, digits), dtype=object) for column, digits in zip(texts, decimals, strict=False)]
    if len(whole) == len(NUMBER_NAMES):
        whole.append(np.zeros(len(opens), dtype=object))
    begin, high, low, close, size, value = whole
    columns = Columns(opens, begin, high, low, close, size, value)
    return columns, (price, volume, turnover)


def _plain(path: Path, row: int, text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number < 0:
        raise HistoryError(f"Row {row} of {path} has {text!r} where a number belongs.")
    plain = format(number, "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _whole(texts: list[str], decimals: int) -> list[int]:
    wholes = []
    for text in texts:
        whole, _, rest = text.partition(".")
        wholes.append(int(whole + rest.ljust(decimals, "0")))
    return wholes
