"""`python -m kline_pipeline.deploy.dashboards`: writes the dashboards of Grafana beside this module, as plain JSON.

What a panel asks is told here, by the metrics of metrics.py; how Prometheus alerts is told in prometheus/rules.yml.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from kline_pipeline import metrics as m

FOLDER: Final = Path(__file__).parent / "grafana" / "dashboards"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24  # of Grafana's grid
_RATE: Final = "[$__rate_interval]"

Panel = dict[str, Any]
Queries = Sequence[tuple[str, str]]


def exchange() -> dict[str, Any]:
    """Return what is asked of the exchange, how fast it answers, and what the cache saves."""
    requests, seconds, hits, misses = m.REQUESTS.name, m.REQUEST_SECONDS.name, m.CACHE_HITS.name, m.CACHE_MISSES.name
    of_all, ok = f"sum(rate({requests}{_RATE}))", f'sum(rate({requests}{{outcome="ok"}}{_RATE}))'
    quantiles = [
        (f"histogram_quantile({share}, sum by (le) (rate({seconds}_bucket{_RATE})))", f"{name} of answers within")
        for share, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    ]
    hit_rate = f"sum(increase({hits}[1d])) / (sum(increase({hits}[1d])) + sum(increase({misses}[1d])))"
    panels = [
        _stat("Exchange", "short", [(f"max({m.EXCHANGE_UP.name})", "answers")], mappings={"0": "down", "1": "up"}),
        _stat("Cool-down left", "s", [(f"max({m.COOL_DOWN.name})", "s")], red_from=1),
        _stat("Pace used", "percentunit", [(f"min({m.PACE_SHARE.name})", "of the pace")]),
        _stat("Cache hit rate, 1 day", "percentunit", [(hit_rate, "of pages")]),
        _graph("Requests by outcome", "reqps", [(f"sum by (outcome) (rate({requests}{_RATE}))", "{{outcome}}")]),
        _graph("Time of an answer", "s", quantiles),
        _graph("Requests by kind", "reqps", [(f"sum by (kind) (rate({requests}{_RATE}))", "{{kind}}")]),
        _graph(
            "Mean time by kind",
            "s",
            [(" / ".join(f"sum by (kind) (rate({seconds}_{part}{_RATE}))" for part in ("sum", "count")), "{{kind}}")],
        ),
        _graph(
            "Rate limited, and tried again",
            "reqps",
            [
                (f'sum(rate({requests}{{outcome="rate_limited"}}{_RATE}))', "rate limited"),
                (f"sum(rate({m.RETRIES.name}{_RATE}))", "tried again"),
            ],
        ),
        _graph(
            "Candles per second",
            "short",
            [(f"sum by (category, interval) (rate({m.CANDLES.name}{_RATE}))", "{{category}} {{interval}}")],
        ),
        _graph(
            "Cache: pages per hour",
            "short",
            [(f"sum(increase({hits}[1h]))", "found"), (f"sum(increase({misses}[1h]))", "asked for")],
        ),
        _graph("Cache hit rate, 1 hour", "percentunit", [(hit_rate.replace("[1d]", "[1h]"), "of pages")]),
        _graph("Share of failed requests", "percentunit", [(f"1 - {ok} / {of_all}", "failed")]),
        _graph("Newest probe of a series", "s", [(m.PROBE_SECONDS.name, "{{series}}")]),
    ]  # fmt: skip
    return _dashboard("kline-exchange", "Bybit candles: exchange and cache", panels)


def errors() -> dict[str, Any]:
    """Return what failed, and whether what the pipeline stands on is there."""
    failed = f'sum by (outcome) (increase({m.REQUESTS.name}{{outcome!="ok"}}[1h]))'
    up = {"0": "down", "1": "up"}
    panels = [
        _stat("Database", "short", [(f"max({m.DATABASE_UP.name})", "answers")], mappings=up),
        _stat("Snapshots", "short", [(f"max({m.STORAGE_UP.name})", "can be written")], mappings=up),
        _stat("Newest heartbeat of the daemon", "s", [(f"max({m.DAEMON_AGE.name})", "ago")], red_from=300),
        _stat("Alerts not delivered", "short", [(f"max({m.UNDELIVERED.name})", "alerts")], red_from=1),
        _graph("Failed requests per hour", "short", [(failed, "{{outcome}}")]),
        _graph(
            "Failures of the database per hour",
            "short",
            [(f"sum by (kind) (increase({m.DATABASE_ERRORS.name}[1h]))", "{{kind}}")],
        ),
        _graph(
            "Failed checks per hour",
            "short",
            [(f'sum by (check) (increase({m.CHECK_RESULTS.name}{{result="failed"}}[1h]))', "{{check}}")],
        ),
        _graph(
            "Checks that warned per hour",
            "short",
            [(f'sum by (check) (increase({m.CHECK_RESULTS.name}{{result="warned"}}[1h]))', "{{check}}")],
        ),
        _graph("Runs of the last 24 hours", "short", [(f"sum by (status) ({m.RUNS.name})", "{{status}}")]),
        _graph("How long runs take", "s", [(f"max by (percentile) ({m.RUN_SECONDS.name})", "{{percentile}} %")]),
        _graph(
            "Connections to the database",
            "short",
            [
                (f"sum by (application) ({m.CONNECTIONS.name})", "{{application}}"),
                (f"sum by (state) ({m.POOL.name})", "pool of the service, {{state}}"),
            ],
        ),
        _graph("Free disk", "bytes", [(f"min({m.DISK_FREE.name})", "under KLINE_HOME")]),
        _graph("Clock less that of the exchange", "s", [(f"max({m.CLOCK_SKEW.name})", "ahead")]),
        _graph("Releases", "short", [(f"count by (version) ({m.BUILD.name})", "{{version}}")]),
    ]
    return _dashboard("kline-errors", "Bybit candles: errors and machine", panels)


def data() -> dict[str, Any]:
    """Return how fresh and how complete the candles are."""
    of_dataset = "{{category}} {{interval}}"
    coverage = f"sum by (category, interval) ({m.PRESENT.name}) / sum by (category, interval) ({m.EXPECTED.name})"
    panels = [
        _stat("Coverage", "percentunit", [(f"sum({m.PRESENT.name}) / sum({m.EXPECTED.name})", "present")]),
        _stat("Open gaps", "short", [(f"sum({m.GAPS.name})", "candles")], red_from=1),
        _stat("Quarantined", "short", [(f'sum({m.PARTITIONS.name}{{state="quarantined"}})', "partitions")], red_from=1),
        _stat("Series", "short", [(f"sum({m.SERIES.name})", "kept")]),
        _graph("The ten stalest series", "s", [(f"topk(10, {m.FRESHNESS.name})", "{{series}}")]),
        _graph("Coverage by dataset", "percentunit", [(coverage, of_dataset)]),
        _graph("Open gaps by dataset", "short", [(f"sum by (category, interval) ({m.GAPS.name})", of_dataset)]),
        _graph("Known gaps", "short", [(f"sum by (category, interval) ({m.KNOWN_GAPS.name})", of_dataset)]),
        _graph("Partitions by state", "short", [(f"sum by (state) ({m.PARTITIONS.name})", "{{state}}")]),
        _graph("Rows per second", "short", [(f"sum by (sink) (rate({m.ROWS_WRITTEN.name}{_RATE}))", "{{sink}}")]),
        _graph("Revisions per day", "short", [(f"sum by (kind) (increase({m.REVISIONS.name}[1d]))", "{{kind}}")]),
        _graph("Series by dataset", "short", [(f"sum by (category, interval) ({m.SERIES.name})", of_dataset)]),
    ]  # fmt: skip
    return _dashboard("kline-data", "Bybit candles: freshness and coverage", panels)


def written() -> dict[str, str]:
    """Return the text of each file by its name."""
    made = {"exchange.json": exchange(), "errors.json": errors(), "data.json": data()}
    return {name: json.dumps(dashboard, indent=1) + "\n" for name, dashboard in made.items()}


def _dashboard(uid: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "current": {}}
    return {
        "uid": uid,
        "title": title,
        "tags": ["kline_pipeline"],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": _placed(panels),
    }


def _placed(panels: Sequence[Panel]) -> list[Panel]:
    """Return the panels with a number and a place each, left to right and top to bottom."""
    placed, x, y, numbers = [], 0, 0, count(1)
    for panel in panels:
        width, height = (6, 4) if panel["type"] == "stat" else (12, 8)
        placed.append({"id": next(numbers), **panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x += width
        if x == _WIDTH:
            x, y = 0, y + height
    return placed


def _graph(title: str, unit: str, queries: Queries) -> Panel:
    return {**_panel("timeseries", title, queries), "fieldConfig": {"defaults": {"unit": unit}, "overrides": []}}


def _stat(
    title: str, unit: str, queries: Queries, *, red_from: float | None = None, mappings: Mapping[str, str] | None = None
) -> Panel:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if mappings:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    elif red_from is not None:
        steps.append({"color": "red", "value": red_from})
    defaults = {
        "unit": unit,
        "mappings": [{"type": "value", "options": {value: {"text": text} for value, text in (mappings or {}).items()}}],
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    return {**_panel("stat", title, queries), "fieldConfig": {"defaults": defaults, "overrides": []}}


def _panel(kind: str, title: str, queries: Queries) -> Panel:
    targets = [
        {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend, "datasource": _SOURCE}
        for number, (expression, legend) in enumerate(queries)
    ]
    return {"type": kind, "title": title, "datasource": _SOURCE, "targets": targets}


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in written().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
