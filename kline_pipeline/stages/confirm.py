"""Confirming gaps: what the exchange said twice, far enough apart, that it does not have, unless it contradicts itself.

From 2022 on a coarser candle of the exchange equals the sum of its finer ones exactly (real-data.md): while it holds
volume that those lack, a candle is missing that existed. It is asked for only when a gap is otherwise ripe; where the
exchange lacks it too, the next coarser one is.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.pages import Page, plan
from kline_pipeline.candles.answers import Answer, Answers
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import BadInterval
from kline_pipeline.evidence import known_gaps
from kline_pipeline.evidence.known_gaps import KnownGap
from kline_pipeline.evidence.partitions import known_of
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window, iso, subtract, windows_of
from kline_pipeline.stages.look import Looked, look
from kline_pipeline.stages.stores import Stores

_ADDS_UP_FROM_MS: Final = 1_640_995_200_000  # 2022-01-01


@dataclass(frozen=True, slots=True)
class _Coarser:
    """What the exchange says of one coarser candle: evidence, and what speaks against the gaps in it.

    Attributes:
        evidence: interval, open time, volume (None where it is absent) and the volume of the finer ones.
        closed: else it is too early to say.
        contradicts: what speaks against the gaps, empty when nothing does.
    """

    evidence: dict[str, Any]
    closed: bool
    contradicts: str = ""

    @property
    def says_nothing(self) -> bool:
        """The exchange has no such candle, or does not serve the interval."""
        return self.closed and self.evidence.get("volume") is None


def confirm_gaps(stores: Stores, client: BybitClient, dataset: Dataset, cell: Cell, *, now_ms: int) -> int:
    """Record the gaps of one partition that are ripe, and return how many requests that took.

    Args:
        stores: of the KLINE_HOME.
        client: of the exchange.
        dataset, cell: the partition, just asked for again.
        now_ms: what had closed where no raw batch says so.

    Raises:
        ExchangeError: the coarser candle could not be asked for; nothing was recorded.
        CorruptFile: a raw batch is not what was written.
        StorageError: the database or a folder failed.
    """
    series = dataset.series(cell.symbol)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        partition_lock(connection, series, cell.date)
        names, known = stores.raw.names(series, cell.date), known_of(connection, dataset, cell)
        looked = look(stores, dataset, cell, known, names, now_ms=now_ms)
    answers = looked.derivation.answers
    ripe = answers.ripe(looked.judgement.missing_ms, stores.confirm_after_ms)
    asking = _Asking(client, series, looked, stores.grace_ms)
    told = asking.about(ripe[ripe >= _ADDS_UP_FROM_MS])
    found = [gap for time_ms in ripe.tolist() if (gap := _gap(time_ms, answers, told.get(time_ms))) is not None]
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        known_gaps.record(connection, series_id(connection, series), found)
    return asking.requests


def _gap(time_ms: int, answers: Answers, about: _Coarser | None) -> KnownGap | None:
    """Return what is to be recorded of a ripe gap, None when it is too early."""
    first, newest = answers.of_time(time_ms)
    evidence: dict[str, Any] = {"first": _answer(first), "newest": _answer(newest), "coarser": None}
    if about is None:
        return KnownGap(time_ms, newest.server_time_ms, evidence)
    evidence["coarser"] = about.evidence
    if not about.closed:
        return None
    if about.contradicts:
        return KnownGap(time_ms, None, {**evidence, "contradicts": about.contradicts})
    return KnownGap(time_ms, newest.server_time_ms, evidence)


def _answer(answer: Answer) -> dict[str, str]:
    return {"server_time": iso(answer.server_time_ms), "host": answer.host, "batch": answer.batch}


class _Asking:
    """Asks the exchange what the coarser candles around some gaps hold."""

    def __init__(self, client: BybitClient, series: Series, looked: Looked, grace_ms: int) -> None:
        self.requests = 0
        self._client = client
        self._series = series
        self._looked = looked
        self._grace_ms = grace_ms

    def about(self, gaps_ms: NDArray[np.int64]) -> dict[int, _Coarser]:
        """Return what is known of the finest coarser candle that the exchange has, by the gap that lies in it."""
        told: dict[int, _Coarser] = {}
        left, interval = gaps_ms, self._series.interval.coarser()
        while interval is not None and len(left):
            found = self.coarser(interval, left)
            told |= {time_ms: found[interval.floor(time_ms)] for time_ms in left.tolist()}
            left = left[[told[time_ms].says_nothing for time_ms in left.tolist()]]
            interval = interval.coarser()
        return told

    def coarser(self, interval: Interval, gaps_ms: NDArray[np.int64]) -> dict[int, _Coarser]:
        """Return what is known of the coarser candles that gaps lie in, by their open times."""
        opens = np.unique(interval.floors(gaps_ms))
        windows = [page for span in windows_of(opens, interval) for page in plan(span, interval)]
        found: dict[int, _Coarser] = {}
        for window in windows:
            try:
                page = self._page(Series(self._series.category, self._series.symbol, interval), window)
            except BadInterval as exc:
                found |= {
                    int(open_ms): _Coarser({"interval": interval.code, "refused": str(exc)}, closed=True)
                    for open_ms in opens[(opens >= window.start_ms) & (opens < window.end_ms)]
                }
                continue
            found |= self._compared(page, interval)
        return found

    def _compared(self, page: Page, interval: Interval) -> dict[int, _Coarser]:
        closed = page.closed_window(self._grace_ms)
        volumes = _volumes(page.rows)
        finer = dict.fromkeys(interval.grid(page.window.start_ms, page.window.end_ms).tolist(), Decimal(0))
        for time_ms, volume in self._ours(page.window).items():
            finer[interval.floor(time_ms)] += volume
        found = {}
        for open_ms, ours in finer.items():
            theirs = volumes.get(open_ms)
            evidence = {
                "interval": interval.code,
                "open_time": iso(open_ms),
                "volume": None if theirs is None else f"{theirs:f}",
                "finer_volume": f"{ours:f}",
                "server_time": iso(page.server_time_ms),
            }
            against = ""
            if theirs is not None and theirs > ours:
                holds = f"the exchange's own coarser candle ({interval} at {iso(open_ms)}) holds volume {theirs:f}"
                against = f"{holds}, the finer ones {ours:f}"
            found[open_ms] = _Coarser(evidence, open_ms in closed, against)
        return found

    def _ours(self, window: Window) -> dict[int, Decimal]:
        """Return the volumes of our candles in a window; what of it lies in other partitions the exchange tells."""
        candles = self._looked.derivation.candles
        times = candles["open_time_ms"].to_numpy()
        found = _volumes(candles.filter(pa.array((times >= window.start_ms) & (times < window.end_ms))))
        for outside in subtract([window], [self._looked.verdict.window]):
            for asked in plan(outside, self._series.interval):
                found |= _volumes(self._page(self._series, asked).rows)
        return found

    def _page(self, series: Series, window: Window) -> Page:
        self.requests += 1
        return self._client.kline_page(series, window)


def _volumes(rows: pa.Table) -> dict[int, Decimal]:
    """Return the volumes by open time; a loop, for they are the few candles around a gap."""
    times, volumes = rows["open_time_ms"].to_pylist(), rows["volume"].to_pylist()
    return {time_ms: Decimal(volume) for time_ms, volume in zip(times, volumes, strict=True)}
