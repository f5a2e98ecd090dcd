"""How many free bytes are enough to work with; for `doctor` and for the health of the service alike."""

from typing import Final, Literal

_FEW_BYTES: Final = 10 * 10**9
_TOO_FEW_BYTES: Final = 10**9


def room(free_bytes: int) -> Literal["enough", "few", "too few"]:
    """Return how so many free bytes are to be judged."""
    if free_bytes < _TOO_FEW_BYTES:
        return "too few"
    return "few" if free_bytes < _FEW_BYTES else "enough"
