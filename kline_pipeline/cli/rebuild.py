"""`kline-pipeline rebuild`: the table and the snapshots again from raw batches; the exchange is not asked."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.config import Settings
    from kline_pipeline.market.series import Series
    from kline_pipeline.opening import Opened


def rebuild(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:1")],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Default: all.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day. Default: all.")] = None,
) -> None:
    """Derive, judge and land again every partition that has raw batches, without any request.

    Exit code 1 if a partition is quarantined.

    Example: kline-pipeline rebuild linear:BTCUSDT:1 --from 2024-01-01 --to 2024-01-31
    """
    from rich.console import Console

    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.cli.summary import by_series, lines_of, told_failures, told_known
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys([key])[0]
    check_order(start, end)
    with started(ctx) as settings, opened(settings) as work:
        selection = _fetched(settings, series, start, end)
        agreed = _rebuilt(work, selection)
        lines = lines_of(work.database, work.pipeline, [selection])
    Console().print(by_series(lines))
    for sentence in [*told_known(lines), *told_failures(lines)]:
        say(sentence)
    raise typer.Exit(0 if agreed and all(line.good for line in lines) else 1)


def _rebuilt(work: "Opened", selection: "Selection") -> bool:
    import time

    cells, now_ms = selection.cells, time.time_ns() // 1_000_000
    work.pipeline.keep(selection.dataset)
    work.pipeline.derive(selection.dataset, cells, now_ms=now_ms)
    agreed = True
    if "postgres" in selection.dataset.sinks:
        landed = work.pipeline.land_postgres(selection.dataset, cells)
        agreed &= all(landing.result.passed for landing in landed.values())
    if "parquet" in selection.dataset.sinks:
        landed = work.pipeline.land_parquet(selection.dataset, cells)
        agreed &= all(landing.result.passed for landing in landed.values())
    return agreed


def _fetched(settings: "Settings", series: "Series", start: str | None, end: str | None) -> "Selection":
    """Return the partitions in the range that have raw batches; the folder is asked, for the ledger may be lost."""
    import time

    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import Selection, grouped
    from kline_pipeline.errors import UsageError
    from kline_pipeline.files import Folder
    from kline_pipeline.market.times import day_of, end_of, start_of
    from kline_pipeline.raw_batches.store import RawStore

    ((dataset, symbols),) = grouped([series], datasets.load(settings.datasets_file))
    now_ms = time.time_ns() // 1_000_000
    first = dataset.start if start is None else dataset.floor(day_of(start_of(start, now_ms)))
    last = dataset.floor(day_of(now_ms if end is None else end_of(end, now_ms) - 1))
    raw = RawStore(Folder(settings.work_url))
    dates = tuple(day for day in dataset.dates(now_ms) if first <= day <= last and raw.names(series, day))
    if not dates:
        raise UsageError(
            f"no raw batch of {series} between {first} and {last}; fetch it with: kline-pipeline backfill {series}"
        )
    return Selection(dataset, dates, symbols)
