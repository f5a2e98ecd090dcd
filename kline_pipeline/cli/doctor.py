"""`kline-pipeline doctor`: what works here, what does not, and what to do; the checks are in checkup."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.cli.checkup.finding import Finding


def doctor(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")] = False,
) -> None:
    """Check settings, disk, database, Dagster, exchange, stores and alerts; exit code 1 if something does not work.

    Nothing is changed: no table is made, no server started; an object store is tried with a file that is deleted again.
    The exchange is asked for its time and about the key. What hangs is left after 20 seconds.

    Example: kline-pipeline doctor
    """
    findings = _findings(simulated=bool(ctx.obj))
    healthy = all(finding.verdict != "FAIL" for finding in findings)
    if as_json:
        checks = [{"check": one.check, "verdict": one.verdict, "seen": one.seen} for one in findings]
        typer.echo(json.dumps({"healthy": healthy, "checks": checks}))
    else:
        for one in findings:
            typer.echo(f"{one.verdict:<4}  {one.check:<14}  {one.seen}")
    raise typer.Exit(0 if healthy else 1)


def _findings(*, simulated: bool) -> "list[Finding]":
    from kline_pipeline.cli.checkup.examination import examine, without_settings
    from kline_pipeline.cli.session import started_as
    from kline_pipeline.errors import KlineError

    try:
        with started_as(simulated=simulated) as settings:
            return examine(settings)
    except KlineError as exc:  # before there were settings: a check does not raise it
        return without_settings(exc)
