"""`kline-pipeline repair`: what is missing of stored partitions, or offends a rule, again; all else is left alone."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster import DagsterInstance

    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.cli.summary import Line
    from kline_pipeline.config import Settings
    from kline_pipeline.datasets import Cell, Dataset
    from kline_pipeline.market.series import Series
    from kline_pipeline.opening import Opened

    Broken = Mapping[Cell, Sequence[str]]

_NAMED = 20
_UNFINISHED = "it is not finished: candles have closed since it was read, or a known gap is to be asked for again"
FAILED = "nothing is wrong with it, but its last run broke off, and Dagster shows it as failed"
UNFETCHED = "it was never fetched, as the run that was to do it broke off"


def repair(
    ctx: typer.Context,
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="category:symbol:interval, e.g. linear:BTCUSDT:1")
    ],
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="Default: all.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day. Default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Fetch again only what is missing or wrong of the stored partitions, check it, and land it.

    Exit code 0 if nothing is broken, or all of it landed and every error check passed.

    Example: kline-pipeline repair linear:BTCUSDT:1 --from 2024-01-01 --to 2024-01-31
    """
    import json

    from kline_pipeline.cli.backfill import close, report
    from kline_pipeline.cli.ranged_runs import Plan, execute, tell_closed
    from kline_pipeline.cli.ranges import parse_keys
    from kline_pipeline.cli.session import started
    from kline_pipeline.cli.summary import lines_of
    from kline_pipeline.defs.instance.orphans import close_orphans
    from kline_pipeline.defs.instance.storage import open_instance
    from kline_pipeline.market.times import check_order
    from kline_pipeline.opening import opened

    series = parse_keys(keys)
    check_order(start, end)
    with started(ctx) as settings, opened(settings) as work:
        now_ms = work.pipeline.now_ms()
        with open_instance(settings) as instance:
            tell_closed(close_orphans(settings, instance, work.database))  # which leaves their partitions failed
            looked_at, found = _look(settings, work, instance, series, (start, end))
        selections = _selections(found)
        told = _tell(found)
        if not selections and not as_json:
            typer.echo(f"nothing to repair in {looked_at} partition{'s' if looked_at > 1 else ''}")
            return
        outcomes = execute(Plan(settings, tuple(selections), now_ms)) if selections else []
        lines: Sequence[Line] = lines_of(work.database, work.pipeline, selections)
    if as_json:
        typer.echo(json.dumps({"looked_at": looked_at, "broken": told, **report(outcomes, lines)}))
    raise typer.Exit(close(outcomes, lines, table=not as_json))


def _look(
    settings: "Settings",
    work: "Opened",
    instance: "DagsterInstance",
    series: "Sequence[Series]",
    asked: "tuple[str | None, str | None]",
) -> "tuple[int, list[tuple[Dataset, Series, Broken]]]":
    """Return how many partitions were looked at, and which of each series are broken and why, ascending."""
    from kline_pipeline import datasets
    from kline_pipeline.cli.ranges import grouped
    from kline_pipeline.cli.stored_cells import possible_cells, stored_cells
    from kline_pipeline.defs.instance.failed_cells import failed_cells

    declared, looked_at = datasets.load(settings.datasets_file), 0
    found: list[tuple[Dataset, Series, Broken]] = []
    now_ms, (start, end) = work.pipeline.now_ms(), asked
    for one in series:
        ((dataset, _),) = grouped([one], declared)
        possible = possible_cells(dataset, one, start=start, end=end, now_ms=now_ms)
        failed = failed_cells(instance, dataset, possible)
        cells = stored_cells(work, dataset, one, start=start, end=end, now_ms=now_ms, required=not failed)
        looked_at += len({*cells, *failed})
        broken = dict(_broken(work, dataset, cells, declared, now_ms))
        broken |= {cell: [FAILED if cell in cells else UNFETCHED] for cell in failed if cell not in broken}
        if broken:
            work.pipeline.distrust_inconsistent(dataset, list(broken), declared=declared)
            found.append((dataset, one, dict(sorted(broken.items()))))
    return looked_at, found


def _broken(
    work: "Opened", dataset: "Dataset", cells: "Sequence[Cell]", declared: "Sequence[Dataset]", now_ms: int
) -> "Broken":
    """Return what of the partitions a repair has something to do on, with what disagrees in each."""
    found = {}
    for cell in work.pipeline.broken(dataset, cells, declared=declared, now_ms=now_ms):
        verified = work.pipeline.verify(dataset, cell, declared=declared, now_ms=now_ms)
        found[cell] = verified.disagreements or [_UNFINISHED]
    return found


def _tell(found: "Sequence[tuple[Dataset, Series, Broken]]") -> list[dict[str, object]]:
    """Say what is broken, and return it ready for JSON."""
    from kline_pipeline.cli.session import say

    told: list[dict[str, object]] = []
    for _, series, broken in found:
        for cell, reasons in broken.items():
            told.append({"series": str(series), "date": cell.date.isoformat(), "reasons": list(reasons)})
            if len(told) <= _NAMED:
                say(f"{series} {cell.date} is broken: {'; '.join(reasons)}")
    if len(told) > _NAMED:
        say(f"and {len(told) - _NAMED} partitions more")
    return told


def _selections(found: "Sequence[tuple[Dataset, Series, Broken]]") -> "list[Selection]":
    """Return few rectangles that hold exactly what is broken, so that it takes few runs."""
    from kline_pipeline.cli.ranges import Selection
    from kline_pipeline.defs.ranges import rectangles

    cells: dict[str, list[Cell]] = {}
    for dataset, _, broken in found:
        cells.setdefault(dataset.name, []).extend(broken)
    by_name = {dataset.name: dataset for dataset, _, _ in found}
    return [Selection(by_name[name], *rectangle) for name, them in cells.items() for rectangle in rectangles(them)]
