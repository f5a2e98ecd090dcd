"""What a command has brought about, read from the ledger, as a table for people and an object for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from kline_pipeline.cli.ranges import Selection
from kline_pipeline.evidence import coverage
from kline_pipeline.market.window import iso
from kline_pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from rich.table import Table

    from kline_pipeline.database.engine import Database

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One partition as the ledger knows it.

    Attributes:
        series: its key.
        date: of the partition.
        expected, present, missing: candles.
        known: candles that are missing and let in: known gaps and accepted ones; they are not among `missing`.
        state: landed, quarantined, not_listed, pending, or unknown where it was never derived.
        reasons: what is wrong with it.
        missing_open_times: the first 20, ISO, ascending.
    """

    series: str
    date: date
    expected: int
    present: int
    missing: int
    state: str
    reasons: tuple[str, ...] = ()
    missing_open_times: tuple[str, ...] = ()
    known: int = 0

    @property
    def good(self) -> bool:
        """Landed, or there is nothing that could land."""
        return self.state in {"landed", "not_listed"}

    def as_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {**asdict(self), "date": self.date.isoformat()}


def lines_of(database: "Database", pipeline: Pipeline | None, selections: Sequence[Selection]) -> list[Line]:
    """Return one line per partition of the selections; missing open times only where a pipeline reads the verdicts."""
    found = []
    for selection in selections:
        dataset = selection.dataset
        with database.translate_errors(), database.engine.begin() as connection:
            rows = {
                (row.symbol, row.date): row
                for row in coverage.rows(connection, dataset.category, dataset.interval.code)
            }
        for cell in selection.cells:
            row = rows.get((cell.symbol, cell.date))
            key = str(dataset.series(cell.symbol))
            if row is None:
                found.append(Line(key, cell.date, 0, 0, 0, "unknown"))
                continue
            times: tuple[str, ...] = ()
            if pipeline is not None and row.missing and row.generation is not None:
                offenders = pipeline.verdict(dataset, cell).results["no_gaps"].offenders
                times = tuple(iso(one.open_time_ms) for one in offenders[:_NAMED] if one.open_time_ms is not None)
            reasons = tuple(row.reasons) or ((row.fetch_error,) if row.fetch_error else ())
            counts = (row.expected, row.present, row.missing)
            found.append(Line(key, cell.date, *counts, row.state, reasons, times, known=row.known_missing))
    return found


def totals(lines: Sequence[Line]) -> dict[str, int]:
    """Return the sums over partitions."""
    return {
        "partitions": len(lines),
        "landed": sum(line.state == "landed" for line in lines),
        "expected": sum(line.expected for line in lines),
        "present": sum(line.present for line in lines),
        "missing": sum(line.missing for line in lines),
        "known": sum(line.known for line in lines),
    }


def by_series(lines: Sequence[Line]) -> "Table":
    """Return the closing table of a command: one row per series, its dates, sums and states."""
    numbers = _numbers(lines)
    table = _table("series", "dates", *numbers, "state")
    for key in dict.fromkeys(line.series for line in lines):
        own = [line for line in lines if line.series == key]
        counts = totals(own)
        states = {state: sum(line.state == state for line in own) for state in sorted({line.state for line in own})}
        told = ", ".join(state if len(states) == 1 else f"{count} {state}" for state, count in states.items())
        dates = f"{own[0].date} .. {own[-1].date} ({len(own)})" if len(own) > 1 else f"{own[0].date}"
        good = all(line.good for line in own)
        table.add_row(key, dates, *(f"{counts[name]:,}" for name in numbers), told, style=None if good else "red")
    return table


def by_partition(lines: Sequence[Line]) -> "Table":
    """Return one row per partition."""
    numbers = _numbers(lines)
    table = _table("series", "date", *numbers, "state")
    for line in lines:
        counts = totals([line])
        told = (f"{counts[name]:,}" for name in numbers)
        table.add_row(line.series, str(line.date), *told, line.state, style=None if line.good else "red")
    return table


def told_failures(lines: Sequence[Line]) -> list[str]:
    """Return one sentence per partition that has not landed, with the open times that are missing."""
    found = []
    for line in lines:
        if line.good:
            continue
        why = "; ".join(line.reasons) or f"it is {line.state}"
        # The reason names the first three itself.
        later = line.missing_open_times[3:]
        more = line.missing - len(line.missing_open_times)
        ending = f" and {more} more" if more > 0 else ""
        found.append(f"{line.series} {line.date}: {why}" + (f" ({', '.join(later)}{ending})" if later else ""))
    return found


def told_known(lines: Sequence[Line]) -> list[str]:
    """Return one sentence per series that lacks candles for good, in which partitions and how many; nothing else."""
    found = []
    for key in dict.fromkeys(line.series for line in lines if line.known):
        where = [f"{line.date} ({line.known:,})" for line in lines if line.series == key and line.known]
        more = f" and {len(where) - _NAMED} partitions more" if len(where) > _NAMED else ""
        found.append(f"{key} has known gaps, let in with their evidence: {', '.join(where[:_NAMED])}{more}")
    return found


_NUMBERS = ("expected", "present", "missing", "known")


def _numbers(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the columns of counts; known gaps are rare, and without them a narrow terminal has room for the rest."""
    return _NUMBERS if any(line.known for line in lines) else _NUMBERS[:-1]


def _table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        # On a narrow terminal dates and states go on in the next line; nothing is cut.
        folds = name in {"dates", "state"}
        table.add_column(
            name,
            justify="right" if name in _NUMBERS else "left",
            no_wrap=not folds,
            overflow="fold",
            min_width=10 if folds else None,
        )
    return table
