"""`kline-pipeline verify`: every check again on what is stored; raw batches, table and snapshots against each other."""

from typing import Annotated

import typer


def verify(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:1")],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Default: all.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day. Default: all.")] = None,
) -> None:
    """Run every check again on what is stored of a series, and compare raw batches, ledger, table and snapshots.

    Candles are compared with their neighbours and with finer and coarser series of the symbol too. Nothing is
    changed and the exchange is not asked. Without a range, rows of the table that belong to no partition are found too.
    Exit code 1 with a list if anything disagrees; warnings do not count.

    Example: kline-pipeline verify linear:BTCUSDT:1 --from 2024-01-01 --to 2024-01-31
    """
    import time

    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import grouped, parse_keys
    from kline_pipeline.cli.session import started
    from kline_pipeline.cli.stored_cells import stored_cells
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys([key])[0]
    check_order(start, end)
    now_ms = time.time_ns() // 1_000_000
    with started(ctx) as settings, opened(settings) as work:
        declared = datasets.load(settings.datasets_file)
        ((dataset, _),) = grouped([series], declared)
        cells = stored_cells(work, dataset, series, start=start, end=end, now_ms=now_ms)
        failed = 0
        for cell in cells:
            found = work.pipeline.verify(dataset, cell, declared=declared, now_ms=now_ms)
            failed += bool(found.disagreements)
            for sentence in found.disagreements:
                typer.echo(f"{series} {cell.date}: {sentence}")
            for sentence in found.warnings:
                typer.echo(f"{series} {cell.date}: warning: {sentence}")
        rest = () if start or end else work.pipeline.verify_rest(dataset, series.symbol)
        for sentence in rest:
            typer.echo(f"{series}: {sentence}")
    typer.echo(f"{len(cells)} partitions of {series}: {len(cells) - failed} agree, {failed} do not")
    raise typer.Exit(1 if failed or rest else 0)
