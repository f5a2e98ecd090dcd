"""Synthetic candles: a function of (seed, series, open_time) and nothing else.

A coarser candle is exactly the aggregate of the finer ones, every open is the previous close within
a life, and a day costs the same whatever interval is asked for. The candle that is open at `now_ms`
is the aggregate of the minutes so far, the last of them partial.
"""

from dataclasses import replace

import numpy as np

from kline_pipeline.simulator.catalogue import catalogue
from kline_pipeline.simulator.days import Days, lay_out
from kline_pipeline.simulator.grid import DAY_MS, MINUTE_MS, MINUTES, floor_all_ms
from kline_pipeline.simulator.history import Columns, Row, joined, rows_newest_first
from kline_pipeline.simulator.instruments import Instrument
from kline_pipeline.simulator.inverse import Coins
from kline_pipeline.simulator.templates import Library, Whole


class SyntheticHistory:
    """The history of the synthetic exchange of one seed.

    Args:
        seed: two histories of one seed are equal.
        now_ms: when it starts; which monthly symbols are laid out is reckoned from it.
        numbered: how many linear symbols SYM001USDT and so on there are besides; the others do not change with it.
    """

    def __init__(self, seed: int = 7, *, now_ms: int, numbered: int = 0) -> None:
        """Draw the day shapes (about 0.1 s); days of a symbol are laid out when first asked for."""
        self._seed = seed
        self._library = Library(seed)
        entries = catalogue(now_ms, numbered)
        self._entries = {(e.instrument.category, e.instrument.symbol): e for e in entries}
        self._days: dict[tuple[str, str], Days] = {}
        self._coins: dict[tuple[str, str], Coins] = {}

    @property
    def venue(self) -> str:
        """Return simulated-seed-N."""
        return f"simulated-seed-{self._seed}"

    @property
    def seed(self) -> int | None:
        """Return the seed."""
        return self._seed

    def instruments(self, category: str, now_ms: int) -> list[Instrument]:
        """Return every instrument known at `now_ms`, of any status, by symbol."""
        known = (e.instrument for e in self._entries.values())
        found = [i for i in known if i.category == category and i.known(now_ms)]
        return sorted(found, key=lambda instrument: instrument.symbol)

    def find(self, category: str, symbol: str, now_ms: int) -> Instrument | None:
        """Return the instrument of this name, if it is known at `now_ms`."""
        entry = self._entries.get((category, symbol))
        return entry.instrument if entry is not None and entry.instrument.known(now_ms) else None

    def has(self, instrument: Instrument, interval: str) -> bool:  # noqa: ARG002 - as History has it
        """Return True: every interval exists for every synthetic instrument."""
        return True

    def newest(self, instrument: Instrument, interval: str, *, until_ms: int, limit: int, now_ms: int) -> list[Row]:
        """Return the newest `limit` candles that open at or before `until_ms`, newest first."""
        columns = self.columns(instrument, interval, until_ms=until_ms, limit=limit, now_ms=now_ms)
        price, tick = instrument.price_step
        volume, lot = instrument.volume_step
        inverse = instrument.category == "inverse"
        turnover = 8 if inverse else price + volume
        scaled = Columns(
            columns.open_time,
            columns.open * tick,
            columns.high * tick,
            columns.low * tick,
            columns.close * tick,
            columns.volume * lot,
            columns.turnover if inverse else columns.turnover * (tick * lot),
        )
        return rows_newest_first(scaled, (price, volume, turnover))

    def columns(self, instrument: Instrument, interval: str, *, until_ms: int, limit: int, now_ms: int) -> Columns:
        """Return the same candles oldest first: prices in ticks, volume in size steps.

        Turnover is in ticks x size steps (linear, spot) or in 1e-8 of the base coin (inverse).
        """
        until_ms = min(until_ms, now_ms)
        if interval in {"W", "M"}:
            return self._calendar(instrument, interval, until_ms, limit, now_ms)
        step, parts, missing = MINUTES[interval] * MINUTE_MS, [], limit
        # A candle that opened by then is there, though its life may begin later in it.
        until_ms = _alive_at_or_before(instrument, min(until_ms // step * step + step - 1, now_ms))
        while missing > 0 and until_ms >= instrument.lives[0][0]:
            last = until_ms // step * step
            first = max(last - (missing - 1) * step, instrument.lives[0][0] // step * step)
            part = self._between(instrument, MINUTES[interval], first, last, now_ms)
            parts.append(part)
            missing -= len(part)
            until_ms = _alive_at_or_before(instrument, first - 1)
        return joined(parts[::-1]) if parts else _nothing()

    def _calendar(self, instrument: Instrument, interval: str, until_ms: int, limit: int, now_ms: int) -> Columns:
        # A week or month that opened by `until_ms` takes its later days along.
        days = self.columns(instrument, "D", until_ms=now_ms, limit=100_000, now_ms=now_ms)
        opens = floor_all_ms(interval, days.open_time)
        # Sums of a month may be wider than 64 bits.
        wide = replace(days, volume=days.volume.astype(object), turnover=days.turnover.astype(object))
        starts = np.flatnonzero(np.diff(opens, prepend=-1))
        grouped = wide.grouped(starts, opens[starts])
        grouped = grouped.take(grouped.open_time <= until_ms)
        return grouped.take(slice(max(0, len(grouped) - limit), None))

    def _between(self, instrument: Instrument, size: int, first_ms: int, last_ms: int, now_ms: int) -> Columns:
        # Whole days at once from the aggregated shapes, then the few cut ones from their minutes.
        days = self._laid_out(instrument, last_ms // DAY_MS)
        low, high = first_ms // DAY_MS, last_ms // DAY_MS
        cut = _cut_days(instrument, now_ms)
        parts, begin = [], low
        for day in [*(d for d in cut if low <= d <= high), high + 1]:
            if begin < day:
                whole = self._stretched(instrument, days, size, begin, day - 1)
                parts.append(whole.take(_in_lives(instrument, whole.open_time)))
            if day <= high:
                parts.append(self._cut_day(instrument, days, size, day, now_ms))
            begin = day + 1
        columns = joined(parts)
        return columns.take((columns.open_time >= first_ms) & (columns.open_time <= last_ms))

    def _cut_day(self, instrument: Instrument, days: Days, size: int, day: int, now_ms: int) -> Columns:
        minutes = self._stretched(instrument, days, 1, day, day)
        alive = _in_lives(instrument, minutes.open_time) & (minutes.open_time <= now_ms)
        minutes = minutes.take(alive)
        if len(minutes) and now_ms < minutes.open_time[-1] + MINUTE_MS:
            _cut_last_minute(instrument, minutes, now_ms)
        step = size * MINUTE_MS
        opens = minutes.open_time // step * step
        starts = np.flatnonzero(np.diff(opens, prepend=-1))
        return minutes.grouped(starts, opens[starts])

    def _stretched(self, instrument: Instrument, days: Days, size: int, first: int, last: int) -> Columns:
        shapes = self._library.by_minutes[size]
        span = slice(first - days.first, last - days.first + 1)
        row, stretch = days.shape[span], days.stretch[span, None]
        base, factor = days.base[span, None], days.volume_factor[span, None]
        top, bottom, upright = shapes.high[row], shapes.low[row], stretch > 0
        volume = factor * shapes.volume[row]
        if instrument.category == "inverse":
            turnover = self._coins_of(instrument).turnover(days, size, first, last)
        else:
            turnover = factor * (base * shapes.volume[row] + stretch * shapes.weighted[row])
        opens = np.arange(first * DAY_MS, (last + 1) * DAY_MS, size * MINUTE_MS, dtype=np.int64)
        return Columns(
            opens,
            (base + stretch * shapes.open[row]).ravel(),
            (base + stretch * np.where(upright, top, bottom)).ravel(),
            (base + stretch * np.where(upright, bottom, top)).ravel(),
            (base + stretch * shapes.close[row]).ravel(),
            volume.ravel(),
            turnover.ravel(),
        )

    def _laid_out(self, instrument: Instrument, until_day: int) -> Days:
        # Two threads may lay out the same days at once: they come to the same result.
        key = (instrument.category, instrument.symbol)
        days = self._days.get(key)
        if days is None or until_day >= days.first + len(days):
            entry = self._entries[key]
            days = self._days[key] = lay_out(entry, self._seed, self._library, until_day)
        return days

    def _coins_of(self, instrument: Instrument) -> Coins:
        return self._coins.setdefault(
            (instrument.category, instrument.symbol), Coins(self._library, instrument.price_step)
        )


def _nothing() -> Columns:
    return Columns(*(np.zeros(0, dtype=np.int64) for _ in range(7)))


def _alive_at_or_before(instrument: Instrument, at_ms: int) -> int:
    # The last instant of a life at or before `at_ms`: jumps over a hole between two lives.
    alive = [min(at_ms, at_ms if end is None else end - 1) for start, end in instrument.lives if start <= at_ms]
    return max(alive, default=-1)


def _in_lives(instrument: Instrument, opens: Whole) -> np.ndarray:
    alive = np.zeros(len(opens), dtype=bool)
    for start, end in instrument.lives:
        alive |= (opens >= start) & (opens < (np.iinfo(np.int64).max if end is None else end))
    return alive


def _cut_days(instrument: Instrument, now_ms: int) -> list[int]:
    # Days of which only some minutes exist: where a life begins or ends, and today.
    edges = [edge for life in instrument.lives for edge in life if edge is not None]
    return sorted({edge // DAY_MS for edge in edges if edge % DAY_MS} | {now_ms // DAY_MS})


def _cut_last_minute(instrument: Instrument, minutes: Columns, now_ms: int) -> None:
    # Changes the last row in place: the price is part of the way from open to close.
    passed = int(now_ms - minutes.open_time[-1])
    begin, end = int(minutes.open[-1]), int(minutes.close[-1])
    price = begin + (end - begin) * passed // MINUTE_MS
    volume = int(minutes.volume[-1]) * passed // MINUTE_MS
    minutes.close[-1] = price
    minutes.high[-1], minutes.low[-1] = max(begin, price), min(begin, price)
    minutes.volume[-1] = volume
    decimals, tick = instrument.price_step
    inverse = instrument.category == "inverse"
    minutes.turnover[-1] = volume * 10 ** (8 + decimals) // (price * tick) if inverse else volume * price
