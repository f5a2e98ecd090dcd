"""`kline-pipeline deploy`: the files for Docker, Kubernetes and systemd; what they are is in the package deploy."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kline_pipeline.deploy.release import Release

app = typer.Typer(no_args_is_help=True, help="Files to run it with Docker Compose, Kubernetes or systemd.")


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for the files; it is made where it is not there.")
    ],
) -> None:
    """Write Dockerfile, compose.yaml, Kubernetes and systemd files, Prometheus rules, dashboards and runbook into DIR.

    Nothing is overwritten: files that are there must be equal, and passwords in DIR/.env stay as they are.

    Example: kline-pipeline deploy init deployment
    """
    from kline_pipeline.deploy.release import installed
    from kline_pipeline.deploy.writing import PRIVATE, contents, write

    release = installed()
    written = write(folder, contents(release))
    for name in written.new:
        typer.echo(f"written  {folder / name}")
    for name in written.kept:
        typer.echo(f"kept     {folder / name}")
    if PRIVATE in written.new:
        typer.echo(f"\n{folder / PRIVATE} holds passwords made for this deployment; nobody else can read it.")
    _tell(
        "Then, and where no index has this release, fill wheels/, from which it is installed:", _first(folder, release)
    )
    _tell(
        "For Docker (kubernetes/values.yaml and systemd/kline-pipeline.service begin with their own commands):",
        ["docker compose up -d --build --wait", "docker compose exec code kline-pipeline doctor"],
    )


def _first(folder: Path, release: "Release") -> list[str]:
    inside = f"cd {shlex.quote(str(folder))}"
    if release.source is None:
        return [inside]
    source = shlex.quote(str(release.source))
    return [
        inside,
        f"cp {source} wheels/" if release.source.is_file() else f"pip wheel --no-deps --wheel-dir wheels {source}",
    ]


def _tell(sentence: str, commands: list[str]) -> None:
    typer.echo("\n".join(["", sentence, *(f"  {command}" for command in commands)]))
