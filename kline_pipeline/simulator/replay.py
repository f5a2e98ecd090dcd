"""Recorded history as a source: the files of a folder become listings of one category.

The files of a symbol are clipped to their common span on the grid of the coarsest interval served;
that span is the symbol's listing, and after it the symbol is delisted. Intervals coarser than one
served are aggregates where they divide; finer ones do not exist. Reading files: recording.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kline_pipeline.simulator.grid import (
    INTERVALS,
    ceil_ms,
    divides,
    floor_all_ms,
    floor_ms,
    shift_ms,
)
from kline_pipeline.simulator.history import (
    CATEGORIES,
    Columns,
    HistoryError,
    Numbers,
    Row,
    rows_newest_first,
)
from kline_pipeline.simulator.instruments import Instrument
from kline_pipeline.simulator.recording import (
    SUFFIXES,
    Recording,
    file_series,
    interval_code,
    read_recording,
)

QUOTES = ("USDT", "USDC", "USD", "PERP", "BTC", "ETH", "EUR")


class ReplayHistory:
    """The history of recorded files `SYMBOL_INTERVAL.csv[.gz]`, `.parquet` or `.feather`.

    Args:
        folder: where the files lie; its subfolders are not looked at.
        category: under which the symbols are listed.
        intervals: the intervals served, as Bybit's codes or 1m, 1h ...; None: all found.
        keep_last: serve also the last row of each file, which is left out because it was open
            when it was recorded.

    Raises:
        HistoryError: the folder or a file cannot be served; one sentence says why.
    """

    def __init__(
        self,
        folder: Path,
        category: str,
        intervals: Iterable[str] | None = None,
        keep_last: bool = False,  # noqa: FBT001, FBT002 - the last word of --keep-last
    ) -> None:
        """Read all files that are to be served."""
        if category not in CATEGORIES:
            raise HistoryError(f"The category {category!r} is unknown: use one of {', '.join(CATEGORIES)}.")
        self._category = category
        paths = _chosen(Path(folder), intervals)
        self._symbols: dict[str, _Symbol] = {}
        for symbol in sorted({symbol for symbol, _ in paths}):
            recordings = [
                read_recording(path, keep_last=keep_last) for (owner, _), path in paths.items() if owner == symbol
            ]
            self._symbols[symbol] = _Symbol(category, symbol, recordings)
        digest = hashlib.sha256(category.encode())
        for known in self._symbols.values():
            known.add_to(digest)
        self._venue = f"replay-{digest.hexdigest()[:12]}"

    @property
    def venue(self) -> str:
        """Return replay- and a digest of all that is served."""
        return self._venue

    @property
    def seed(self) -> int | None:
        """Return None: nothing is drawn."""
        return None

    def instruments(self, category: str, now_ms: int) -> list[Instrument]:
        """Return every instrument known at `now_ms`, of any status, by symbol."""
        if category != self._category:
            return []
        return [s.instrument for s in self._symbols.values() if s.instrument.known(now_ms)]

    def find(self, category: str, symbol: str, now_ms: int) -> Instrument | None:
        """Return the instrument of this name, if files of it are served."""
        found = self._symbols.get(symbol) if category == self._category else None
        return found.instrument if found and found.instrument.known(now_ms) else None

    def has(self, instrument: Instrument, interval: str) -> bool:
        """Say whether this interval is served or is an aggregate of one that is."""
        return self._symbols[instrument.symbol].source(interval) is not None

    def newest(self, instrument: Instrument, interval: str, *, until_ms: int, limit: int, now_ms: int) -> list[Row]:
        """Return the newest `limit` candles that open at or before `until_ms`, newest first.

        A candle that is open at `now_ms` comes as it was recorded, with all its trades.
        """
        columns, decimals = self._symbols[instrument.symbol].series(interval)
        end = int(np.searchsorted(columns.open_time, min(until_ms, now_ms), side="right"))
        return rows_newest_first(columns.take(slice(max(0, end - limit), end)), decimals)


class _Symbol:
    """The recordings of one symbol, clipped to their common span."""

    def __init__(self, category: str, symbol: str, recordings: list[Recording]) -> None:
        self.recordings = sorted(recordings, key=lambda r: INTERVALS.index(r.interval))
        start, end = _common_span(symbol, self.recordings)
        self.recordings = [_clipped(recording, start, end) for recording in self.recordings]
        if not all(recording.turnover_known for recording in self.recordings):
            self.recordings = _with_turnover(self.recordings)
        self._series = {r.interval: (r.columns, r.decimals) for r in self.recordings}
        price, volume, _ = self.recordings[0].decimals
        quote = next((q for q in QUOTES if symbol.endswith(q) and symbol != q), "")
        self.instrument = Instrument(
            category=category,
            symbol=symbol,
            base_coin=symbol.removesuffix(quote),
            quote_coin="USDC" if quote == "PERP" else quote,
            lives=((start, end),),
            launch_ms=start,
            tick_size=_unit(price),
            qty_step=_unit(volume),
        )

    def source(self, interval: str) -> str | None:
        """Return the coarsest served interval that divides `interval`, None if there is none."""
        served = [r.interval for r in self.recordings if divides(r.interval, interval)]
        return served[-1] if served else None

    def series(self, interval: str) -> tuple[Columns, tuple[int, int, int]]:
        """Return all candles of an interval that exists and their decimals."""
        if interval not in self._series:
            columns, decimals = self._series[self.source(interval) or interval]
            opens = floor_all_ms(interval, columns.open_time)
            starts = np.flatnonzero(np.diff(opens, prepend=-1))
            self._series[interval] = columns.grouped(starts, opens[starts]), decimals
        return self._series[interval]

    def add_to(self, digest: "hashlib._Hash") -> None:
        """Add what is served to a digest: names, and every row as text."""
        for recording in self.recordings:
            digest.update(f"{recording.symbol}:{recording.interval}\n".encode())
            rows = rows_newest_first(recording.columns, recording.decimals)
            digest.update("\n".join(",".join(row) for row in rows).encode())


def _chosen(folder: Path, intervals: Iterable[str] | None) -> dict[tuple[str, str], Path]:
    if not folder.is_dir():
        raise HistoryError(f"The folder {folder} does not exist: name one that holds recordings.")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.name.endswith(SUFFIXES)):
        series = file_series(path)
        if series in found:
            raise HistoryError(
                f"The files {found[series].name} and {path.name} are both {series[0]} "
                f"at interval {series[1]}: take one out of {folder}."
            )
        found[series] = path
    if not found:
        raise HistoryError(f"The folder {folder} holds no files SYMBOL_INTERVAL with {', '.join(SUFFIXES)}.")
    if intervals is None:
        return found
    wanted = []
    for text in intervals:
        code = interval_code(text)
        if code is None or all(code != interval for _, interval in found):
            there = ", ".join(sorted({i for _, i in found}, key=INTERVALS.index))
            raise HistoryError(f"No file in {folder} has interval {text!r}: there are {there}.")
        wanted.append(code)
    return {series: path for series, path in found.items() if series[1] in wanted}


def _common_span(symbol: str, recordings: list[Recording]) -> tuple[int, int]:
    coarsest = recordings[-1].interval
    filled = [r for r in recordings if len(r.columns)]
    if len(filled) == len(recordings):
        start = max(int(r.columns.open_time[0]) for r in filled)
        ends = (shift_ms(r.interval, int(r.columns.open_time[-1]), 1) for r in filled)
        start, end = ceil_ms(coarsest, start), floor_ms(coarsest, min(ends))
        if start < end:
            return start, end
    names = ", ".join(r.path.name for r in recordings)
    raise HistoryError(
        f"The files of {symbol} ({names}) have no whole candle of {coarsest} in common: serve fewer intervals."
    )


def _clipped(recording: Recording, start: int, end: int) -> Recording:
    opens: Numbers = recording.columns.open_time
    return replace(recording, columns=recording.columns.take((opens >= start) & (opens < end)))


def _with_turnover(recordings: list[Recording]) -> list[Recording]:
    # Volume times close of the finest interval; coarser ones add it up. Where a file has its own
    # turnover but another lacks it, all are reckoned, so that they agree.
    finest = recordings[0]
    price, volume, _ = finest.decimals
    amounts = finest.columns.volume * finest.columns.close
    opens = finest.columns.open_time
    counted = []
    for recording in recordings:
        columns = recording.columns
        # Candles of the finest from each open_time up to the next of this interval.
        ends = np.array([shift_ms(recording.interval, t, 1) for t in columns.open_time.tolist()], dtype=np.int64)
        sums = np.concatenate([np.zeros(1, dtype=object), np.cumsum(amounts)])
        turnover = sums[np.searchsorted(opens, ends)] - sums[np.searchsorted(opens, columns.open_time)]
        decimals = (*recording.decimals[:2], price + volume)
        counted.append(replace(recording, columns=replace(columns, turnover=turnover), decimals=decimals))
    return counted


def _unit(decimals: int) -> str:
    return f"{10**-decimals:.{decimals}f}" if decimals else "1"
