"""One exchange per database, whoever comes first; the lock of a run lives and dies with its session."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from sqlalchemy import text

from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import hold_run_lock, migration_lock, partition_lock, release_run_lock
from kline_pipeline.database.venue import claim_venue
from kline_pipeline.errors import VenueMismatch
from kline_pipeline.market.series import Series


def test_a_database_belongs_to_the_first_exchange_that_writes(database: Database) -> None:
    with database.engine.begin() as connection:
        claim_venue(connection, "bybit")
        claim_venue(connection, "bybit")

    with (
        database.engine.connect() as connection,
        pytest.raises(VenueMismatch, match="holds candles of bybit") as caught,
    ):
        claim_venue(connection, "simulator seed 7")

    assert "the exchange is simulator seed 7" in str(caught.value)


def test_a_claim_that_was_rolled_back_binds_nobody(database: Database) -> None:
    with database.engine.connect() as connection:
        claim_venue(connection, "bybit")

    with database.engine.begin() as connection:
        claim_venue(connection, "bybit-testnet")


def test_of_eight_exchanges_at_once_one_gets_the_database(database: Database) -> None:
    def claim(name: str) -> bool:
        try:
            with database.engine.begin() as connection:
                claim_venue(connection, name)
        except VenueMismatch:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(claim, [f"venue {number}" for number in range(8)]))

    assert won.count(True) == 1


def test_a_run_lock_is_held_by_one_session(database: Database) -> None:
    with database.engine.connect() as first, database.engine.connect() as second:
        assert hold_run_lock(first, "run")
        assert not hold_run_lock(second, "run")
        assert hold_run_lock(second, "another run")
        release_run_lock(first, "run")
        assert hold_run_lock(second, "run")
        second.invalidate()


def test_a_run_lock_is_kept_over_commits_and_freed_by_the_death_of_its_session(database: Database) -> None:
    with database.engine.connect() as first, database.engine.connect() as second:
        pid = first.execute(text("select pg_backend_pid()")).scalar_one()
        assert hold_run_lock(first, "run")
        first.commit()
        assert not hold_run_lock(second, "run")

        second.execute(text("select pg_terminate_backend(:pid, 60000)"), {"pid": pid})

        assert hold_run_lock(second, "run")
        first.invalidate()
        second.invalidate()


def test_partitions_and_migrations_are_locked_apart_and_to_the_end_of_the_transaction(database: Database) -> None:
    held = text("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()")
    with database.engine.connect() as connection:
        for key, month in (("linear:BTCUSDT:1", 1), ("linear:BTCUSDT:1", 2), ("linear:BTCUSDT:60", 1)):
            partition_lock(connection, Series.parse(key), date(2024, month, 1))
        migration_lock(connection)
        assert connection.execute(held).scalar() == 4
        connection.rollback()
        assert connection.execute(held).scalar() == 0
