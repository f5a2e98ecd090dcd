"""One question after the other for each of several things, the things side by side; pages have a way of their own."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from kline_pipeline.log.about import AboutThreads

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(step: Callable[[T], R], things: Iterable[T], at_once: int) -> list[R]:
    """Return what `step` makes of each thing, in the order given.

    Args:
        step: called from several threads.
        things: in any number.
        at_once: most calls at a time.

    Raises:
        Exception: what the first thing in that order raised; no other call is begun then.
    """
    executor = AboutThreads(at_once, thread_name_prefix="probes")
    try:
        return list(executor.map(step, things))
    finally:
        executor.shutdown(cancel_futures=True)
