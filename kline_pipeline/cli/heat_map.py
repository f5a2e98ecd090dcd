"""The coverage heat map: a block per UTC day (per partition from D on), by how much is present."""

from collections.abc import Mapping
from datetime import date
from html import escape
from typing import Final

from rich.text import Text

from kline_pipeline.cli.ranges import Selection
from kline_pipeline.database.engine import Database
from kline_pipeline.evidence import coverage

# From nothing to complete; the last is for complete days only.
_SHADES: Final = ("#8b1a1a", "#d2691e", "#e0b000", "#9acd32", "#2e8b57")
_EMPTY: Final = "#808080"
Days = Mapping[date, tuple[int, int]]


def days_of(database: Database, selection: Selection, symbol: str) -> Days:
    """Return (expected, present) per UTC day of a series inside the selection; per partition from D on."""
    dataset = selection.dataset
    with database.translate_errors(), database.engine.begin() as connection:
        days = coverage.days(connection, dataset.category, dataset.interval.code, symbol)
        found = {row.day: (row.expected, row.present) for row in days}
        if not found:
            rows = coverage.rows(connection, dataset.category, dataset.interval.code, symbol)
            found = {row.date: (row.expected, row.present) for row in rows}
    chosen = set(selection.dates)
    return {day: counts for day, counts in found.items() if dataset.floor(day) in chosen}


def heat_map(days_by_series: Mapping[str, Days]) -> Text:
    """Return a line per series and month, a block per day, and what the colours mean."""
    text = Text()
    for key, days in days_by_series.items():
        text.append(f"{key}\n", style="bold")
        for month, blocks in _months(days).items():
            text.append(f"  {month} ")
            for counts in blocks:
                text.append("■", style=_shade(counts))
            text.append("\n")
    for name, shade in (("complete", _SHADES[-1]), ("partly", _SHADES[2]), ("nothing", _SHADES[0])):
        text.append("■ ", style=shade)
        text.append(f"{name}  ")
    return text


def html(days_by_series: Mapping[str, Days]) -> str:
    """Return the heat map as one self-contained page; each block says its day and counts."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Coverage</title><style>",
        "body{font-family:sans-serif}i{display:inline-block;width:11px;height:11px;margin:1px}",
        "code{display:inline-block;width:5em}</style><h1>Coverage (UTC)</h1>",
    ]
    for key, days in days_by_series.items():
        parts.append(f"<h2>{escape(key)}</h2>")
        for month in _months(days):
            blocks = "".join(
                f"<i style='background:{_shade(counts)}' title='{day}: {counts[1]:,} of {counts[0]:,}'></i>"
                for day, counts in sorted(days.items())
                if f"{day:%Y-%m}" == month
            )
            parts.append(f"<div><code>{month}</code>{blocks}</div>")
    return "\n".join(parts) + "</html>\n"


def _months(days: Days) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for day, counts in sorted(days.items()):
        found.setdefault(f"{day:%Y-%m}", []).append(counts)
    return found


def _shade(counts: tuple[int, int]) -> str:
    expected, present = counts
    if not expected:
        return _EMPTY
    return _SHADES[-1] if present >= expected else _SHADES[min(3, present * 4 // expected)]
