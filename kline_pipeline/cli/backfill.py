"""`kline-pipeline backfill`: a range of series through Dagster, in runs of this command's own."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kline_pipeline.cli.summary import Line
    from kline_pipeline.defs.run_messages import RunOutcome


def backfill(
    ctx: typer.Context,
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="category:symbol:interval, e.g. linear:BTCUSDT:1")
    ],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Default: the first candle. UTC.")] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="A date is the last day, a date-time exclusive. Default: now."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost and fetch no candle.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Hand the runs to the daemon of a running `up` and wait for nothing.")
    ] = False,
) -> None:
    """Fetch what is missing of a range, check it, and land it in the table and the snapshots.

    Exit code 0 only if every partition landed and every error check passed; with --detach, if all runs are queued.

    Example: kline-pipeline backfill linear:BTCUSDT:1 --from 2024-01-01 --to 2024-01-31
    """
    import json

    from kline_pipeline.cli.estimate import estimate
    from kline_pipeline.cli.ranged_runs import execute, prepare
    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import started
    from kline_pipeline.cli.summary import lines_of
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys(keys)
    check_order(start, end)
    with started(ctx) as settings, opened(settings) as work:
        if detach and not dry_run:
            from kline_pipeline.cli import detached

            detached.require_daemon(settings)
        plan = prepare(settings, work, series, start, end, write=not dry_run)
        if dry_run:
            rate = settings.bybit.requests_per_second
            cost = estimate(work.pipeline, plan.selections, now_ms=plan.now_ms, requests_per_second=rate)
            typer.echo(json.dumps(cost.as_json()) if as_json else cost.sentence())
            return
        if detach:
            handed = detached.hand_over(plan)
            typer.echo(json.dumps(detached.report(handed)) if as_json else "\n".join(detached.told(handed)))
            return
        outcomes = execute(plan)
        lines = lines_of(work.database, work.pipeline, plan.selections)
    if as_json:
        typer.echo(json.dumps(report(outcomes, lines)))
    raise typer.Exit(close(outcomes, lines, table=not as_json))


def close(outcomes: "Sequence[RunOutcome]", lines: "Sequence[Line]", *, table: bool) -> int:
    """Show the closing table, name what failed and known gaps on standard error, and return the exit code."""
    from rich.console import Console

    from kline_pipeline.cli.session import say
    from kline_pipeline.cli.summary import by_series, told_failures, told_known

    if table:
        Console().print(by_series(lines))
    told = told_failures(lines)
    # A red check on a partition that stands as landed, or a step that failed as a whole, is in no line.
    if not told or any(not line.good and not line.reasons for line in lines):
        told += _others(outcomes)
    for sentence in [*told_known(lines), *told]:
        say(sentence)
    good = all(outcome.success for outcome in outcomes) and all(line.good for line in lines)
    return 0 if good else 1


def report(outcomes: "Sequence[RunOutcome]", lines: "Sequence[Line]") -> dict[str, object]:
    """Return what --json prints."""
    from kline_pipeline.cli.summary import totals

    return {
        "runs": [
            {
                "run_id": outcome.run_id,
                "dataset": outcome.run.dataset.name,
                "status": outcome.status,
                "partitions": len(outcome.run.cells),
                "error": outcome.error,
            }
            for outcome in outcomes
        ],
        "partitions": [line.as_json() for line in lines],
        "totals": totals(lines),
        "failed": [line.as_json() for line in lines if not line.good]
        + [
            {
                "series": None if cell.cell is None else str(outcome.run.dataset.series(cell.cell.symbol)),
                "date": None if cell.cell is None else cell.cell.date.isoformat(),
                "asset": cell.asset,
                "check": cell.check,
                "reasons": [cell.reason],
            }
            for outcome in outcomes
            for cell in outcome.failed
        ],
    }


def _others(outcomes: "Sequence[RunOutcome]") -> list[str]:
    found = []
    for outcome in outcomes:
        if outcome.success:
            continue
        found.append(f"run {outcome.run_id[:8]} of {outcome.run.dataset.name} {outcome.status}: {outcome.error}")
        for failed in outcome.failed:
            if failed.cell is not None:
                series = outcome.run.dataset.series(failed.cell.symbol)
                found.append(f"{series} {failed.cell.date}: {failed.check or failed.asset}: {failed.reason}")
    return found
