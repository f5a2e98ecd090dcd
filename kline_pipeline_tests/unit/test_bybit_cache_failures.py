"""The cache where its store fails or its URL is wrong: a fetch goes on, and no password is shown."""

import os
import resource
import traceback
from pathlib import Path

import pytest

from kline_pipeline.bybit.cache.page_cache import PageCache, open_cache
from kline_pipeline.bybit.cache.upkeep import open_store, stats_of
from kline_pipeline.bybit.pages import Page
from kline_pipeline.errors import ConfigError, StorageError
from kline_pipeline.market.schema import empty_candles
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import Window
from kline_pipeline_tests.exchanges import NOW_MS

MINUTE = Series.parse("linear:BTCUSDT:1")
WINDOW = Window(1_712_534_400_000, 1_712_534_460_000)


class Clock:
    """A clock that a test sets."""

    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def opened(folder: Path, clock: Clock) -> PageCache:
    cache = open_cache(f"file:{folder}", venue="bybit", ttl_days=7, max_mb=100, clock_ms=clock)
    assert cache is not None
    return cache


def page(window: Window = WINDOW) -> Page:
    return Page(
        series=MINUTE,
        window=window,
        server_time_ms=1,
        receive_time_ms=2,
        host="h",
        rows=empty_candles(),
        clipped=0,
    )


def test_a_full_disk_is_no_failure_of_the_fetch_and_what_is_there_is_still_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    later = Window(WINDOW.end_ms, WINDOW.end_ms + 60_000)
    with opened(tmp_path, clock) as cache:
        cache.keep(page())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            cache.keep(page(later))
            cache.keep(page(later))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert cache.page(MINUTE, WINDOW) is not None
        assert cache.page(MINUTE, later) is None
        clock.now_ms += 60_000
        cache.keep(page(later))
        assert cache.page(MINUTE, later) is not None
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_a_cache_of_misses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file/cache", Clock()) as cache:
        cache.keep(page())
        assert cache.page(MINUTE, WINDOW) is None
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_pages_lie_in_folders_that_a_person_can_read(tmp_path: Path) -> None:
    with opened(tmp_path, Clock()) as cache:
        cache.keep(page())
        cache.keep_note("lives/linear/BTCUSDT", b"x")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "bybit/linear/1/BTCUSDT/20240408T000000Z-20240408T000100Z.page",
        "bybit/notes/lives/linear/BTCUSDT.note",
        "venue",
    ]


def test_files_of_others_in_the_folder_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    others = ["a.page", "bybit/x.txt", "bybit/linear/1/BTCUSDT/x.page", "bybit/notes/list.txt", "spot/1/2.note"]
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "20240408T000000Z-20240408T000100Z.page").write_text("mine")
    (tmp_path / "bybit/linear/1/ETHUSDT").symlink_to(outside)
    with opened(tmp_path, Clock()) as cache:
        cache.keep(page())
        assert cache.stats().entries == 1
        assert cache.clear() == 1
    assert all((tmp_path / name).exists() for name in others)
    assert len(list(outside.iterdir())) == 1


def test_what_a_killed_writer_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    with opened(tmp_path, Clock()) as cache:
        cache.keep(page())
        folder = next(tmp_path.rglob("*.page")).parent
        for name, age_s in ((".old.page.0123abcd.tmp", 3601), (".new.page.0123abcd.tmp", 3599)):
            (folder / name).write_text("half")
            os.utime(folder / name, (NOW_MS / 1000 - age_s,) * 2)
        assert cache.stats().entries == 1
    assert [path.name for path in tmp_path.rglob("*.tmp")] == [".new.page.0123abcd.tmp"]


def test_counts_that_cannot_be_read_begin_again(tmp_path: Path) -> None:
    (tmp_path / "counts").write_text("garbage that is longer than any line of ours, much longer than that")
    with opened(tmp_path, Clock()) as cache:
        cache.page(MINUTE, WINDOW)
    store = open_store(f"file:{tmp_path}", ttl_days=7, clock_ms=Clock())
    assert (stats_of(store).hits, stats_of(store).misses) == (0, 1)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@host:6379/0",
        "redis://:hunter2#x@host:6379/0",
        "redis://me:12345?hunter2@host:6379/0",
        "redis://:hunter2@host:port/0",
        "redis://:hunter2@",
        "redis://host/0?hunter2=1",
        "redis://host/0?decode_responses=hunter2",
        "rediss://:hunter2@host:99999999/0",
    ],
)
def test_a_redis_url_that_is_none_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="BYBIT_CACHE_URL") as failure:
        open_store(url, ttl_days=7, clock_ms=Clock())
    shown = "".join(traceback.format_exception(failure.value, chain=True, limit=0))
    assert "hunter2" not in shown
    assert "12345" not in shown


def test_a_redis_that_nobody_runs_is_named_without_its_password() -> None:
    store = open_store("redis://me:hunter2@127.0.0.1:1/3", ttl_days=7, clock_ms=Clock())
    assert store.location == "redis://127.0.0.1:1/3"
    with pytest.raises(StorageError, match=r"redis://127\.0\.0\.1:1/3") as failure:
        stats_of(store)
    assert "hunter2" not in str(failure.value)
    store.close()
