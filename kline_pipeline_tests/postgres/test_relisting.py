"""A symbol that is listed again is fetched again, however lately its listing was probed."""

from datetime import date

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.market.interval import Interval
from kline_pipeline_tests.worlds import ms, world

SHIB = Dataset("spot", Interval("60"), date(2021, 7, 1), "month", ("SHIBUSDT",))


def test_what_was_between_two_listings_last_week_is_listed_now(settings: Settings, database: Database) -> None:
    with world(settings, database, now="2021-12-05 12:00:00") as one:
        one.run(SHIB, ("2021-11-01", "SHIBUSDT"), ("2021-12-01", "SHIBUSDT"))
        assert one.table("spot:SHIBUSDT:60")[-1][0] == ms("2021-11-29 06:00")
        one.clock.now_ms = ms("2021-12-10 12:00:00")
        one.run(SHIB, ("2021-12-01", "SHIBUSDT"))
        december = [row[0] for row in one.table("spot:SHIBUSDT:60") if row[0] >= ms("2021-12-01")]
        assert december == list(range(ms("2021-12-07"), ms("2021-12-10 11:00"), 3_600_000))
        probes = one.pages("M")
        one.run(SHIB, ("2021-12-01", "SHIBUSDT"))
        assert one.pages("M") == probes
