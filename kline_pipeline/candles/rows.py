"""The rows of all raw batches of a partition side by side, sorted out by page and slot; what they mean: derive.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_pipeline.candles.answers import NONE, Answers
from kline_pipeline.market.interval import Interval
from kline_pipeline.market.schema import NUMBER_COLUMNS, canonical_candles, empty_candles
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import RawBatch


@dataclass(slots=True)
class Rows:
    """Every row of every batch in one table, with the page it came from and the slot of the grid it falls in.

    Attributes:
        table: CANDLE_SCHEMA.
        times, page, slot: per row its open time, the place of its page in `answers`, and its slot.
        closed: per row whether it had closed when it was served.
        ends: per page the end of what it proves.
        answers: which pages cover each slot.
    """

    table: pa.Table
    times: NDArray[np.int64]
    page: NDArray[np.int64]
    slot: NDArray[np.int64]
    closed: NDArray[np.bool_]
    ends: NDArray[np.int64]
    answers: Answers

    @classmethod
    def of(cls, batches: Sequence[RawBatch], window: Window, interval: Interval) -> Self:
        """Return the rows of all batches of a partition."""
        pages = sorted(
            # Of two answers within one millisecond of the exchange's clock the one received later is newer.
            (record.server_time_ms, record.receive_time_ms, batch.name.id, position, number, record)
            for number, batch in enumerate(batches)
            for position, record in enumerate(batch.pages)
        )
        rank = {(number, position): place for place, (*_, position, number, _) in enumerate(pages)}
        answers = Answers.of([(batch_id, record) for _, _, batch_id, *_, record in pages], window, interval)
        tables = [canonical_candles(batch.rows) for batch in batches]
        table = pa.concat_tables(tables) if tables else empty_candles()
        times = table["open_time_ms"].to_numpy()
        page = np.concatenate(
            [
                np.array([rank[number, position] for position in range(len(batch.pages))])[
                    batch.rows["page"].to_numpy()
                ]
                for number, batch in enumerate(batches)
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        starts = np.array([record.covered_start_ms for *_, record in pages], dtype=np.int64)
        ends = np.array([record.covered_end_ms for *_, record in pages], dtype=np.int64)
        closed = (times >= starts[page]) & (times < ends[page]) if len(times) else np.zeros(0, dtype=bool)
        slot = np.searchsorted(answers.slots_ms, interval.floors(times))
        return cls(table, times, page, np.minimum(slot, max(len(answers.slots_ms) - 1, 0)), closed, ends, answers)

    @property
    def slots(self) -> NDArray[np.int64]:
        """The open times of the grid, ascending."""
        return self.answers.slots_ms

    @property
    def decides(self) -> NDArray[np.bool_]:
        """Per row whether its page is the one that decides on its slot."""
        return self.page == self.answers.newest[self.slot] if len(self.slots) else self.closed & False

    def first_of_slot(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return per slot the row among `rows` that fills it, NONE where none does."""
        found = np.full(len(self.slots), NONE, dtype=np.int64)
        found[self.slot[rows]] = rows
        return found

    def equal(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return per pair of rows whether all six numbers are the same."""
        a, b = self.table.take(pa.array(left)), self.table.take(pa.array(right))
        same = np.ones(len(left), dtype=bool)
        for name in NUMBER_COLUMNS:
            same &= pc.equal(a[name], b[name]).to_numpy(zero_copy_only=False).astype(bool)
        return same

    def numbers(self, row: int) -> dict[str, str]:
        """Return the six numbers of a row as canonical text."""
        return {name: self.table[name][row].as_py() for name in NUMBER_COLUMNS}
