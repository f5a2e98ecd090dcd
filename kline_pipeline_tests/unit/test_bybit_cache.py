"""The cache of pages: what it promises, the same for every store."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from kline_pipeline.bybit.cache.entries import page_name
from kline_pipeline.bybit.cache.page_cache import PageCache, open_cache
from kline_pipeline.bybit.cache.stores import Store
from kline_pipeline.bybit.cache.upkeep import open_store
from kline_pipeline.bybit.pages import Page
from kline_pipeline.errors import ConfigError, VenueMismatch
from kline_pipeline.market.schema import CANDLE_SCHEMA
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.exchanges import NOW_MS, simulated
from kline_pipeline_tests.redis.redis_server import RedisServer, redis_server

MINUTE = Series.parse("linear:BTCUSDT:1")
HOUR = Series.parse("linear:BTCUSDT:60")
OTHER = Series.parse("spot:ETHUSDT:1")
START_MS = 1_712_534_400_000  # 2024-04-08
WINDOW = Window(START_MS, START_MS + 3 * 60_000)
DAY_MS = 86_400_000
VENUE = "simulated-seed-7"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Place:
    """Where the caches of a test are, and its clock."""

    url: str
    clock: Clock

    def cache(self, *, venue: str = VENUE, ttl_days: float = 7, max_mb: float = 100) -> PageCache:
        cache = open_cache(self.url, venue=venue, ttl_days=ttl_days, max_mb=max_mb, clock_ms=self.clock)
        assert cache is not None
        return cache

    def store(self) -> Store:
        return open_store(self.url, ttl_days=7, clock_ms=self.clock)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["file", pytest.param("redis", marks=pytest.mark.redis)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return Place(f"file:{tmp_path}/pages", Clock())
    server: RedisServer = request.getfixturevalue("redis")
    server.redis.flushall()
    return Place(server.url, Clock())


def page_of(series: Series = MINUTE, window: Window = WINDOW, *, close: str = "2.50") -> Page:
    """Return a page with a duplicate, newest first, digits as an exchange writes them."""
    times = [window.start_ms + 60_000, window.start_ms, window.start_ms]
    numbers = {"open": "1.0", "high": "3.10", "low": "0.5e-7", "close": close, "volume": "0", "turnover": "00.1"}
    rows = pa.table([times, *([text] * 3 for text in numbers.values())], schema=CANDLE_SCHEMA)
    return Page(
        series=series,
        window=window,
        server_time_ms=NOW_MS - 7,
        receive_time_ms=NOW_MS - 3,
        host="api.bybit.com",
        rows=rows,
        clipped=2,
    )


def same(found: Page | None, kept: Page) -> bool:
    """Say whether a page came back exactly: rows in their order, digits, facts."""
    fields = ("series", "window", "server_time_ms", "receive_time_ms", "host", "clipped")
    return (
        found is not None
        and all(getattr(found, field) == getattr(kept, field) for field in fields)
        and bool(found.rows.equals(kept.rows))
        and bool(found.rows.schema.equals(kept.rows.schema))
    )


def test_a_page_comes_back_exactly_as_served_with_all_its_facts(place: Place) -> None:
    kept = page_of()
    with place.cache() as cache:
        cache.keep(kept)
    with place.cache() as cache:
        assert same(cache.page(MINUTE, WINDOW), kept)


def test_a_page_of_the_exchange_comes_back_exactly(place: Place) -> None:
    window = Window(START_MS, START_MS + 1000 * 60_000)
    with simulated() as (asked, _), place.cache() as cache:
        kept = asked.client.kline_page(MINUTE, window)
        cache.keep(kept)
        assert kept.rows.num_rows == 1000
        assert same(cache.page(MINUTE, window), kept)


def test_an_empty_page_is_a_page(place: Place) -> None:
    kept = page_of()
    empty = Page(
        series=MINUTE,
        window=WINDOW,
        server_time_ms=1,
        receive_time_ms=2,
        host="h",
        rows=kept.rows.slice(0, 0),
        clipped=3,
    )
    with place.cache() as cache:
        cache.keep(empty)
        assert same(cache.page(MINUTE, WINDOW), empty)


@pytest.mark.parametrize(
    ("series", "window"),
    [
        (HOUR, WINDOW),
        (Series.parse("spot:BTCUSDT:1"), WINDOW),
        (Series.parse("linear:BTCUSDT-26DEC25:1"), WINDOW),
        (MINUTE, Window(WINDOW.start_ms, WINDOW.end_ms - 60_000)),
        (MINUTE, Window(WINDOW.start_ms + 60_000, WINDOW.end_ms)),
    ],
)
def test_only_exactly_that_series_and_window_is_found(place: Place, series: Series, window: Window) -> None:
    with place.cache() as cache:
        cache.keep(page_of())
        assert cache.page(series, window) is None


def test_hits_and_misses_are_counted_and_notes_are_not(place: Place) -> None:
    with place.cache() as cache:
        cache.page(MINUTE, WINDOW)
        cache.keep(page_of())
        cache.page(MINUTE, WINDOW)
        cache.page(MINUTE, WINDOW)
        cache.note("lives/linear/BTCUSDT")
        assert (cache.hits, cache.misses) == (2, 1)


def test_a_page_is_forgotten_when_its_time_is_over_and_can_be_kept_again(place: Place) -> None:
    with place.cache(ttl_days=2) as cache:
        cache.keep(page_of(close="1"))
        place.clock.now_ms += 2 * DAY_MS - 1
        assert cache.page(MINUTE, WINDOW) is not None
        place.clock.now_ms += 1
        assert cache.page(MINUTE, WINDOW) is None
        cache.keep(page_of(close="2"))
        assert same(cache.page(MINUTE, WINDOW), page_of(close="2"))


def test_what_a_clock_far_ahead_wrote_is_not_kept_for_ever(place: Place) -> None:
    with place.cache(ttl_days=2) as cache:
        place.clock.now_ms += 1000 * DAY_MS
        cache.keep(page_of())
        place.clock.now_ms = NOW_MS
        assert cache.page(MINUTE, WINDOW) is None


def test_a_note_comes_back_and_is_forgotten_like_a_page(place: Place) -> None:
    with place.cache(ttl_days=1) as cache:
        cache.keep_note("lives/linear/BTCUSDT", b"\x00\xffanything")
        assert cache.note("lives/linear/BTCUSDT") == b"\x00\xffanything"
        assert cache.note("lives/spot/BTCUSDT") is None
        place.clock.now_ms += DAY_MS
        assert cache.note("lives/linear/BTCUSDT") is None


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "lives/../../x", "a//b", "a b", "lives/"])
def test_a_note_whose_key_is_no_plain_path_is_refused(place: Place, key: str) -> None:
    with place.cache() as cache, pytest.raises(ValueError, match="cannot be the key"):
        cache.keep_note(key, b"")


@pytest.mark.parametrize("venue", ["..", ".", "../up", "a/../../up", "/up", "127.0.0.1:8080"])
def test_a_venue_that_looks_like_a_path_stays_inside_the_store(place: Place, tmp_path: Path, venue: str) -> None:
    with place.cache(venue=venue) as cache:
        cache.keep(page_of())
        assert cache.page(MINUTE, WINDOW) is not None
        assert cache.stats().entries == 1
    if place.url.startswith("file:"):
        assert len(list(tmp_path.glob("pages/*/linear/1/BTCUSDT/*.page"))) == 1


def damaged(content: bytes) -> Iterator[bytes]:
    """Yield what may become of an entry: cut at any place, a bit flipped at any place, emptied, lengthened."""
    for at in range(0, len(content), 7):
        yield content[:at]
        yield content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    yield content[:-1]
    yield content + b"\x00"


def test_a_damaged_entry_is_never_served_and_is_replaced(place: Place) -> None:
    name = page_name(VENUE, MINUTE, WINDOW)
    store = place.store()
    with place.cache() as cache:
        cache.keep(page_of())
        content = store.read(name)
        assert content is not None
        for broken in damaged(content):
            store.write(name, broken, NOW_MS)
            assert cache.page(MINUTE, WINDOW) is None
            assert store.read(name) is None
        cache.keep(page_of(close="9"))
        assert same(cache.page(MINUTE, WINDOW), page_of(close="9"))
    store.close()


def test_entries_that_changed_places_are_never_served(place: Place) -> None:
    store = place.store()
    names = [page_name(VENUE, series, WINDOW) for series in (MINUTE, HOUR)]
    with place.cache() as cache:
        cache.keep(page_of(MINUTE))
        cache.keep(page_of(HOUR))
        first, second = (store.read(name) or b"" for name in names)
        store.write(names[0], second, NOW_MS)
        store.write(names[1], first, NOW_MS)
        assert cache.page(MINUTE, WINDOW) is None
        assert cache.page(HOUR, WINDOW) is None
    store.close()


def windows() -> Iterator[Window]:
    return (Window(start_ms, start_ms + 60_000) for start_ms in itertools.count(START_MS, 60_000))


def test_the_cache_stays_below_its_size_and_loses_what_was_written_longest_ago(place: Place) -> None:
    asked = list(itertools.islice(windows(), 40))
    sizes = []
    with place.cache(max_mb=0.04) as cache:
        for window in asked:
            place.clock.now_ms += 1000
            cache.keep(page_of(window=window))
            sizes.append(cache.stats().size_bytes)
        kept = [cache.page(MINUTE, window) is not None for window in asked]
    assert max(sizes) <= 40_000
    assert kept == sorted(kept)  # first the lost ones, then the kept ones
    assert not kept[0]
    assert sum(kept) > 10
    assert kept[-1]


def test_a_page_kept_again_is_counted_once_and_is_as_young_as_its_last_write(place: Place) -> None:
    with place.cache() as cache:
        cache.keep(page_of())
        once = cache.stats()
        place.clock.now_ms += 5000
        cache.keep(page_of())
        again = cache.stats()
    assert (again.entries, again.size_bytes) == (once.entries, once.size_bytes)
    assert (once.oldest_ms, again.oldest_ms) == (NOW_MS, NOW_MS + 5000)


def test_entries_whose_time_is_over_go_before_those_that_live(place: Place) -> None:
    with place.cache(ttl_days=30) as cache:
        cache.keep(page_of(OTHER))
        place.clock.now_ms += 10 * DAY_MS
    with place.cache(ttl_days=7) as cache:
        cache.keep(page_of(MINUTE))
        assert cache.stats().entries == 1


def test_stats_say_what_there_is(place: Place) -> None:
    with place.cache() as cache:
        empty = cache.stats()
        cache.keep(page_of())
        place.clock.now_ms += 1234
        cache.keep_note("lives/linear/BTCUSDT", b"x")
        stats = cache.stats()
    assert (empty.entries, empty.size_bytes, empty.oldest_ms, empty.newest_ms, empty.venue) == (0, 0, None, None, None)
    assert (stats.entries, stats.oldest_ms, stats.newest_ms) == (2, NOW_MS, NOW_MS + 1234)
    assert stats.size_bytes > 500
    assert stats.venue == VENUE
    assert stats.location == place.store().location


def test_hits_and_misses_add_up_over_caches_and_are_told_once(place: Place) -> None:
    with place.cache() as one, place.cache() as two:
        one.keep(page_of())
        one.page(MINUTE, WINDOW)
        one.page(HOUR, WINDOW)
        two.page(MINUTE, WINDOW)
        assert (one.stats().hits, one.stats().misses) == (1, 1)
    two.close()
    with place.cache() as later:
        later.page(HOUR, WINDOW)
        assert (later.stats().hits, later.stats().misses) == (2, 2)
        assert (later.hits, later.misses) == (0, 1)


def test_counts_of_many_at_once_are_all_there(place: Place) -> None:
    store = place.store()

    def count() -> None:
        for _ in range(100):
            store.count(1, 2)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts() == (800, 1600)
    store.close()


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*", set()),
        ("linear:BTCUSDT:1", {"linear:BTCUSDT:60", "spot:ETHUSDT:1", "lives/spot/ETHUSDT", "plain"}),
        ("linear:*", {"spot:ETHUSDT:1", "lives/spot/ETHUSDT", "plain"}),
        ("*:ETH*:*", {"linear:BTCUSDT:1", "linear:BTCUSDT:60", "lives/linear/BTCUSDT", "plain"}),
        ("*:D", {"linear:BTCUSDT:1", "linear:BTCUSDT:60", "spot:ETHUSDT:1", "plain"}),
        ("inverse:*", {"linear:BTCUSDT:1", "linear:BTCUSDT:60", "spot:ETHUSDT:1", "plain"} | {
            "lives/linear/BTCUSDT", "lives/spot/ETHUSDT"}),
    ],
)  # fmt: skip
def test_clear_removes_the_series_of_the_pattern_and_the_notes_of_their_symbols(
    place: Place, pattern: str, left: set[str]
) -> None:
    notes = ("lives/linear/BTCUSDT", "lives/spot/ETHUSDT", "plain")
    with place.cache() as cache:
        for series in (MINUTE, HOUR, OTHER):
            cache.keep(page_of(series))
        for key in notes:
            cache.keep_note(key, b"x")
        removed = cache.clear(pattern)
        found = {str(series) for series in (MINUTE, HOUR, OTHER) if cache.page(series, WINDOW)}
        found |= {key for key in notes if cache.note(key)}
        assert found == left
        assert removed == 6 - len(left)
        assert cache.stats().entries == len(left)


def test_a_cache_belongs_to_the_exchange_of_its_first_write(place: Place) -> None:
    place.cache(venue="bybit").close()  # nothing written: nobody's
    with place.cache(venue=VENUE) as cache:
        cache.keep(page_of())
    with pytest.raises(VenueMismatch, match=f"holds candles of {VENUE} and the exchange is bybit"):
        place.cache(venue="bybit")


def test_another_exchange_is_refused_also_where_both_were_open_before_the_first_write(place: Place) -> None:
    with place.cache(venue="bybit") as late, place.cache(venue=VENUE) as cache:
        cache.keep(page_of())
        assert late.page(MINUTE, WINDOW) is None
        with pytest.raises(VenueMismatch):
            late.keep(page_of())


def test_an_emptied_cache_may_serve_another_exchange_and_a_partly_emptied_one_may_not(place: Place) -> None:
    with place.cache() as cache:
        cache.keep(page_of(MINUTE))
        cache.keep(page_of(OTHER))
        cache.clear("spot:*")
        with pytest.raises(VenueMismatch):
            place.cache(venue="bybit")
        cache.clear()
    with place.cache(venue="bybit") as other:
        other.keep(page_of())
        assert other.stats().venue == "bybit"


def test_a_cache_that_was_emptied_goes_on(place: Place) -> None:
    with place.cache() as cache:
        cache.keep(page_of())
        cache.clear()
        cache.keep(page_of())
        assert cache.stats().venue == VENUE
        assert cache.page(MINUTE, WINDOW) is not None


WRITER = """
import sys
import pyarrow as pa
from kline_pipeline.bybit.cache.page_cache import open_cache
from kline_pipeline.bybit.pages import Page
from kline_pipeline.market.schema import CANDLE_SCHEMA
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window

url, venue, now_ms, start_ms, mine = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
series = Series.parse("linear:BTCUSDT:1")
hits = 0
with open_cache(url, venue=venue, ttl_days=7, max_mb=100, clock_ms=lambda: now_ms) as cache:
    for turn in range(150):
        window = Window(start_ms + turn % 15 * 60_000, start_ms + (turn % 15 + 1) * 60_000)
        rows = pa.table([[window.start_ms], *([str(mine)] for _ in range(6))], schema=CANDLE_SCHEMA)
        page = Page(series=series, window=window, server_time_ms=1, receive_time_ms=1, host="h", rows=rows, clipped=0)
        cache.keep(page)
        found = cache.page(series, window)
        assert found is not None and found.rows["open"][0].as_py() in {"1", "2"}, turn
print(cache.hits)
"""


def test_two_processes_write_the_same_pages_at_once(place: Place) -> None:
    arguments = [place.url, VENUE, str(NOW_MS), str(START_MS)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *arguments, mine], stdout=subprocess.PIPE, text=True)
        for mine in ("1", "2")
    ]
    assert [(writer.communicate()[0].strip(), writer.returncode) for writer in writers] == [("150", 0)] * 2
    with place.cache() as cache:
        stats = cache.stats()
        assert (stats.entries, stats.hits, stats.misses) == (15, 300, 0)


def test_no_url_is_no_cache() -> None:
    assert open_cache(None, venue=VENUE, ttl_days=7, max_mb=1, clock_ms=Clock()) is None


@pytest.mark.parametrize("url", ["", "file:", "file:relative", "http://x", "none", "memory://x"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="BYBIT_CACHE_URL"):
        open_cache(url, venue=VENUE, ttl_days=7, max_mb=1, clock_ms=Clock())


def test_nothing_is_pickled() -> None:
    folder = Path(sys.modules[PageCache.__module__].__file__ or "").parent
    sources = [path.read_text() for path in folder.glob("*.py")]
    assert len(sources) >= 4
    assert not any(word in source for source in sources for word in ("import pickle", "import marshal", "loads_pickle"))
