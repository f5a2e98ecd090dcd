"""From keys and a range to executed Dagster runs, for backfill and demo: everything is checked before the first run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kline_pipeline import datasets
from kline_pipeline.cli.known_series import declare, followed, learn
from kline_pipeline.cli.progress import progress_of
from kline_pipeline.cli.ranges import Selection, grouped, select
from kline_pipeline.cli.session import say
from kline_pipeline.cli.ui_address import ui_url
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.ranges import MOST_CANDLES, RangeRun, out_of_step, plan_runs
from kline_pipeline.defs.run_messages import RunOutcome
from kline_pipeline.defs.runs import RunWorkers
from kline_pipeline.defs.size import size_warning
from kline_pipeline.market.series import Series
from kline_pipeline.market.times import check_order, end_of, start_of

if TYPE_CHECKING:
    from kline_pipeline.opening import Opened

_WORKERS: Final = 2  # four are no faster on two cores (dagster.md 8)
_WORTH_A_RUN: Final = 140_000  # candles: three months of minutes, which take longer than what a run costs by itself


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, all checked.

    Attributes:
        settings: with the datasets.toml that declares every series.
        selections: one per dataset.
        now_ms: the exchange's time when it was planned.
        added: series that were not known before.
        finished: names of the datasets of which all that is to be run is finished, so that nothing is to be fetched.
    """

    settings: Settings
    selections: tuple[Selection, ...]
    now_ms: int
    added: tuple[Series, ...] = field(default=())
    finished: frozenset[str] = field(default=frozenset())


def prepare(
    settings: Settings, work: "Opened", series: Sequence[Series], start: str | None, end: str | None, *, write: bool
) -> Plan:
    """Return the plan of a backfill; unless `write`, datasets.toml stays as it is and series must be declared.

    Raises:
        UsageError: the range or a key is wrong, or datasets.toml cannot be used; nothing was written.
        ExchangeError: the exchange does not know a symbol or does not answer; nothing was written.
        StorageError: the database or a folder fails, or belongs to another exchange.
    """
    check_order(start, end)
    declared = datasets.load(settings.datasets_file)
    now_ms = work.pipeline.now_ms()
    # Before anything is written: a wrong range must leave no trace.
    for check, text in ((start_of, start), (end_of, end)):
        if text is not None:
            check(text, now_ms)
    known = learn(settings, work, series)
    for dataset in _touched(declared, series):
        work.pipeline.keep(dataset)
    first_ms = {one: known[one.category, one.symbol].first_ms for one in series}
    _select_all(_with(declared, series), series, first_ms, start=start, end=end, now_ms=now_ms)
    added: list[Series] = []
    if write:
        not_followed = set(series) - set(followed(work, declared, series))
        settings, added = declare(settings, [one for one in series if one in not_followed])
        declared = datasets.load(settings.datasets_file)
    selections = _select_all(_with(declared, series), series, first_ms, start=start, end=end, now_ms=now_ms)
    for one in added:
        say(f"{one} was not known yet and is added to {settings.datasets_file}")
    for _, sentence in selections:
        if sentence:
            say(sentence)
    chosen = tuple(selection for selection, _ in selections)
    finished = [one.dataset.name for one in chosen if set(one.cells) <= set(work.pipeline.finished(one.dataset))]
    return Plan(settings, chosen, now_ms, tuple(added), frozenset(finished))


def execute(plan: Plan, *, assets: Sequence[str] = ()) -> list[RunOutcome]:
    """Run the selections through Dagster with a progress bar, and return what became of each run.

    Args:
        plan: what is to be run.
        assets: last parts of the keys to materialize; empty for all.

    Raises:
        KeyboardInterrupt: Ctrl-C; the runs are canceled.
        StorageError: the database failed before the first run.
    """
    with RunWorkers(plan.settings) as workers:
        prepared = workers.prepare(symbols_of(plan))
        tell_closed(prepared.closed)
        runs = runs_of(plan, prepared.known)
        with progress_of(runs, ui_url(plan.settings), assets=assets) as on_progress:
            return workers.execute(runs, on_progress=on_progress, workers=_WORKERS, assets=assets)


def tell_closed(run_ids: Iterable[str]) -> None:
    """Say which runs were closed whose process was gone."""
    for run_id in run_ids:
        say(f"run {run_id[:8]} was left behind by a process that is gone; it is closed")


def symbols_of(plan: Plan) -> list[tuple[Dataset, tuple[str, ...]]]:
    """Return the symbols that Dagster must know before the runs of a plan can be cut."""
    return [(selection.dataset, tuple(selection.symbols)) for selection in plan.selections]


def runs_of(plan: Plan, known: Mapping[str, Sequence[str]]) -> list[RangeRun]:
    """Return the runs that the selections are cut into.

    Args:
        plan: what is to be run.
        known: all symbols by name of the dataset, in Dagster's order.

    Raises:
        DatasetsError: a dataset has more partitions than Dagster can hold.
    """
    runs = []
    for selection in plan.selections:
        dataset, symbols = selection.dataset, known[selection.dataset.name]
        if warning := size_warning(dataset, len(symbols), plan.now_ms):
            say(warning)
        asked = (dataset, selection.dates, selection.symbols)
        most = plan.settings.run_partitions
        whole = sum(run.expected for run in plan_runs(*asked, known=symbols, most=most))
        if dataset.name in plan.finished:
            # A run for each worker, with a partition more where they cannot be cut evenly.
            share = whole // _WORKERS + whole // len(selection.cells)
            runs += plan_runs(*asked, known=symbols, most=most, most_candles=_within(share))
        else:
            # One is fetched while another one is derived and landed.
            share = whole // (2 * _WORKERS)
            runs += out_of_step(plan_runs(*asked, known=symbols, most=most, most_candles=_within(share)))
    return runs


def _within(candles: int) -> int:
    return min(MOST_CANDLES, max(_WORTH_A_RUN, candles))


def _touched(declared: Sequence[Dataset], series: Sequence[Series]) -> list[Dataset]:
    wanted = {(one.category, one.interval) for one in series}
    return [dataset for dataset in declared if (dataset.category, dataset.interval) in wanted]


def _with(declared: Sequence[Dataset], series: Sequence[Series]) -> list[Dataset]:
    """Return the datasets as they will be, once the series are declared."""
    missing = dict.fromkeys(
        (one.category, one.interval)
        for one in series
        if not any((one.category, one.interval) == (dataset.category, dataset.interval) for dataset in declared)
    )
    return [*declared, *(datasets.undeclared(category, interval) for category, interval in missing)]


def _select_all(
    declared: Sequence[Dataset],
    series: Sequence[Series],
    first_ms: dict[Series, int],
    *,
    start: str | None,
    end: str | None,
    now_ms: int,
) -> list[tuple[Selection, str]]:
    return [
        select(
            dataset,
            symbols,
            {symbol: first_ms[dataset.series(symbol)] for symbol in symbols},
            start=start,
            end=end,
            now_ms=now_ms,
        )
        for dataset, symbols in grouped(series, declared)
    ]
