"""revisions: closed candles that changed, found lately, are a warning; those that vanished are an error.

Which answer counts is told in candles/derive.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from kline_pipeline.checks.report import FIRST_OFFENDERS, CheckResult, Offender
from kline_pipeline.market.schema import NUMBER_COLUMNS

NAME: Final = "revisions"
LOOK_BACK_MS: Final = 7 * 86_400_000


class FoundLike(Protocol):
    """A revision that was found, with the symbol it is of."""

    @property
    def symbol(self) -> str:
        """Of the candle."""

    @property
    def open_time_ms(self) -> int:
        """UTC milliseconds."""

    @property
    def old(self) -> dict[str, str]:
        """The six numbers before."""

    @property
    def new(self) -> dict[str, str] | None:
        """The six numbers now, None where the candle vanished."""


def judge(found: Sequence[FoundLike], *, changed: int, vanished: int) -> CheckResult:
    """Return the result of the rule for one dataset.

    Args:
        found: the first of them, those that vanished before those that changed.
        changed, vanished: how many there are.
    """
    return CheckResult(
        check=NAME,
        passed=not changed and not vanished,
        severity="WARN" if changed and not vanished else "ERROR",
        total=changed + vanished,
        counts={"changed": changed, "vanished": vanished},
        offenders=tuple(Offender(one.open_time_ms, f"{one.symbol} {_told(one)}") for one in found[:FIRST_OFFENDERS]),
    )


def _told(found: FoundLike) -> str:
    if found.new is None:
        return "vanished"
    new = found.new
    changed = [f"{name} {found.old[name]} to {new[name]}" for name in NUMBER_COLUMNS if found.old[name] != new[name]]
    return f"changed: {', '.join(changed)}"
