"""What the budget promises in a file and in the database alike, then what only the database's form can do."""

import logging
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.ratelimit import Budget, Standing
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.database.migrate import alembic_config
from kline_pipeline.database.rate_budget import DatabaseBudget
from kline_pipeline.errors import Banned, DatabaseUnavailable, RateLimited
from kline_pipeline.market.window import iso
from kline_pipeline_tests.budgets import NEXT_HOUR_MS, Hand, arrivals_around_a_stall, grants_until, most_in

VENUE = "api.bybit.com"
# The times of the grants by the clock of the database, taken while the row is locked.
_RECORD_GRANTS = """
create table kline.granted (at timestamptz);
create function kline.record() returns trigger language plpgsql as
    'begin insert into kline.granted values (clock_timestamp()); return new; end';
create trigger record after update of next_at on kline.rate_budget for each row execute function kline.record();
"""
_SPENDER = """
import sys
from sqlalchemy import make_url
from kline_pipeline.database.engine import Database
from kline_pipeline.database.rate_budget import DatabaseBudget
database = Database(make_url(sys.argv[1]), None)
budget = DatabaseBudget(database, "api.bybit.com", 50)
for _ in range(int(sys.argv[2])):
    budget.acquire(60)
    print("granted", flush=True)
budget.close()
database.close()
"""

Make = Callable[..., Budget]


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def in_database(database: Database, hand: Hand) -> Iterator[Callable[..., DatabaseBudget]]:
    """Make budgets in the database, each as another process would see it."""
    made: list[DatabaseBudget] = []

    def make(rate: float, *, sleep: Callable[[float], None] = hand.sleep, seed: int = 1) -> DatabaseBudget:
        source = random.Random(seed)
        made.append(DatabaseBudget(database, VENUE, rate, clock_ms=hand, sleep=sleep, source=source))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


@pytest.fixture(params=["file", "database"])
def make(request: pytest.FixtureRequest, tmp_path: Path, hand: Hand) -> Make:
    """Make budgets that share one state, in a file or in the database."""
    if request.param == "database":
        found: Make = request.getfixturevalue("in_database")
        return found

    def in_file(rate: float, *, sleep: Callable[[float], None] = hand.sleep, seed: int = 1) -> FileBudget:
        return FileBudget(tmp_path / "budget", rate, clock_ms=hand, sleep=sleep, source=random.Random(seed))

    return in_file


@pytest.mark.parametrize("rate", [0.5, 3, 39, 40, 110])
def test_no_second_and_no_five_seconds_hold_more_than_the_rate(make: Make, hand: Hand, rate: float) -> None:
    budget = make(rate)
    granted = []
    for _ in range(min(600, int(6 * rate) + 5)):
        budget.acquire(60)
        granted.append(hand())
    assert most_in(granted, 1000) <= max(1, rate)
    assert most_in(granted, 5000) <= min(600, 5 * rate + 1)
    assert rate < 1 or len(granted) / (granted[-1] - granted[0]) * 1000 >= 0.95 * rate


@pytest.mark.parametrize("rate", [10, 50, 110])
def test_an_idle_budget_saves_nothing_up(make: Make, hand: Hand, rate: float) -> None:
    budget = make(rate)
    budget.acquire(1)
    hand.now_ms += 60_000
    granted = grants_until(budget, hand, hand() + 3000)
    assert most_in(granted, 1000) <= rate


@pytest.mark.parametrize("stall_ms", [200, 700, 1000, 5000])
def test_what_arrives_all_at_once_after_a_stall_is_within_the_limit_too(make: Make, hand: Hand, stall_ms: int) -> None:
    assert most_in(arrivals_around_a_stall(make(110), hand, stall_ms), 5000) <= 600


def test_after_a_stall_the_pace_comes_back(make: Make, hand: Hand) -> None:
    budget = make(110)
    arrivals_around_a_stall(budget, hand, 3000)
    granted = grants_until(budget, hand, hand() + 3000)
    assert len(granted) >= 0.9 * 3 * 110


@pytest.mark.parametrize("rate", [10, 50, 110])
def test_a_restart_forgets_nothing(make: Make, hand: Hand, rate: float) -> None:
    granted = []
    for _ in range(12):
        granted += grants_until(make(rate), hand, hand() + 100)
    assert most_in(granted, 1000) <= rate


def test_who_gets_no_turn_in_time_is_refused_at_once(make: Make, hand: Hand) -> None:
    make(0.5).acquire(1)
    before_ms = hand()
    with pytest.raises(RateLimited, match="BYBIT_REQUESTS_PER_SECOND"):
        make(0.5).acquire(1)
    assert hand() == before_ms


def test_a_cool_down_holds_for_everybody(make: Make, hand: Hand) -> None:
    one, other = make(50), make(50)
    other.acquire(1)
    before_ms = hand()
    one.cool_down(3, "too many visits")
    other.acquire(10)
    assert hand() - before_ms >= 3000


def test_a_cool_down_that_lasts_longer_than_the_patience_says_until_when_at_once(make: Make, hand: Hand) -> None:
    make(50).cool_down(600, "HTTP 403 'access too frequent'")
    before_ms = hand()
    with pytest.raises(Banned, match="access too frequent") as caught:
        make(50).acquire(30)
    assert hand() == before_ms
    assert caught.value.retry_after_s == pytest.approx(600, abs=0.01)
    assert iso(before_ms + 600_000) in str(caught.value)


def test_how_a_budget_stands_can_be_seen_without_a_turn(make: Make, hand: Hand) -> None:
    asked, told = make(10), make(10)
    assert told.standing() == Standing(0.0, 1.0)
    asked.slow_down("of a test")
    asked.cool_down(30, "of a test")
    hand.sleep(10)
    standing = told.standing()
    assert standing.cool_down_s == pytest.approx(20)
    assert standing.share == pytest.approx(0.5 * 2 ** (10 / 60))
    hand.sleep(600)
    assert told.standing() == Standing(0.0, 1.0)


def test_a_shorter_cool_down_does_not_end_a_longer_one(make: Make) -> None:
    make(50).cool_down(600, "banned")
    make(50).cool_down(2, "too many visits")
    with pytest.raises(Banned, match="banned"):
        make(50).acquire(30)


def test_a_cool_down_stops_who_waits_already(make: Make) -> None:
    waiting = make(0.1, sleep=lambda _: make(0.1).cool_down(600, "banned"))
    waiting.acquire(1)
    with pytest.raises(Banned):
        waiting.acquire(60)


def test_a_cool_down_is_known_while_a_thread_of_the_same_process_waits(make: Make) -> None:
    waiting: Budget = make(0.1, sleep=lambda _: waiting.cool_down(600, "banned"))
    waiting.acquire(1)
    with pytest.raises(Banned):
        waiting.acquire(60)


def test_who_waits_out_a_cool_down_warns_once(make: Make, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    budget = make(50)
    begin_ms = hand()
    # Waking early, as sleeps may, is no new cool-down.
    drowsy = make(50, sleep=lambda seconds: hand.sleep(seconds / 3))
    budget.cool_down(3, "too many visits")
    drowsy.acquire(10)
    drowsy.acquire(10)
    assert [vars(record)["until"] for record in caplog.records] == [iso(begin_ms + 3000)]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}

    budget.cool_down(3, "too many visits")
    drowsy.acquire(10)
    assert len(caplog.records) == 2


def test_a_slow_down_halves_the_pace_of_everybody(make: Make, hand: Hand) -> None:
    budget = make(100)
    full = len(grants_until(budget, hand, hand() + 2000))
    make(100).slow_down("10006")
    assert 0.45 * full < len(grants_until(budget, hand, hand() + 2000)) < 0.53 * full


def test_slow_downs_within_a_second_count_once(make: Make, hand: Hand) -> None:
    budget = make(100)
    for _ in range(5):
        budget.slow_down("10006")
        hand.now_ms += 199
    assert 45 <= len(grants_until(budget, hand, hand() + 1000)) <= 53


def test_a_slow_down_is_forgotten_smoothly(make: Make, hand: Hand) -> None:
    budget = make(100)
    budget.slow_down("10006")
    begin_ms = hand()
    after = []
    for seconds in (0, 15, 30, 45, 60):
        hand.now_ms = begin_ms + seconds * 1000
        after.append(len(grants_until(budget, hand, hand() + 1000)))
    assert after == pytest.approx([48, 57, 68, 80, 97], rel=0.06)  # whole milliseconds cost a little


def test_a_slow_down_lets_nothing_more_out_at_its_begin_or_end(make: Make, hand: Hand) -> None:
    budget = make(110)
    granted = grants_until(budget, hand, hand() + 990)
    budget.slow_down("10006")
    hand.now_ms += 20
    granted += grants_until(budget, hand, hand() + 2000)
    hand.now_ms += 55_000
    granted += grants_until(budget, hand, hand() + 6000)
    assert most_in(granted, 1000) <= 110


def test_the_third_slow_down_within_a_minute_stops_everybody_for_ten_seconds(make: Make, hand: Hand) -> None:
    budget, other = make(50), make(50)
    for _ in range(2):
        budget.slow_down("10006")
        hand.now_ms += 29_000
        other.acquire(5)
    budget.slow_down("retCode 10006 'too many visits'")
    with pytest.raises(Banned, match="too many visits") as caught:
        other.acquire(5)
    assert caught.value.retry_after_s == pytest.approx(10, abs=0.01)
    before_ms = hand()
    other.acquire(15)
    assert hand() - before_ms >= 10_000


def test_slow_downs_further_apart_stop_nobody(make: Make, hand: Hand) -> None:
    budget = make(50)
    for _ in range(6):
        budget.slow_down("10006")
        hand.now_ms += 31_000
        budget.acquire(5)


def test_a_repeated_slow_down_does_not_shorten_a_ban(make: Make, hand: Hand) -> None:
    budget = make(50)
    budget.cool_down(600, "banned")
    for _ in range(3):
        budget.slow_down("10006")
        hand.now_ms += 2_000
    with pytest.raises(Banned, match="banned"):
        budget.acquire(30)


def test_the_pace_is_never_less_than_an_eighth(make: Make, hand: Hand) -> None:
    budget = make(100)
    for _ in range(9):
        budget.slow_down("10006")
        hand.now_ms += 1_000
    budget.acquire(60)
    assert 10 <= len(grants_until(budget, hand, hand() + 1000)) <= 15
    hand.now_ms += 180_000
    assert len(grants_until(budget, hand, hand() + 1000)) >= 95


def test_nobody_sends_at_the_top_of_an_hour(make: Make, hand: Hand) -> None:
    hand.now_ms = NEXT_HOUR_MS - 400
    budget = make(50)
    granted = grants_until(budget, hand, NEXT_HOUR_MS + 9_000)
    before = [when for when in granted if when < NEXT_HOUR_MS]
    after = [when for when in granted if when >= NEXT_HOUR_MS]
    assert len(before) >= 18
    assert NEXT_HOUR_MS + 5_000 <= after[0] <= NEXT_HOUR_MS + 8_000
    assert most_in(granted, 1000) <= 50


def test_everybody_comes_back_at_an_instant_of_its_own(make: Make, hand: Hand) -> None:
    came = set()
    for seed in range(8):
        begin_ms = NEXT_HOUR_MS + seed * 3_600_000
        hand.now_ms = begin_ms
        make(50, seed=seed).acquire(20)
        came.add(hand() - begin_ms)
    assert len(came) == 8


def test_who_cannot_wait_for_the_end_of_the_first_seconds_is_told_when_that_is(make: Make, hand: Hand) -> None:
    hand.now_ms = NEXT_HOUR_MS + 1_000
    with pytest.raises(RateLimited, match="first 5 s of an hour") as caught:
        make(50).acquire(2)
    assert hand() == NEXT_HOUR_MS + 1_000
    assert caught.value.retry_after_s is not None
    assert 4 <= caught.value.retry_after_s <= 7


@pytest.mark.parametrize("reason", ["\U0001f6d1" * 10_000, "\x00\x01\n" * 10_000, "\udcff" * 300])
def test_no_reason_is_too_long_or_too_strange(make: Make, hand: Hand, reason: str) -> None:
    budget = make(50)
    budget.cool_down(600, reason)
    hand.now_ms += 1_000
    budget.slow_down(reason)
    with pytest.raises(Banned):
        make(50).acquire(1)


def test_no_second_has_more_grants_than_the_rate_though_a_process_is_killed(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(_RECORD_GRANTS))
    command = [sys.executable, "-c", _SPENDER, database.url.render_as_string(hide_password=False)]
    pipe = subprocess.PIPE
    doomed = subprocess.Popen([*command, "10000"], stdout=pipe, text=True)
    assert doomed.stdout is not None
    doomed.stdout.readline()  # it is at it
    others = [subprocess.Popen([*command, "40"], stdout=pipe, text=True) for _ in range(3)]
    assert others[0].stdout is not None
    others[0].stdout.readline()
    doomed.kill()
    doomed.communicate()
    for other in others:
        other.communicate()

    assert [other.returncode for other in others] == [0, 0, 0]
    with database.engine.connect() as connection:
        statement = text("select extract(epoch from at)::float8 from kline.granted order by at")
        granted = [round(when * 1000) for when in connection.execute(statement).scalars()]
    assert len(granted) > 120
    assert most_in(granted, 1000) <= 50


def test_the_clock_is_that_of_the_database(database: Database) -> None:
    budget = DatabaseBudget(database, VENUE, 50)
    budget.acquire(60)
    budget.slow_down("10006")
    budget.cool_down(600, "banned")
    budget.close()
    with database.engine.connect() as connection:
        row = connection.execute(
            text(
                "select next_at - now() < interval '1 s' and now() - next_at < interval '1 min' as paced, "
                "now() - slow_at < interval '1 min' as slowed, cool_down_until - now() > interval '9 min' as cooled "
                "from kline.rate_budget"
            )
        ).one()
    assert tuple(row) == (True, True, True)


def test_other_venues_have_budgets_of_their_own(
    database: Database, hand: Hand, in_database: Callable[..., DatabaseBudget]
) -> None:
    in_database(0.1).acquire(1)
    in_database(0.1).cool_down(600, "banned")
    elsewhere = DatabaseBudget(database, "127.0.0.1:8100", 0.1, clock_ms=hand, sleep=hand.sleep)
    elsewhere.acquire(1)
    elsewhere.close()


_LOSE_THE_OTHERS = text(
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where pid <> pg_backend_pid() and datname = current_database()"
)


def test_a_lost_session_stops_the_request_and_the_next_one_goes_on(
    database: Database, in_database: Callable[..., DatabaseBudget]
) -> None:
    budget = in_database(0.1)
    budget.acquire(1)
    with database.engine.connect() as connection:
        connection.execute(_LOSE_THE_OTHERS)

    with pytest.raises(DatabaseUnavailable):
        budget.acquire(1)
    with pytest.raises(RateLimited):
        budget.acquire(1)


def test_a_database_that_stops_stops_who_waits_and_whoever_comes_until_it_is_back(
    database: Database, server: Database, hand: Hand, in_database: Callable[..., DatabaseBudget]
) -> None:
    name = database.url.database
    admin = server.engine.execution_options(isolation_level="AUTOCOMMIT")

    stopped: list[float] = []

    def stop(seconds: float) -> None:
        hand.sleep(seconds)
        if stopped:
            return
        stopped.append(seconds)
        with admin.connect() as connection:
            connection.execute(text(f"alter database {name} allow_connections false"))
            connection.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"))

    waiting, other = in_database(10, sleep=stop), in_database(10)
    other.acquire(1)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="check that it runs, and KLINE_DATABASE_URL") as caught:
            waiting.acquire(60)
        assert caught.value.retryable
    assert len(stopped) == 1
    with pytest.raises(DatabaseUnavailable):
        other.acquire(60)
    with pytest.raises(DatabaseUnavailable):
        other.slow_down("10006")

    with admin.connect() as connection:
        connection.execute(text(f"alter database {name} allow_connections true"))
    other.acquire(60)
    waiting.acquire(60)


def test_a_budget_of_the_first_release_goes_on(
    settings: Settings, database: Database, hand: Hand, in_database: Callable[..., DatabaseBudget]
) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("drop schema kline cascade"))
        connection.execute(text("create schema kline"))
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "insert into kline.rate_budget (venue, next_at, cool_down_until, reason) "
                "values (:venue, to_timestamp(:now_s), to_timestamp(:now_s + 600), 'banned')"
            ),
            {"venue": VENUE, "now_s": hand() / 1000},
        )

    connect(settings).close()

    with pytest.raises(Banned, match="banned"):
        in_database(50).acquire(1)
