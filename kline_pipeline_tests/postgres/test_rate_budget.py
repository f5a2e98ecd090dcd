"""The budget in the database: never too fast, shared by all, and a cool-down stops even those who wait."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import text

from kline_pipeline.database.engine import Database
from kline_pipeline.database.rate_budget import DatabaseBudget
from kline_pipeline.errors import Banned, DatabaseUnavailable, RateLimited

VENUE = "api.bybit.com"
# A grant moves next_at to one step after the clock of the database: what it moves to tells the times of the grants.
_RECORD_GRANTS = """
create table kline.granted (next_at timestamptz);
create function kline.record() returns trigger language plpgsql as
    'begin insert into kline.granted values (new.next_at); return new; end';
create trigger record after update of next_at on kline.rate_budget for each row execute function kline.record();
"""
_SPENDER = """
import sys
from sqlalchemy import make_url
from kline_pipeline.database.engine import Database
from kline_pipeline.database.rate_budget import DatabaseBudget
database = Database(make_url(sys.argv[1]), None)
budget = DatabaseBudget(database, "api.bybit.com", 50)
sys.stdin.read()
for _ in range(40):
    budget.acquire(60)
budget.close()
database.close()
"""


@pytest.fixture
def budget(database: Database) -> Iterator[DatabaseBudget]:
    """A budget of one request in ten seconds: its second request never comes in a test."""
    made = DatabaseBudget(database, VENUE, 0.1)
    yield made
    made.close()


@pytest.fixture
def other(database: Database) -> Iterator[DatabaseBudget]:
    """The same budget as another process would see it."""
    made = DatabaseBudget(database, VENUE, 0.1)
    yield made
    made.close()


def test_all_processes_together_are_never_faster_than_the_rate(database: Database) -> None:
    budgets = [DatabaseBudget(database, VENUE, 100) for _ in range(3)]

    def grants(budget: DatabaseBudget) -> list[float]:
        times = []
        for _ in range(15):
            budget.acquire(60)
            times.append(time.monotonic())
        return times

    with ThreadPoolExecutor(6) as pool:
        times = sorted(when for found in pool.map(grants, budgets * 2) for when in found)
    for budget in budgets:
        budget.close()

    assert len(times) == 90
    assert times[-1] - times[0] >= 88 / 100


def test_no_sliding_second_of_four_processes_has_more_grants_than_the_rate(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(_RECORD_GRANTS))
    url = database.url.render_as_string(hide_password=False)
    programs = [
        subprocess.Popen([sys.executable, "-c", _SPENDER, url], stdin=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for program in programs:
        assert program.stdin is not None
        program.stdin.close()  # off they go
    assert [program.wait(120) for program in programs] == [0] * 4

    with database.engine.connect() as connection:
        grants = list(connection.execute(text("select next_at from kline.granted order by next_at")).scalars())
    assert len(grants) == 4 * 40
    # Every two are a fiftieth apart, so any 51 span a second.
    assert min(later - earlier for earlier, later in pairwise(grants)) >= timedelta(seconds=1) / 50


def test_who_gets_no_turn_in_time_is_refused_at_once(budget: DatabaseBudget, other: DatabaseBudget) -> None:
    budget.acquire(1)

    with pytest.raises(RateLimited, match="no turn"):
        other.acquire(1)


def test_other_venues_have_budgets_of_their_own(database: Database, budget: DatabaseBudget) -> None:
    budget.acquire(1)

    elsewhere = DatabaseBudget(database, "127.0.0.1:8100", 0.1)
    elsewhere.acquire(1)
    elsewhere.close()


def test_a_cool_down_holds_for_everybody_and_says_why(budget: DatabaseBudget, other: DatabaseBudget) -> None:
    budget.cool_down(600, "HTTP 403 access too frequent")

    with pytest.raises(Banned, match="access too frequent") as caught:
        other.acquire(1)

    assert caught.value.retry_after_s is not None
    assert 590 < caught.value.retry_after_s <= 600


def test_a_shorter_cool_down_does_not_end_a_longer_one(budget: DatabaseBudget, other: DatabaseBudget) -> None:
    budget.cool_down(600, "banned")
    other.cool_down(1, "too many")

    with pytest.raises(Banned, match="banned"):
        other.acquire(30)


def test_a_cool_down_stops_who_waits_already(database: Database, other: DatabaseBudget) -> None:
    waiting = DatabaseBudget(database, VENUE, 0.1, sleep=lambda _: other.cool_down(600, "banned"))
    waiting.acquire(1)

    with pytest.raises(Banned):
        waiting.acquire(60)

    waiting.close()


def test_a_cool_down_is_known_while_a_thread_of_the_same_process_waits(database: Database) -> None:
    waiting = DatabaseBudget(database, VENUE, 0.1, sleep=lambda _: waiting.cool_down(600, "banned"))
    waiting.acquire(1)

    with pytest.raises(Banned):
        waiting.acquire(60)

    waiting.close()


def test_a_lost_database_stops_requests_and_the_next_session_goes_on(
    database: Database, budget: DatabaseBudget, other: DatabaseBudget
) -> None:
    budget.acquire(1)
    others = text(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where pid <> pg_backend_pid() and datname = current_database()"
    )
    with database.engine.connect() as connection:
        connection.execute(others)

    with pytest.raises(DatabaseUnavailable):
        budget.acquire(1)
    with pytest.raises(RateLimited):
        budget.acquire(1)
