"""The log lines by which a step says how far it is: written by the assets, read by a worker for the progress bar.

Dagster stores materializations of a range at the end of their step; a log line is stored and seen at once, in the UI
too. What is done with them is told in runs_worker.py and in the progress bar.
"""

import re
import time
from collections.abc import Callable
from typing import Final

FETCHED_MARK: Final = "FETCHED"  # begins the log message of pages that came
_BETWEEN_LINES_S: Final = 1.0


def pages_teller(
    tell: Callable[[str], object], *, clock_s: Callable[[], float] = time.monotonic
) -> Callable[[int, int], None]:
    """Return what takes (pages done, pages planned) and tells it in a line: at once, then each second, and at the end.

    Args:
        tell: takes the line.
        clock_s: seconds of any zero.
    """
    told_s = float("-inf")

    def on_pages(done: int, planned: int) -> None:
        nonlocal told_s
        now_s = clock_s()
        if done == planned or now_s - told_s >= _BETWEEN_LINES_S:
            told_s = now_s
            tell(f"{FETCHED_MARK} {done} of {planned} pages")

    return on_pages


def read_pages(line: str) -> tuple[int, int] | None:
    """Return (pages done, pages planned) of such a line, None for any other."""
    found = re.fullmatch(rf"{FETCHED_MARK} (\d+) of (\d+) pages", line)
    return (int(found[1]), int(found[2])) if found else None
