"""The table as it is printed, line by line, and the JSON; which columns a part has is told here, and nowhere else."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from kline_pipeline_tests.benchmarks.results import Line
from kline_pipeline_tests.benchmarks.targets import judge
from kline_pipeline_tests.benchmarks.world import too_often

# Per part: the figure, and its title with the unit. Times are seconds, CPU is user and system.
_WORK: Final = {
    "wall_s": "wall s",
    "own_cpu_s": "own CPU s",
    "command_cpu_s": "command CPU s",
    "workers_cpu_s": "workers CPU s",
    "own_cpu_s_per_million": "own per M candles",
    "postgres_cpu_s": "PG CPU s",
    "exchange_cpu_s": "exchange CPU s",
    "other_cpu_s": "other CPU s",
    "peak_mb": "largest process MB",
    "rows_inserted": "inserted",
    "rows_updated": "updated",
    "rows_deleted": "deleted",
    "refused": "403",
}
_COLUMNS: Final[dict[str, dict[str, str]]] = {
    **dict.fromkeys(("W1", "W2", "W3", "W4", "W5", "growth"), _WORK),
    "W6": {
        "rows": "rows",
        "first_s": "first s",
        "median_s": "median s",
        "plain_s": "plain s",
        "median_to_plain": "median / plain",
        "refused": "403",
    },
    "start": {"wall_s": "wall s", "to_python": "/ python -c pass", "to_typer": "/ import typer"},
    "stream": {
        "pages": "pages",
        "wall_s": "wall s",
        "candles_per_s": "candles/s",
        "share_of_pace": "share of pace",
        "cores": "cores, own and PG",
        "own_cpu_s": "own CPU s",
        "postgres_cpu_s": "PG CPU s",
    },
    "fetch": {
        "pages": "pages",
        "wall_s": "wall s",
        "floor_computed_s": "computed s",
        "wall_to_computed": "wall / computed",
        "inside_s": "from the first request s",
        "inside_to_computed": "that / computed",
        "refused": "403",
    },
    "decode": {"cpu_ms_per_page": "CPU ms per page", "to_orjson": "/ orjson"},
    "store": {
        "rows": "rows",
        "wall_s": "wall s",
        "copy_s": "plain COPY s",
        "wall_to_copy": "wall / COPY",
        "bytes_per_candle": "table and key B per candle",
        "wal_bytes_per_row": "WAL B per row",
        "plain_parquet_s": "plain Parquet s",
        "wall_to_parquet": "wall / Parquet",
    },
}
_FLOORS: Final = {
    "computed": ("floor_computed_s", "wall_to_computed"),
    "same pages fetched and thrown away": ("floor_fetched_s", "wall_to_fetched"),
    "plain COPY": ("floor_copy_s", "wall_to_copy"),
    "plain Parquet write": ("floor_parquet_s", "wall_to_parquet"),
    "orjson alone, CPU": ("floor_orjson_cpu_s", "own_cpu_to_orjson"),
}
_OTHERS: Final = {
    "wall_to_w2": "wall is {:.2f} x that of W2",
    "s_per_candle_to_w2": "wall per candle is {:.2f} x that of W2",
    "peak_to_w2": "largest process is {:.2f} x that of W2",
}
_SHORT: Final = 100  # numbers below have two decimals


class Report:
    """Prints lines as they come and keeps them."""

    def __init__(self, show: Callable[[str], None]) -> None:
        """Begin.

        Args:
            show: prints one line of text.
        """
        self._show = show
        self._heading = ""
        self.lines: dict[tuple[str, str], Line] = {}

    def add(self, line: Line) -> None:
        """Print a line with its floors and targets, under a heading when its columns are others than those before.

        Raises:
            SystemExit: the exchange answered 403 in one of its runs.
        """
        self.lines[line.name, line.way] = line
        for text in self._texts(line):
            self._show(text)
        if refused := line.figures.get("refused"):
            raise SystemExit(f"{line.name} {line.way}: {too_often(round(refused))}")

    def as_json(self) -> dict[str, Any]:
        """Return per work and way its runs, medians, ratios and targets."""
        found: dict[str, Any] = {}
        for (name, way), line in self.lines.items():
            verdicts = judge(name, way, line.figures)
            found.setdefault(name, {})[way] = {
                "runs": [dict(run) for run in line.runs],
                "medians": line.medians,
                "ratios": dict(line.ratios),
                "targets": [{**asdict(one.target), "found": one.found, "holds": one.holds} for one in verdicts],
            }
        return found

    def _texts(self, line: Line) -> list[str]:
        columns, figures = _COLUMNS[line.name], line.figures
        heading = "  ".join([f"{'part':8}", f"{'way':13}", *(f"{title:>9}" for title in columns.values())])
        texts = ["", heading] if heading != self._heading else []
        self._heading = heading
        cells = [f"{_number(figures.get(name)):>{max(9, len(title))}}" for name, title in columns.items()]
        texts.append("  ".join([f"{line.name:8}", f"{line.way:13}", *cells]))
        if columns is _WORK:
            beside = (f"{name} {figures[s]:.2f} s ({figures[x]:.2f} x)" for name, (s, x) in _FLOORS.items())
            pages = f"{figures['floor_sampled_pages']:.0f} of {figures['floor_pages']:.0f} pages"
            texts.append(f"{'':10}floors, and the work to each: {', '.join(beside)} measured on {pages}")
            texts += [f"{'':10}{said.format(figures[name])}" for name, said in _OTHERS.items() if name in figures]
        return texts + [f"{'':10}{verdict}" for verdict in judge(line.name, line.way, figures)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if float(value).is_integer() or value >= _SHORT:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
