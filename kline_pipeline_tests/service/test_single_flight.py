"""A page that hangs is made once, waited for once, and keeps nobody from anything else."""

import asyncio
import threading

import pytest

from kline_pipeline.service.single_flight import NotInTime, SingleFlight
from kline_pipeline_tests.service.asking import Seconds


def test_a_page_is_kept_for_a_second() -> None:
    clock, pages = Seconds(), [b"first", b"second"]
    flight = SingleFlight(lambda: pages.pop(0), clock_s=clock)

    async def ask() -> list[bytes]:
        told = [await flight.page()]
        clock.now_s += 0.9
        told.append(await flight.page())
        clock.now_s += 0.2
        return [*told, await flight.page()]

    assert asyncio.run(ask()) == [b"first", b"first", b"second"]


def test_one_that_hangs_is_begun_once_and_no_thread_is_added() -> None:
    clock, release, begun = Seconds(), threading.Event(), []

    def make() -> bytes:
        begun.append(threading.get_ident())
        release.wait()
        return b"at last"

    flight = SingleFlight(make, clock_s=clock)

    async def ask() -> None:
        waiting = [asyncio.create_task(flight.page()) for _ in range(5)]
        await asyncio.sleep(0)
        threads = threading.active_count()
        clock.now_s += 4.1
        for _ in range(50):
            with pytest.raises(NotInTime):
                await flight.page()
        assert threading.active_count() == threads
        release.set()
        assert set(await asyncio.gather(*waiting)) == {b"at last"}
        assert await flight.page() == b"at last"

    asyncio.run(ask())
    assert len(begun) == 1


def test_who_goes_away_takes_the_page_from_nobody() -> None:
    release = threading.Event()

    def make() -> bytes:
        release.wait()
        return b"page"

    flight = SingleFlight(make, clock_s=Seconds())

    async def ask() -> bytes:
        first, second = asyncio.create_task(flight.page()), asyncio.create_task(flight.page())
        await asyncio.sleep(0)
        first.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(ask()) == b"page"


def test_after_a_failure_it_is_made_again() -> None:
    clock, pages = Seconds(), iter([b"", b"page"])

    def make() -> bytes:
        page = next(pages)
        if not page:
            raise ValueError
        return page

    flight = SingleFlight(make, clock_s=clock)

    async def ask() -> bytes:
        with pytest.raises(NotInTime):
            await flight.page()
        clock.now_s += 1
        return await flight.page()

    assert asyncio.run(ask()) == b"page"
