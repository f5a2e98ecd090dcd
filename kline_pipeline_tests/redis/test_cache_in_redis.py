"""The cache in a real Redis: what only a Redis can do wrong; all else it promises is in unit/test_bybit_cache.py."""

import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kline_pipeline.bybit.cache.page_cache import PageCache, open_cache
from kline_pipeline.bybit.pages import Page
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.errors import StorageError
from kline_pipeline.log.lines import configure
from kline_pipeline.market.schema import empty_candles
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.exchanges import NOW_MS
from kline_pipeline_tests.redis.redis_server import PASSWORD, RedisServer, redis_server

pytestmark = pytest.mark.redis

MINUTE = Series.parse("linear:BTCUSDT:1")
WINDOW = Window(1_712_534_400_000, 1_712_534_460_000)
DAY_MS = 86_400_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as started:
        yield started


class Clock:
    """A clock that a test sets."""

    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def opened(url: str, clock: Clock, *, ttl_days: float = 7) -> PageCache:
    cache = open_cache(url, venue="bybit", ttl_days=ttl_days, max_mb=100, clock_ms=clock)
    assert cache is not None
    return cache


def page() -> Page:
    return Page(
        series=MINUTE,
        window=WINDOW,
        server_time_ms=1,
        receive_time_ms=2,
        host="h",
        rows=empty_candles(),
        clipped=0,
    )


def in_threads(count: int, work: Callable[[], object]) -> None:
    """Do the same in many threads at once."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """The records that our loggers emit, of every level."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger("kline_pipeline")
    keep = Keep()
    logger.addHandler(keep)
    yield records
    logger.removeHandler(keep)


def test_entries_expire_by_themselves_and_leave_the_index(server: RedisServer) -> None:
    with opened(server.url, Clock(), ttl_days=2) as cache:
        cache.keep(page())
        (key,) = server.redis.keys("kline-pipeline:entry:*")
        assert 2 * DAY_MS - 60_000 < server.redis.pttl(key) <= 2 * DAY_MS
        server.redis.delete(key)  # as its expiry or an eviction does
        assert cache.stats().entries == 0
        assert server.redis.zcard("kline-pipeline:index") == 0


def test_keys_of_others_in_the_same_redis_are_left_alone(server: RedisServer) -> None:
    server.redis.set("entry:theirs", "1")
    server.redis.set("kline-pipelines", "2")
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        cache.keep_note("lives/linear/BTCUSDT", b"x")
        cache.page(MINUTE, WINDOW)
        cache.stats()
        cache.clear()
    keys = set(server.redis.keys("*"))
    assert {key for key in keys if not key.startswith(b"kline-pipeline:")} == {b"entry:theirs", b"kline-pipelines"}
    assert not any(key.startswith(b"kline-pipeline:entry:") for key in keys)


def test_a_redis_killed_midway_is_a_cache_of_misses_with_one_warning(
    server: RedisServer, told: list[logging.LogRecord]
) -> None:
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        assert cache.page(MINUTE, WINDOW) is not None
        server.kill()
        for _ in range(5):
            assert cache.page(MINUTE, WINDOW) is None
            assert cache.note("lives/linear/BTCUSDT") is None
            cache.keep(page())
            cache.keep_note("lives/linear/BTCUSDT", b"x")
        with pytest.raises(StorageError, match=r"127\.0\.0\.1"):
            cache.stats()
        assert (cache.hits, cache.misses) == (1, 5)
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_redis_that_was_killed_while_writing_is_told_and_used_again_when_it_is_back(
    server: RedisServer, told: list[logging.LogRecord]
) -> None:
    clock = Clock()
    with opened(server.url, clock) as cache:
        server.kill()
        cache.keep(page())
        server.start()
        cache.keep(page())
        assert cache.page(MINUTE, WINDOW) is None  # writing is left alone for a while
        clock.now_ms += 60_000
        cache.keep(page())
        assert cache.page(MINUTE, WINDOW) is not None
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_connection_that_redis_closed_meanwhile_is_no_failure(
    server: RedisServer, told: list[logging.LogRecord]
) -> None:
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        server.redis.client_kill_filter(skipme=True)
        assert cache.page(MINUTE, WINDOW) is not None
    assert told == []


def test_a_redis_out_of_reach_is_a_cache_of_misses_with_one_warning(
    server: RedisServer, told: list[logging.LogRecord]
) -> None:
    server.kill()
    with opened(server.url, Clock()) as cache:
        assert cache.page(MINUTE, WINDOW) is None
        cache.keep(page())
        assert cache.page(MINUTE, WINDOW) is None
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_server_that_never_answers_is_asked_once_and_then_left_alone(told: list[logging.LogRecord]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with opened(url, Clock()) as cache:
            for _ in range(5):
                assert cache.page(MINUTE, WINDOW) is None
                assert cache.note("lives/linear/BTCUSDT") is None
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert [record.levelname for record in told] == ["WARNING"]


def test_threads_that_fail_together_tell_it_once(told: list[logging.LogRecord]) -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with opened(url, clock) as cache:
            clock.now_ms += 60_000
            told.clear()
            in_threads(8, lambda: cache.page(MINUTE, WINDOW))
            assert cache.misses == 8
    assert [record.levelname for record in told] == ["WARNING"]


def test_a_redis_that_is_full_takes_nothing_and_still_serves_what_it_has(
    server: RedisServer, told: list[logging.LogRecord]
) -> None:
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        server.redis.config_set("maxmemory", 1)
        cache.keep_note("lives/linear/BTCUSDT", b"x" * 1000)
        assert cache.note("lives/linear/BTCUSDT") is None
        assert cache.page(MINUTE, WINDOW) is not None
    assert [record.levelname for record in told] == ["WARNING"]


def test_many_threads_share_a_cache(server: RedisServer) -> None:
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        in_threads(32, lambda: cache.page(MINUTE, WINDOW))
        assert (cache.hits, cache.misses) == (32, 0)


def test_the_password_is_nowhere_to_be_read(server: RedisServer, told: list[logging.LogRecord]) -> None:
    with opened(server.url, Clock()) as cache:
        cache.keep(page())
        shown = [repr(cache), str(cache), repr(cache.stats())]
        assert cache.stats().location == server.url.replace(f":{PASSWORD}@", "")
    wrong = server.url.replace(PASSWORD, "wrong-Passw0rd")
    with opened(wrong, Clock()) as refused:
        assert refused.page(MINUTE, WINDOW) is None
        with pytest.raises(StorageError) as failure:
            refused.stats()
    (record,) = told
    shown += [str(failure.value), repr(failure.value.__cause__), *map(str, vars(record).values())]
    assert not any(secret in text for secret in (PASSWORD, "wrong-Passw0rd") for text in shown)


def test_the_log_lines_of_a_refused_password_do_not_hold_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.StringIO()
    monkeypatch.setattr("sys.stderr", lines)
    root = logging.getLogger()
    before = root.handlers, root.level
    configure(Settings(BybitSettings(), KlineSettings(log_level="DEBUG", log_format="json")))
    try:
        with opened(server.url.replace(PASSWORD, "wrong-Passw0rd"), Clock()) as refused:
            refused.page(MINUTE, WINDOW)
    finally:
        root.handlers, root.level = before
    assert lines.getvalue()
    assert "wrong-Passw0rd" not in lines.getvalue()
