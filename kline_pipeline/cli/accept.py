"""`kline-pipeline accept`: let in what stays wrong for good, with a reason; recorded as evidence, and landed."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.config import Settings
    from kline_pipeline.market.series import Series
    from kline_pipeline.opening import Opened


def accept(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="category:symbol:interval, e.g. linear:BTCUSDT:1")],
    *,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First open time. UTC.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="A date is the last day, a date-time exclusive.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown with every check from then on.")],
    keep: Annotated[
        Literal["first", "last"] | None,
        typer.Option("--keep", help="Which of contradicting rows counts, as they were served."),
    ] = None,
) -> None:
    """Let in what breaks a rule in a range: the checks warn from then on, and the partitions land.

    The exchange is not asked. Exit code 0 only if every partition concerned landed.

    Example: kline-pipeline accept linear:BTCUSDT:1 --from 2024-02-10T07:00 --to 2024-02-10T07:01 --reason "outage"
    """
    import time

    from rich.console import Console

    from kline_pipeline.cli.ranged_runs import Plan, execute
    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import say, started
    from kline_pipeline.cli.summary import by_series, lines_of, told_failures
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys([key])[0]
    check_order(start, end)
    with started(ctx) as settings, opened(settings) as work:
        selection = _accepted(settings, work, series, (start, end), reason=reason, keep=keep)
        plan = Plan(settings, (selection,), time.time_ns() // 1_000_000)
        # Through Dagster, so that its UI shows it; nothing is fetched.
        outcomes = execute(plan, assets=("candles", *(f"candles_{sink}" for sink in selection.dataset.sinks)))
        lines = lines_of(work.database, work.pipeline, [selection])
    Console().print(by_series(lines))
    for sentence in told_failures(lines):
        say(sentence)
    for outcome in outcomes:
        if not outcome.success:
            say(f"run {outcome.run_id[:8]} {outcome.status}: {outcome.error}")
    good = all(outcome.success for outcome in outcomes) and all(line.good for line in lines)
    raise typer.Exit(0 if good else 1)


def _accepted(
    settings: "Settings",
    work: "Opened",
    series: "Series",
    span: tuple[str, str],
    *,
    reason: str,
    keep: Literal["first", "last"] | None,
) -> "Selection":
    """Record the decision and return the partitions from the first to the last that it concerns."""
    import time

    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import Selection, grouped
    from kline_pipeline.market.times import end_of, start_of
    from kline_pipeline.market.window import Window

    declared = datasets.load(settings.datasets_file)
    ((dataset, _),) = grouped([series], declared)
    now_ms = time.time_ns() // 1_000_000
    window = Window(start_of(span[0], now_ms), end_of(span[1], now_ms))
    work.pipeline.keep(dataset)
    cells = work.pipeline.accept(
        dataset, series.symbol, window, reason=reason, keep=keep, declared=declared, now_ms=now_ms
    )
    return Selection(dataset, tuple(cell.date for cell in cells), (series.symbol,))
