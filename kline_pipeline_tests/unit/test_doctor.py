"""`kline-pipeline doctor` against a simulator on a real port: each check good and bad, none in the way of another."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kline_pipeline import cli
from kline_pipeline.bybit.auth import KeyInfo
from kline_pipeline.cli.checkup.examination import CHECKS, examine
from kline_pipeline.cli.checkup.exchange import key_seen
from kline_pipeline.cli.checkup.finding import Finding
from kline_pipeline.cli.checkup.finding import found as look_within
from kline_pipeline.cli.checkup.machine import room_seen
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.files import Folder
from kline_pipeline.opening import budget_of
from kline_pipeline.simulator.control import change_faults
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory
from kline_pipeline.simulator.server import SimulatorServer

KEY, SECRET = "test_api_key", "test_secret"


@dataclass
class World:
    """An exchange whose clock may be off, and the URL under which it answers."""

    exchange: Exchange
    url: str
    ahead_ms: int = 0


@pytest.fixture
def world() -> Iterator[World]:
    now_ms = time.time_ns() // 1_000_000
    exchange = Exchange(SyntheticHistory(7, now_ms=now_ms), clock=lambda: time.time_ns() // 1_000_000 + made.ahead_ms)
    with SimulatorServer(exchange) as server:
        made = World(exchange, server.url)
        yield made


@pytest.fixture
def home(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The KLINE_HOME of the commands of a test; its embedded server was never started."""
    monkeypatch.setenv("KLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BYBIT_BASE_URL", world.url)
    monkeypatch.setenv("BYBIT_RETRY_INITIAL_DELAY_S", "0")
    # Set here, so that what a command exports is undone after the test.
    for name in ("KLINE_WORK_URL", "KLINE_SNAPSHOT_URL", "KLINE_DATASETS_FILE", "KLINE_DATABASE_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delenv("KLINE_REALDATA", raising=False)
    return tmp_path / "home"


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command; return its exit code and per check the verdict and the sentence."""
    capsys.readouterr()
    code = cli.run(["doctor", "--json"])
    output = capsys.readouterr()
    assert KEY not in output.out + output.err
    assert SECRET not in output.out + output.err
    report: dict[str, Any] = json.loads(output.out)
    found = {one["check"]: (one["verdict"], one["seen"]) for one in report["checks"]}
    assert tuple(found) == CHECKS
    assert report["healthy"] == (code == 0) == all(verdict != "FAIL" for verdict, _ in found.values())
    return code, found


def with_key(monkeypatch: pytest.MonkeyPatch, key: str = KEY, secret: str = SECRET) -> None:
    monkeypatch.setenv("BYBIT_API_KEY", key)
    monkeypatch.setenv("BYBIT_API_SECRET", secret)


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--help"]) == 0
    assert "Example: kline-pipeline doctor" in " ".join(capsys.readouterr().out.split())


def test_a_healthy_machine_is_all_good_lines_and_nothing_is_made(
    home: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(CHECKS)
    told = dict(zip(CHECKS, lines, strict=True))
    assert str(home) in told["settings"]
    assert world.url in told["settings"]
    assert "simulated-seed-7" in told["exchange"]
    assert "not made yet" in told["database"]
    assert not home.exists()


def test_settings_that_cannot_work_are_told_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BYBIT_TIMEOUT_S", "soon")
    code, found = doctor(capsys)
    assert code == 1
    assert found["settings"][0] == "FAIL"
    assert "BYBIT_TIMEOUT_S" in found["settings"][1]
    assert {verdict for check, (verdict, _) in found.items() if check not in {"settings", "variables"}} == {"warn"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BYBIT_BASE_URL", "http://["), ("BYBIT_BASE_URL", "http://u:test_secret@"), ("BYBIT_API_KEY", "test_api_key\n")],
)
def test_a_url_or_key_that_is_none_is_told_and_the_machine_is_looked_at_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    with_key(monkeypatch)
    monkeypatch.setenv(variable, value)
    _, found = doctor(capsys)
    assert found["settings"][0] == "FAIL"
    assert variable in found["settings"][1]
    assert (found["disk"][0], found["database"][0], found["exchange"][0]) == ("ok", "ok", "warn")


@pytest.mark.parametrize("value", ["linear:BTCUSDT:7", "a b", " ".join(f"linear:S{n}USDT:1" for n in range(11))])
def test_series_that_cannot_be_probed_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("KLINE_PROBE_SERIES", value)
    _, found = doctor(capsys)
    assert found["settings"][0] == "FAIL"
    assert "KLINE_PROBE_SERIES" in found["settings"][1]


def test_an_exchange_that_does_not_answer_fails_and_is_not_asked_about_the_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BYBIT_BASE_URL", "http://127.0.0.1:9")
    with_key(monkeypatch)
    code, found = doctor(capsys)
    assert code == 1
    assert found["exchange"][0] == "FAIL"
    assert "check BYBIT_BASE_URL" in found["exchange"][1]
    assert found["clock"] == found["API key"] == ("warn", "not asked: the exchange gave no usable answer")
    assert found["disk"][0] == "ok"


def test_a_cool_down_is_told_with_its_end_and_nothing_is_sent(
    home: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = budget_of(Settings.load(), None)
    budget.cool_down(600, "of a test")
    code, found = doctor(capsys)
    assert code == 1
    assert found["request budget"][0] == "FAIL"
    assert "no request is sent before 20" in found["request budget"][1]
    assert found["exchange"] == ("warn", "not asked: a cool-down is in force")
    assert world.exchange.stats.snapshot()["requests"] == {}


def test_a_ban_met_on_the_way_is_told_and_begins_the_cool_down(
    home: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    change_faults(world.exchange, json.dumps([{"ban": {"seconds": 600}}]).encode())
    assert "access too frequent" in doctor(capsys)[1]["exchange"][1].lower()
    assert doctor(capsys)[1]["request budget"][0] == "FAIL"


@pytest.mark.parametrize(
    ("ahead_ms", "key", "verdict", "side"),
    [
        (0, KEY, "ok", ""),
        (30_000, "", "warn", "behind"),
        (-30_000, "", "warn", "ahead of"),
        (4_000, KEY, "warn", "behind"),
        (-30_000, KEY, "FAIL", "ahead of"),
    ],
)
def test_a_clock_that_is_off_fails_only_where_requests_are_signed(
    home: Path,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ahead_ms: int,
    key: str,
    verdict: str,
    side: str,
) -> None:
    world.ahead_ms = ahead_ms
    if key:
        with_key(monkeypatch, key)
    _, found = doctor(capsys)
    assert found["clock"][0] == verdict
    assert side in found["clock"][1]
    assert found["API key"][0] == "ok"


@pytest.mark.parametrize(
    ("key", "secret", "verdict", "words"),
    [
        (KEY, SECRET, "ok", "may only read"),
        ("unknown_key", SECRET, "FAIL", "BYBIT_API_KEY"),
        (KEY, "another_secret", "FAIL", "BYBIT_API_SECRET"),
        ("expired_api_key", SECRET, "FAIL", "make a new key"),
        ("forbidden_api_key", SECRET, "FAIL", "the right to read"),
    ],
)
def test_a_key_works_or_is_refused_with_what_to_do(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
    secret: str,
    verdict: str,
    words: str,
) -> None:
    with_key(monkeypatch, key, secret)
    _, found = doctor(capsys)
    assert found["API key"][0] == verdict
    assert words in found["API key"][1]
    assert key not in found["API key"][1]
    assert found["exchange"][0] == "ok"


def test_a_database_of_ours_is_told_with_its_revision_and_one_without_tables_is_left_without(
    home: Path,
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("KLINE_DATABASE_URL", settings.database_url.get_secret_value())
    code, found = doctor(capsys)
    assert (code, found["database"][0]) == (0, "ok")
    assert "shared by all who use the database" in found["request budget"][1]
    with database.engine.begin() as connection:
        connection.execute(text("drop schema kline cascade"))
    code, found = doctor(capsys)
    assert (code, found["database"][0]) == (0, "warn")
    assert "kline-pipeline db upgrade" in found["database"][1]
    # Nobody may ask the exchange while the budget that all share is out of reach: a ban may be in it.
    assert found["request budget"][0] == found["exchange"][0] == "warn"
    with database.engine.begin() as connection:
        assert connection.execute(text("select count(*) from pg_namespace where nspname = 'kline'")).scalar() == 0


def test_a_database_that_does_not_answer_fails_without_its_password_and_stops_no_other_check(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KLINE_DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:1/x")
    code, found = doctor(capsys)
    assert (code, found["database"][0], found["exchange"][0], found["disk"][0]) == (1, "FAIL", "warn", "ok")


def test_a_running_embedded_server_is_looked_at_and_left_running(
    world: World, server: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (home,) = {path.resolve() for path in tmp_path_factory.getbasetemp().glob("server*")}
    found = look(world, home)
    assert found["database"].verdict == "ok"
    assert "answers, its tables are at revision" in found["database"].seen
    with server.engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1


def test_a_home_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = look(world, tmp_path / "file" / "home")
    assert found["disk"].verdict == "FAIL"
    assert "set another KLINE_HOME" in found["disk"].seen
    assert found["exchange"].verdict == "ok"


def test_a_base_url_is_told_without_its_password(world: World, tmp_path: Path) -> None:
    found = look(world, tmp_path, base_url=world.url.replace("://", f"://me:{SECRET}@"))
    assert not [one for one in found.values() if SECRET in one.seen or "me:" in one.seen]
    assert found["exchange"].verdict == "ok"


@pytest.mark.parametrize(
    ("read_only", "days_left", "verdict", "words"),
    [
        (True, 30, "ok", "may only read"),
        (True, None, "ok", "may only read"),
        (False, 30, "warn", "Wallet: Withdraw"),
        (True, 3, "warn", "make a new one"),
    ],
)
def test_a_key_that_may_do_too_much_or_ends_soon_is_a_warning(
    read_only: bool, days_left: int | None, verdict: str, words: str
) -> None:
    now = datetime(2024, 4, 10, tzinfo=UTC)
    expires_at = None if days_left is None else now + timedelta(days=days_left)
    info = KeyInfo(read_only, ("Wallet: Withdraw",), ("10.0.0.1",), expires_at)
    found, seen = key_seen(info, int(now.timestamp() * 1000))
    assert found == verdict
    assert words in seen
    assert "10.0.0.1" in seen


@pytest.mark.parametrize(("free_gb", "verdict"), [(0.5, "FAIL"), (5, "warn"), (50, "ok")])
def test_little_room_is_a_warning_and_too_little_a_failure(free_gb: float, verdict: str, tmp_path: Path) -> None:
    assert room_seen(int(free_gb * 10**9), tmp_path)[0] == verdict


def look(world: World, home: Path, **bybit: Any) -> dict[str, Finding]:
    options = BybitSettings.model_validate({"base_url": world.url, "retry_initial_delay_s": 0} | bybit)
    return {one.check: one for one in examine(Settings(options, KlineSettings(home=home)))}


@pytest.mark.parametrize(
    ("urls", "verdict", "words"),
    [
        ("", "ok", "KLINE_ALERT_URLS is not set"),
        ("json://u:test_secret@127.0.0.1:9/test_api_key log://", "ok", "json://127.0.0.1:9/..., log://"),
        ("log:// test_secret", "FAIL", "URL 2 begins with no scheme and is none that apprise can use"),
        ("tgram://test_secret", "FAIL", "URL 1 begins with tgram:// and is none"),
    ],
)
def test_where_alerts_go_is_told_without_secrets_and_a_url_that_is_none_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], urls: str, verdict: str, words: str
) -> None:
    monkeypatch.setenv("KLINE_ALERT_URLS", urls)
    _, found = doctor(capsys)  # which looks for the secrets in all that was written
    assert found["alerts"][0] == verdict
    assert words in found["alerts"][1]


def test_a_look_that_hangs_is_left_and_told() -> None:
    free = threading.Event()
    finding = look_within("disk", lambda: ("ok", str(free.wait())), limit_s=0.01)
    free.set()
    assert finding.verdict == "FAIL"
    assert "hangs" in finding.seen


def test_a_look_that_crashes_is_a_finding_too() -> None:
    finding = look_within("disk", lambda: ("ok", str(1 // 0)))
    assert finding.verdict == "FAIL"
    assert "ZeroDivisionError" in finding.seen


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BYBIT_TIMEOUT", "BYBIT_TIMEOUT (is BYBIT_TIMEOUT_S meant?)"),
        ("KLINE_DATABSE_URL", "KLINE_DATABSE_URL (is KLINE_DATABASE_URL meant?)"),
        ("KLINE_CACHE_URL", "KLINE_CACHE_URL (is BYBIT_CACHE_URL meant?)"),
        ("KLINE_QQQQ", "nobody reads KLINE_QQQQ; unset it"),
    ],
)
def test_a_variable_that_nobody_reads_is_told_with_the_nearest_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    monkeypatch.setenv(name, SECRET)
    _, found = doctor(capsys)  # which looks for the value in all that was written
    assert found["variables"][0] == "warn"
    assert words in found["variables"][1]


def test_a_variable_of_a_dotenv_file_is_looked_at_as_well(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("BYBIT_CONCURENCY=4\nANOTHER=1\nBYBIT_TIMEOUT_S=9\n")
    _, found = doctor(capsys)
    assert found["variables"] == (
        "warn",
        "nobody reads BYBIT_CONCURENCY (is BYBIT_CONCURRENCY meant?); unset it, or write it as in .env.example",
    )


@pytest.mark.parametrize(
    ("content", "verdict", "words"),
    [
        ('[[dataset]]\ncategory = "linear"\ninterval = "1"\nsymbols = ["BTCUSDT"]\n', "ok", "declares linear_1"),
        ("", "warn", "declares none"),
        ("[[dataset", "FAIL", "is not TOML"),
        ('[[dataset]]\ncategory = "future"\ninterval = "1"\nsymbols = []\n', "FAIL", "dataset 1"),
        (
            '[[dataset]]\ncategory = "linear"\ninterval = "1"\ngrain = "day"\nsymbols = ["A1", "A2", "A3", "A4"]\n',
            "warn",
            'grain = "month" would fit',
        ),
    ],
)
def test_datasets_are_read_and_too_many_cells_are_a_warning(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
    verdict: str,
    words: str,
) -> None:
    (tmp_path / "datasets.toml").write_text(content)
    monkeypatch.setenv("KLINE_DATASETS_FILE", str(tmp_path / "datasets.toml"))
    _, found = doctor(capsys)
    assert found["datasets"][0] == verdict
    assert words in found["datasets"][1]


def test_a_daemon_that_never_ran_or_is_silent_is_told_with_the_runs_that_wait(
    world: World, settings: Settings, database: Database
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    assert "no daemon runs" in dagster_line(world, settings, url).seen
    now_s = time.time()
    heartbeat = (
        "insert into dagster.daemon_heartbeats (daemon_type, timestamp, body) values "
        "('SENSOR', now(), :body) on conflict (daemon_type) do update set body = excluded.body"
    )
    for age_s, verdict, words in ((3, "ok", "showed its life"), (900, "warn", "no daemon runs")):
        body = {"__class__": "DaemonHeartbeat", "timestamp": now_s - age_s, "daemon_type": "SENSOR", "daemon_id": "1"}
        with database.engine.begin() as connection:
            connection.execute(text(heartbeat), {"body": json.dumps(body | {"errors": []})})
        found = dagster_line(world, settings, url)
        assert found.verdict == verdict
        assert words in found.seen


def test_tables_of_another_dagster_fail_and_none_are_a_warning(
    world: World, settings: Settings, database: Database
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with database.engine.begin() as connection:
        connection.execute(text("update dagster.alembic_version set version_num = 'of_another'"))
    found = dagster_line(world, settings, url)
    assert found.verdict == "FAIL"
    assert "dagster instance migrate" in found.seen
    with database.engine.begin() as connection:
        connection.execute(text("drop schema dagster cascade"))
    found = dagster_line(world, settings, url)
    assert found.verdict == "warn"
    assert "no tables in the database yet" in found.seen
    with database.engine.begin() as connection:
        assert connection.execute(text("select count(*) from pg_namespace where nspname = 'dagster'")).scalar() == 0


def dagster_line(world: World, settings: Settings, url: str) -> Finding:
    options = BybitSettings.model_validate({"base_url": world.url, "retry_initial_delay_s": 0})
    kline = KlineSettings.model_validate({"home": settings.home, "database_url": url})
    return {one.check: one for one in examine(Settings(options, kline))}["Dagster"]


def test_a_database_of_a_newer_release_fails(world: World, settings: Settings, database: Database) -> None:
    assert settings.database_url is not None
    with database.engine.begin() as connection:
        connection.execute(text("update kline.kline_alembic_version set version_num = '9999'"))
    options = BybitSettings.model_validate({"base_url": world.url})
    found = {
        one.check: one
        for one in examine(
            Settings(
                options,
                KlineSettings.model_validate(
                    {"home": settings.home, "database_url": settings.database_url.get_secret_value()}
                ),
            )
        )
    }
    assert found["database"].verdict == "FAIL"
    assert "install the release that upgraded it" in found["database"].seen


@pytest.mark.parametrize(
    ("variable", "check", "value", "verdict", "words"),
    [
        ("KLINE_SNAPSHOT_URL", "snapshots", "memory://of-doctor", "ok", "can be written"),
        ("KLINE_WORK_URL", "work", "nonsense://bucket", "FAIL", "fsspec URL whose package is installed"),
        ("KLINE_WORK_URL", "work", "/dev/null/work", "FAIL", "set another KLINE_WORK_URL"),
        ("BYBIT_CACHE_URL", "cache", "none", "ok", "there is none"),
        ("BYBIT_CACHE_URL", "cache", "file:/dev/null/cache", "FAIL", "set another BYBIT_CACHE_URL"),
        ("BYBIT_CACHE_URL", "cache", "redis://:test_secret@127.0.0.1:1/0", "FAIL", "start that Redis"),
    ],
)
def test_folders_stores_and_cache_are_tried(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    check: str,
    value: str,
    verdict: str,
    words: str,
) -> None:
    monkeypatch.setenv(variable, value)
    _, found = doctor(capsys)
    assert found[check][0] == verdict
    assert words in found[check][1]
    assert Folder("memory://of-doctor").names("") == []


def test_stores_of_another_exchange_are_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "work").mkdir(parents=True)
    (home / "snapshots").mkdir()
    (home / "work" / "venue").write_text("simulated-seed-7\n")
    (home / "snapshots" / "venue").write_text("bybit\n")
    code, found = doctor(capsys)
    assert code == 1
    assert found["venue"][0] == "FAIL"
    assert "snapshots holds candles of bybit; the exchange is simulated-seed-7" in found["venue"][1]
    (home / "snapshots" / "venue").write_text("simulated-seed-7\n")
    assert doctor(capsys)[1]["venue"] == ("ok", "all candles are those of simulated-seed-7: the work folder, snapshots")
