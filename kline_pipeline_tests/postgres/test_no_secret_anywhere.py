"""Nothing that commands, runs and alerts leave behind holds a secret: no output, file, Parquet foot or row of a table.

Every secret of the environment has the same word in it, which the exchange says back as well; then all is searched.
"""

import base64
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import make_url, text

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.defs.automation.alerts import alert_sensors
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.errors import AlertsNotDelivered
from kline_pipeline.simulator import accounts
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer
from kline_pipeline_tests.programs import environment, run
from kline_pipeline_tests.webhooks import Webhook, webhook

NOW_MS = 1_712_752_496_000  # 2024-04-10T12:34:56Z
WORD = "canary"
KEY, SECRET = f"{WORD}-key-value", f"{WORD}-secret-value"
SERIES, OTHER = "linear:BTCUSDT:60", "linear:ETHUSDT:60"
NOWHERE = f"postgresql://me:{WORD}@127.0.0.1:9/x"
# Plain in any case, in base64 from the first character on, and as PostgreSQL shows bytes.
TELLTALE = re.compile(f"{WORD}|{base64.b64encode(WORD.encode()).decode()}|{WORD.encode().hex()}", re.IGNORECASE)
FAULTS: list[dict[str, Any]] = [
    {"http": {"status": 503, "path": "kline", "interval": "60", "nth": 1}},
    {"reset": {"path": "kline", "interval": "60", "nth": 2}},
    {"ret_code": {"code": 10006, "message": f"Too many visits of {KEY}", "path": "kline", "interval": "60", "nth": 3}},
    {"ret_code": {"code": 10016, "message": f"signed by {SECRET}", "path": "kline", "interval": "60", "nth": 4}},
    {"drop": {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "open_time": "2024-01-10T07:00"}},
]


@dataclass(frozen=True)
class World:
    """An exchange that knows the key, a webhook that refuses all, and the environment of commands."""

    exchange: Exchange
    env: Mapping[str, str]


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    assert settings.database_url is not None
    monkeypatch.setattr(accounts, "API_KEY", KEY)
    monkeypatch.setattr(accounts, "API_SECRET", SECRET)
    exchange = Exchange(SyntheticHistory(7, now_ms=NOW_MS), clock=lambda: NOW_MS, requests_per_5s=10**9)
    with ExitStack() as stack:
        server = stack.enter_context(SimulatorServer(exchange))
        hook: Webhook = stack.enter_context(webhook())
        hook.refusals = [500] * 100
        address = hook.url.removeprefix("json://").removesuffix("/hook")
        env = environment(
            settings.home,
            KLINE_DATABASE_URL=with_password(settings, f"{WORD}/database p%ssword"),
            KLINE_ALERT_URLS=f"json://me:{WORD}-alert-login@{address}/{WORD}-path?+Authorization={WORD}%20header",
            KLINE_OPS_TOKEN=f"{WORD}-ops-token",
            KLINE_LOG_LEVEL="DEBUG",
            KLINE_LOG_FILE=str(settings.home / "logs" / "kline.log"),
            BYBIT_BASE_URL=server.url,
            BYBIT_API_KEY=KEY,
            BYBIT_API_SECRET=SECRET,
            BYBIT_CACHE_URL=f"redis://:{WORD}-cache-pass@127.0.0.1:9/0",
            BYBIT_RETRY_INITIAL_DELAY_S="0",
            BYBIT_RETRY_MAX_ATTEMPTS="8",
        )
        yield World(exchange, env)


def with_password(settings: Settings, password: str) -> str:
    """Return the URL of the database with a password, which the server of the tests does not look at."""
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value()).set(password=password)
    return url.render_as_string(hide_password=False)


def alerts_that_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the sensor of alerts tick as the daemon does, and return all that its error says."""
    for name, value in world.env.items():
        if name.startswith(("KLINE_", "BYBIT_")):
            monkeypatch.setenv(name, value)
    for name in ("KLINE_WORK_URL", "KLINE_SNAPSHOT_URL", "KLINE_DATASETS_FILE", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    settings = Settings.load()
    (sensor,) = alert_sensors(datasets.load(settings.datasets_file))
    with open_instance(settings) as instance, pytest.raises(AlertsNotDelivered) as failure:
        sensor(dg.build_sensor_context(instance=instance))
    return "".join(traceback.format_exception(failure.value))


def in_files(folder: Path) -> list[str]:
    """Return the files below a folder that tell a secret, by their name or content."""
    return [
        str(path)
        for path in folder.rglob("*")
        if TELLTALE.search(path.name) or (path.is_file() and TELLTALE.search(path.read_bytes().decode("latin-1")))
    ]


def in_tables(database: Database) -> tuple[list[str], int]:
    """Return the tables of ours and of Dagster that tell a secret in any column, and how many rows were searched."""
    found, rows = [], 0
    with database.engine.connect() as connection:
        names = connection.execute(
            text(
                "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('kline', 'dagster')"
            )
        ).scalars()
        for name in names.all():
            shown = connection.execute(text(f"select one::text from {name} one")).scalars().all()
            rows += len(shown)
            found += [f"{name}: {row}" for row in shown if TELLTALE.search(row)]
    return found, rows


def test_no_secret_is_in_any_output_file_or_table(
    world: World,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    world.exchange.faults.replace(FAULTS)
    refused = {**world.env, "BYBIT_API_SECRET": f"{WORD}-of-another-key"}
    over = [SERIES, "--from", "2024-01-01", "--to", "2024-02-29"]
    done = {
        "backfill": run(world.env, "backfill", *over),
        "backfill, refused": run(refused, "backfill", OTHER, "--from", "2024-03-01", "--to", "2024-03-31"),
        "fetch": run(world.env, "fetch", *over[:3], "--to", "2024-01-05", "-o", str(tmp_path / "candles.parquet")),
        "doctor": run(world.env, "doctor"),
        "doctor, refused": run(refused, "doctor", "--json"),
        "coverage": run(world.env, "coverage", "--json"),
        "verify": run(world.env, "verify", SERIES),
        "no such database": run({**world.env, "KLINE_DATABASE_URL": NOWHERE}, "coverage"),
    }
    told = {name: one.stdout + one.stderr for name, one in done.items()}
    codes = {name: one.returncode for name, one in done.items()}
    # A candle is missing, a signature wrong, this machine's clock years off, a database gone: each is told.
    assert codes == {**dict.fromkeys(done, 1), "fetch": 0, "coverage": 0}, told
    told["alert"] = alerts_that_fail(world, monkeypatch)
    told["alert, output"] = "".join(capsys.readouterr())

    assert [name for name, output in told.items() if TELLTALE.search(output)] == []
    assert in_files(settings.home) == []
    assert in_files(tmp_path / "cache") == []
    found, rows = in_tables(database)
    assert found == []
    # What was searched is what was meant to be searched.
    assert rows > 100
    assert list(settings.home.rglob("*.parquet"))
    lines = (settings.home / "logs" / "kline.log").read_text()
    assert len(re.findall('"level":"debug"', lines)) > 10
    assert lines.count('"run_id"') > 10
    assert "***" in lines


def test_the_search_finds_what_is_there(settings: Settings, database: Database, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "plain.log").write_text(f"key={KEY.upper()}")
    (tmp_path / "x" / "coded").write_bytes(b"\0" + base64.b64encode(SECRET.encode()))
    assert len(in_files(tmp_path / "x")) == 2
    with database.engine.begin() as connection:
        connection.execute(text("create table dagster.strange (a bytea, b jsonb)"))
        connection.execute(text("insert into dagster.strange values (:a, null)"), {"a": SECRET.encode()})
        connection.execute(text("insert into dagster.strange values (null, :b)"), {"b": f'{{"a": ["{KEY}"]}}'})
    assert len(in_tables(database)[0]) == 2
