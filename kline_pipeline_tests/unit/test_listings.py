"""Which part of a grid a listing has: every candle that overlaps a life, once."""

from kline_pipeline.market.interval import Interval
from kline_pipeline.market.listing import Listing
from kline_pipeline.market.window import Window
from kline_pipeline_tests.batches import at

DAY = Window(at(0), at(1440))


def test_a_candle_that_a_life_begins_or_ends_in_belongs_to_the_grid() -> None:
    listing = Listing((Window(at(70), at(130)),), probed_at_ms=0)

    assert listing.windows(Interval("60"), DAY) == [Window(at(60), at(180))]
    assert listing.windows(Interval("1"), DAY) == [Window(at(70), at(130))]


def test_a_hole_shorter_than_a_candle_leaves_one_window() -> None:
    listing = Listing((Window(at(0), at(70)), Window(at(90), at(600))), probed_at_ms=0)

    assert listing.windows(Interval("60"), DAY) == [Window(at(0), at(600))]
    assert listing.windows(Interval("1"), DAY) == [Window(at(0), at(70)), Window(at(90), at(600))]


def test_outside_every_life_there_is_nothing() -> None:
    listing = Listing((Window(at(2000), at(3000)),), probed_at_ms=0)

    assert listing.windows(Interval("1"), DAY) == []
    assert listing.first_ms == at(2000)
