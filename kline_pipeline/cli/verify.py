"""`kline-pipeline verify`: every check again on what is stored; raw batches, table and snapshots against each other."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.datasets import Cell, Dataset
    from kline_pipeline.market.series import Series
    from kline_pipeline.opening import Opened


def verify(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:1")],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Default: all.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day. Default: all.")] = None,
) -> None:
    """Run every check again on what is stored of a series, and compare raw batches, ledger, table and snapshots.

    Candles are compared with their neighbours and with finer and coarser series of the symbol too. Nothing is
    changed and the exchange is not asked. Exit code 1 with a list if anything disagrees; warnings do not count.

    Example: kline-pipeline verify linear:BTCUSDT:1 --from 2024-01-01 --to 2024-01-31
    """
    import time

    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import grouped, parse_keys
    from kline_pipeline.cli.session import started
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys([key])[0]
    check_order(start, end)
    now_ms = time.time_ns() // 1_000_000
    with started(ctx) as settings, opened(settings) as work:
        declared = datasets.load(settings.datasets_file)
        ((dataset, _),) = grouped([series], declared)
        cells = _stored(work, dataset, series, (start, end), now_ms)
        failed = 0
        for cell in cells:
            found = work.pipeline.verify(dataset, cell, declared=declared, now_ms=now_ms)
            failed += bool(found.disagreements)
            for sentence in found.disagreements:
                typer.echo(f"{series} {cell.date}: {sentence}")
            for sentence in found.warnings:
                typer.echo(f"{series} {cell.date}: warning: {sentence}")
    typer.echo(f"{len(cells)} partitions of {series}: {len(cells) - failed} agree, {failed} do not")
    raise typer.Exit(1 if failed else 0)


def _stored(
    work: "Opened", dataset: "Dataset", series: "Series", asked: tuple[str | None, str | None], now_ms: int
) -> "list[Cell]":
    """Return the partitions in the range that were ever fetched or derived, ascending."""
    from kline_pipeline.datasets import Cell
    from kline_pipeline.errors import UsageError
    from kline_pipeline.market.times import day_of, end_of, start_of

    start, end = asked
    first = dataset.start if start is None else dataset.floor(day_of(start_of(start, now_ms)))
    last = dataset.floor(day_of(now_ms if end is None else end_of(end, now_ms) - 1))
    known = work.pipeline.stored_dates(dataset, series.symbol, now_ms=now_ms)
    cells = [Cell(day, series.symbol) for day in known if first <= day <= last]
    if not cells:
        raise UsageError(
            f"nothing is stored of {series} between {first} and {last}; begin with: kline-pipeline backfill {series}"
        )
    return cells
