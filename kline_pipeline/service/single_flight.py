"""One worker thread that makes a page which may take long, for any number of askers at once; what page is not known."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

logger: Final = logging.getLogger(__name__)
_KEPT_S: Final = 1.0
_DEADLINE_S: Final = 4.0


class NotInTime(Exception):
    """The page was not made in time, or could not be made; why is in the log."""


class SingleFlight:
    """A page that is made by one thread, at most once at a time, and kept for a second.

    A thread that hangs is waited for once per flight, not once per asker; it is no thread of a pool, as those keep a
    process from ending.

    Args:
        make: makes the page; may block for ever.
        clock_s: a clock that only goes forward, seconds.
    """

    def __init__(self, make: Callable[[], bytes], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._clock_s = clock_s
        self._wanted = threading.Semaphore(0)
        self._worker: threading.Thread | None = None
        self._flight: Future[bytes] | None = None
        self._began_s = 0.0
        self._ended_s = 0.0

    async def page(self) -> bytes:
        """Return the page, not older than a second; for one event loop.

        Raises:
            NotInTime: it is not there 4 s after it was begun.
        """
        flight = self._current()
        left_s = self._began_s + _DEADLINE_S - self._clock_s()
        if not flight.done() and left_s <= 0:
            raise NotInTime
        try:
            if flight.done():
                return flight.result()
            page = asyncio.wrap_future(flight)
            page.add_done_callback(_seen)
            # Shielded: who goes away takes the page from nobody else.
            return await asyncio.wait_for(asyncio.shield(page), left_s)
        except Exception as exc:
            raise NotInTime from exc

    def _current(self) -> "Future[bytes]":
        flight = self._flight
        if flight is not None and not (flight.done() and self._clock_s() - self._ended_s >= _KEPT_S):
            return flight
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="metrics", daemon=True)
            self._worker.start()
        self._flight, self._began_s = Future(), self._clock_s()
        self._wanted.release()
        return self._flight

    def _work(self) -> None:
        while True:
            self._wanted.acquire()
            flight = self._flight
            if flight is None:
                continue
            try:
                page = self._make()
            except Exception as exc:
                logger.exception("page could not be made")
                self._ended_s = self._clock_s()
                flight.set_exception(exc)
            else:
                self._ended_s = self._clock_s()
                flight.set_result(page)


def _seen(page: "asyncio.Future[bytes]") -> None:
    """Look at the outcome where nobody waits any more, or asyncio complains that nobody did."""
    if not page.cancelled():
        page.exception()
