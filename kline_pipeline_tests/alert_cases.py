"""Runs and evaluations for the tests of alerts, in few words."""

from datetime import UTC, datetime, timedelta
from typing import Any

from kline_pipeline.alerting.episodes import Evaluation, FinishedRun
from kline_pipeline.evidence.alerts import Place, Severity

NOON = datetime(2024, 4, 10, 12, tzinfo=UTC)


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def judged(
    partition: str,
    *,
    passed: bool = False,
    check: str = "no_gaps",
    asset: str = "linear/60/candles",
    severity: Severity = "ERROR",
    minute: float = 0,
) -> Evaluation:
    """Return what a check said of a partition such as 2024-03-01|AUSDT."""
    day, _, symbol = partition.partition("|")
    return Evaluation(
        place=Place(asset, partition, check),
        passed=passed,
        severity=severity,
        reason="" if passed else f"{check}: 2024-03-10T05:00:00Z is missing",
        repair="" if passed else f"kline-pipeline repair linear:{symbol}:60 --from {day} --to {day}",
        at=after(minute),
    )


def run(*evaluations: Evaluation, number: int = 1, minute: float = 0, **given: Any) -> FinishedRun:
    """Return a run of the dataset linear_60 that ended; a successful one of all four assets unless it is said."""
    names = ("raw_batches", "candles", "candles_postgres", "candles_parquet")
    values: dict[str, Any] = {
        "run_id": f"run-{number}",
        "status": "success",
        "at": after(minute),
        "subject": "linear/60",
        "assets": tuple(f"linear/60/{name}" for name in names),
        "evaluations": evaluations,
    }
    values |= given
    keys = values.get("partitions", "").split("...")
    values.setdefault("symbols", tuple(dict.fromkeys(key.partition("|")[2] for key in keys)))
    if values["status"] != "success":
        values.setdefault("left", tuple(keys))
    return FinishedRun(**values)
