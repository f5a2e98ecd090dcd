"""What SIGINT and SIGTERM do for a while, for whoever is to end in order; nothing of Dagster is loaded for it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def endings_handled(handler: Handler) -> Iterator[None]:
    """Have both handled so inside the block, also where a shell began us with SIGINT ignored."""
    before = [(number, signal.signal(number, handler)) for number in _ENDINGS]
    try:
        yield
    finally:
        for number, handled in before:
            signal.signal(number, handled)


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt on either."""
    raise KeyboardInterrupt


def interrupt_or_exit(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt on SIGINT, and on SIGTERM SystemExit with the code that a shell has for it."""
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    interrupt(number, frame)
