"""Raw batches made by hand for tests of what is derived from them; times are minutes after 2024-01-01 00:00 UTC."""

from collections.abc import Sequence

import pyarrow as pa

from kline_pipeline.market.schema import NUMBER_COLUMNS, RAW_SCHEMA
from kline_pipeline.market.window import Window
from kline_pipeline.raw_batches.store import BatchName, PageRecord, RawBatch

START_MS = 1_704_067_200_000
MINUTE_MS = 60_000
GOOD = ("2", "3", "1", "2", "10", "20")


def at(minute: float) -> int:
    return START_MS + round(minute * MINUTE_MS)


def page(
    start: int, end: int, *, server: float, rows: Sequence[tuple[float, tuple[str, ...]]] | None = None
) -> tuple[PageRecord, list[tuple[float, tuple[str, ...]]]]:
    """Return a page over minutes [start, end) answered at minute `server`, newest first; every minute by default."""
    closed_end = max(start, min(end, int(server)))
    record = PageRecord(
        asked_start_ms=at(start),
        asked_end_ms=at(end),
        covered_start_ms=at(start),
        covered_end_ms=at(closed_end),
        server_time_ms=at(server),
        receive_time_ms=at(server),
        host="api.bybit.com",
        clipped=0,
    )
    if rows is None:
        rows = [(minute, GOOD) for minute in range(start, min(end, int(server) + 1))]
    return record, list(reversed(rows))


def batch(batch_id: str, *pages: tuple[PageRecord, list[tuple[float, tuple[str, ...]]]]) -> RawBatch:
    records = [record for record, _ in pages]
    rows = [
        {"page": number, "row": row, "open_time_ms": at(minute), **dict(zip(NUMBER_COLUMNS, numbers, strict=True))}
        for number, (_, listed) in enumerate(pages)
        for row, (minute, numbers) in enumerate(listed)
    ]
    covered = Window(records[0].covered_start_ms, records[-1].covered_end_ms)
    name = BatchName(covered, max(record.server_time_ms for record in records), batch_id)
    return RawBatch(name, tuple(records), pa.Table.from_pylist(rows, schema=RAW_SCHEMA))
