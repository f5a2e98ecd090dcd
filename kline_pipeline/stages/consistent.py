"""One partition against its neighbours, and against the finer and coarser series of its symbol; nothing is written.

Working candles are compared: those that may land. A quarantined partition, whether it is looked at or lies beside, is
not compared. The rule itself is in checks/consistent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from kline_pipeline.checks import consistent
from kline_pipeline.checks.consistent import Aggregate, Chain
from kline_pipeline.checks.pictures import candlestick
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.checks.verdict import Verdict
from kline_pipeline.datasets import Cell, Dataset, next_date
from kline_pipeline.evidence import listings
from kline_pipeline.evidence.partitions import let_in_of
from kline_pipeline.evidence.stored_series import stored_intervals
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.schema import empty_candles
from kline_pipeline.market.window import Window
from kline_pipeline.stages.derive import read_cell
from kline_pipeline.stages.stores import Stores


def consistent_cell(stores: Stores, dataset: Dataset, cell: Cell, declared: Sequence[Dataset]) -> CheckResult:
    """Return the result of `consistent` for one partition, with its candles as a picture.

    Args:
        stores: of the KLINE_HOME.
        dataset, cell: the partition.
        declared: all datasets; those of the same category may hold finer and coarser series of the symbol.

    Raises:
        CorruptFile: the partition was never derived, or a file that is compared is not what was written.
        StorageError: the database or a folder failed.
    """
    verdict, own = read_cell(stores, dataset, cell)
    if verdict.quarantined:
        return consistent.not_compared(verdict.present, verdict.window)
    with stores.database.translate_errors(), stores.database.engine.begin() as connection:
        listing = listings.read(connection, dataset.category, cell.symbol)
        stored = stored_intervals(connection, dataset.category, cell.symbol)
        let_in = let_in_of(connection, dataset.series(cell.symbol), verdict.window)
    others = [
        one
        for one in declared
        if one.category == dataset.category and one.interval != dataset.interval and one.interval.code in stored
    ]
    beside = _Beside(stores, cell.symbol, listing)
    chain = beside.chain(dataset, dataset.window(cell.date), own.candles)
    repair = stores.command("repair", dataset, cell)
    aggregates = list(beside.aggregates(dataset, chain, [dataset, *others]))
    result = consistent.judge(chain, aggregates, repair=repair, let_in=let_in)
    marked = [one.open_time_ms for one in result.offenders if one.open_time_ms is not None]
    return msgspec.structs.replace(result, picture=candlestick(own.candles, verdict.window, marked))


@dataclass(frozen=True, slots=True)
class _Beside:
    """What lies beside a partition: everything that may land of its symbol, in any dataset."""

    stores: Stores
    symbol: str
    listing: Listing | None

    def chain(self, dataset: Dataset, window: Window, candles: pa.Table) -> Chain:
        interval = dataset.interval
        around = Window(interval.shift(window.start_ms, -1), interval.shift(window.end_ms, 1))
        return Chain(
            candles=candles,
            before=self._landing(dataset, Window(around.start_ms, window.start_ms)),
            after=self._landing(dataset, Window(window.end_ms, around.end_ms)),
            interval=interval,
            listed=self._listed(dataset, around),
            window=window,
        )

    def aggregates(self, dataset: Dataset, chain: Chain, series: Sequence[Dataset]) -> Iterator[Aggregate]:
        """Yield the pairs of series that are compared; of a coarser one the finer is the coarsest that divides it."""
        times = chain.candles["open_time_ms"].to_numpy()
        for coarse in series:
            fine = _coarsest_divisor(coarse, series)
            if fine is None or dataset not in (coarse, fine) or not len(times):
                continue
            slots = np.unique(coarse.interval.floors(times))
            span = Window(int(slots[0]), coarse.interval.shift(int(slots[-1]), 1))
            yield Aggregate(
                slots_ms=slots,
                coarse=chain.candles if coarse is dataset else self._landing(coarse, span),
                coarse_interval=coarse.interval,
                fine=self._joined(dataset, chain, span) if fine is dataset else self._landing(fine, span),
                fine_interval=fine.interval,
                listed=self._listed(fine, span),
            )

    def _joined(self, dataset: Dataset, chain: Chain, span: Window) -> pa.Table:
        """Return the candles of the partition with those of its neighbours that lie in `span`."""
        own = chain.window
        before = self._landing(dataset, Window(min(span.start_ms, own.start_ms), own.start_ms))
        after = self._landing(dataset, Window(own.end_ms, max(span.end_ms, own.end_ms)))
        return pa.concat_tables([before, chain.candles, after])

    def _listed(self, dataset: Dataset, within: Window) -> list[Window]:
        return self.listing.windows(dataset.interval, within) if self.listing is not None else [within]

    def _landing(self, dataset: Dataset, window: Window) -> pa.Table:
        """Return the candles in a window that may land; quarantined partitions and those not derived have none."""
        parts = [empty_candles()]
        day = dataset.date_of(window.start_ms)
        while window and day <= dataset.date_of(window.end_ms - 1):
            working = self.stores.working.read(dataset.series(self.symbol), day)
            if working is not None and not msgspec.json.decode(working.verdict, type=Verdict).quarantined:
                times = working.candles["open_time_ms"].to_numpy()
                first, last = np.searchsorted(times, [window.start_ms, window.end_ms])
                parts.append(working.candles.slice(int(first), int(last - first)))
            day = next_date(day, dataset.grain)
        return pa.concat_tables(parts)


def _coarsest_divisor(coarse: Dataset, series: Sequence[Dataset]) -> Dataset | None:
    finer = [one for one in series if one.interval.divides(coarse.interval)]
    return max(finer, key=lambda one: one.interval.typical_ms, default=None)
