"""A check result of ours as Dagster shows it: counts, first offenders as a table, a picture, the window, the repair."""

from typing import Any

import dagster as dg

from kline_pipeline.checks.pictures import markdown
from kline_pipeline.checks.report import CheckResult
from kline_pipeline.market.window import iso


def asset_check_result(result: CheckResult) -> dg.AssetCheckResult:
    """Return the result with its severity, and everything that helps to judge and repair as metadata."""
    return dg.AssetCheckResult(
        passed=result.passed,
        severity=dg.AssetCheckSeverity[result.severity],
        description=result.sentence or None,
        metadata=_metadata(result),
    )


def _metadata(result: CheckResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {**result.counts, "offending": result.total}
    if result.offenders:
        metadata["offenders"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {"open_time": iso(one.open_time_ms) if one.open_time_ms is not None else "", "what": one.what}
                )
                for one in result.offenders
            ]
        )
    if result.window is not None:
        metadata["window"] = f"{iso(result.window.start_ms)} to {iso(result.window.end_ms)}"
    if result.picture:
        metadata["picture"] = dg.MetadataValue.md(markdown(result.picture, f"picture of {result.check}"))
    if result.repair:
        metadata["repair"] = result.repair
    return metadata
