"""`kline-pipeline db`: the tables' revision, a prompt, and the embedded server; migrations are in database/."""

import typer

app = typer.Typer(no_args_is_help=True, help="Migrations, a prompt, and the embedded server.")


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Create our tables or bring them to the newest revision; nothing happens where they are.

    Example: kline-pipeline db upgrade
    """
    from kline_pipeline.cli.session import started
    from kline_pipeline.database.engine import connect
    from kline_pipeline.database.migrate import head

    with started(ctx) as settings, connect(settings) as database:
        typer.echo(f"{database.where} is at revision {head()}")


@app.command()
def current(ctx: typer.Context) -> None:
    """Say the revision of the tables and the newest of this release; nothing is changed.

    Example: kline-pipeline db current
    """
    from kline_pipeline.cli.session import started
    from kline_pipeline.database import migrate
    from kline_pipeline.database.engine import connect

    with started(ctx) as settings, connect(settings, migrate=False) as database:
        with database.translate_errors(), database.engine.connect() as connection:
            revision = migrate.current(connection)
        typer.echo(f"{database.where}: revision {revision or 'none'}, newest {migrate.head()}")


@app.command()
def shell(ctx: typer.Context) -> None:
    """Open psql on the database; the candles are in the view kline.klines.

    Example: kline-pipeline db shell
    """
    import os
    import signal
    import subprocess

    from kline_pipeline.cli.session import started
    from kline_pipeline.database.binaries import psql_program
    from kline_pipeline.database.engine import connect

    with started(ctx) as settings, connect(settings) as database:
        password = database.url.password or ""
        # Arguments are seen by everybody on the machine, the environment of a child is not.
        os.environ.update(PGPASSWORD=password, PGOPTIONS="-c timezone=UTC -c search_path=kline,public")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C cancels a query, not the prompt
        try:
            code = subprocess.run([psql_program(), database.psql_url], check=False).returncode  # noqa: S603 - psql
        finally:
            signal.signal(signal.SIGINT, before)
    raise typer.Exit(code)


@app.command()
def stop(ctx: typer.Context) -> None:
    """Stop the embedded server of KLINE_HOME, unless another command uses it.

    Example: kline-pipeline db stop
    """
    from kline_pipeline.config import Settings
    from kline_pipeline.database.embedded import EmbeddedServer
    from kline_pipeline.errors import StorageError, UsageError

    settings = Settings.load(simulated=bool(ctx.obj))
    if settings.database_url is not None:
        raise UsageError("KLINE_DATABASE_URL is set: that server is not ours to stop")
    server = EmbeddedServer(settings.home)
    if not server.stop():
        processes = ", ".join(str(pid) for pid in server.users()) or "of another command"
        raise StorageError(f"the {server.describe()} is in use by the processes {processes}; end them first")
    typer.echo(f"the {server.describe()} is stopped")
