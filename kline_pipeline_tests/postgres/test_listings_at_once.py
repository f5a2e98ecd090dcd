"""Two processes that probe one instrument at the same time both write what they found."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from kline_pipeline.bybit.lives import probe_lives
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.evidence import listings
from kline_pipeline_tests.worlds import world


def test_two_probes_of_one_instrument_at_once_both_succeed(settings: Settings, database: Database) -> None:
    with world(settings, database) as one:
        found = probe_lives(one.client, "linear", "BTCUSDT", grace_ms=10_000)
    together = Barrier(2)

    def write(_: int) -> int:
        with database.engine.begin() as connection:
            together.wait(30)
            return listings.write(connection, found).first_ms

    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(write, range(2))
        assert first == second
