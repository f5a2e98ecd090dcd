"""`kline-pipeline doctor`: what works here, what does not, and what to do; the checks are in doctor_checks."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.cli.doctor_checks import Finding


def doctor(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")] = False,
) -> None:
    """Check settings, disk, database, exchange, clock and API key; exit code 1 if something does not work.

    Nothing is changed: no table is made, no server started. The exchange is asked for its time and about the key.

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
    from kline_pipeline.cli.doctor_checks import examine, without_settings
    from kline_pipeline.cli.session import started_as
    from kline_pipeline.errors import KlineError

    try:
        with started_as(simulated=simulated) as settings:
            return examine(settings)
    except KlineError as exc:  # before there were settings: a check does not raise it
        return without_settings(exc)
