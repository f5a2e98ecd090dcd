"""postgres_agrees and parquet_agrees: what a sink holds is what was to land, by count, first, last and checksum."""

from collections.abc import Sequence
from typing import Protocol

from kline_pipeline.checks.report import CheckResult, Offender
from kline_pipeline.market.window import Window, iso


class HeldLike(Protocol):
    """What is compared: a sink that was read back, or the candles that were to land."""

    @property
    def rows(self) -> int:
        """Candles."""

    @property
    def first_ms(self) -> int | None:
        """First open time, None without candles."""

    @property
    def last_ms(self) -> int | None:
        """Last open time, None without candles."""

    @property
    def sha256(self) -> str:
        """Of the candles in canonical text."""


def judge(
    check: str,
    held: HeldLike | None,
    expected: HeldLike,
    *,
    quarantine: Sequence[str],
    window: Window,
    repair: str,
) -> CheckResult:
    """Return the result of the rule for one partition.

    Args:
        check: postgres_agrees or parquet_agrees.
        held: what the sink holds, None when it holds no such partition.
        expected: the candles that were to land.
        quarantine: why the partition was not to land; it is red here too.
        window: of the partition.
        repair: the command that mends it.
    """
    offenders = [Offender(None, f"quarantined: {reason}") for reason in quarantine]
    if held is None and (expected.rows or not quarantine):  # of a quarantined partition nothing was to land
        offenders.append(Offender(None, f"the sink holds nothing; {expected.rows} candles were to land"))
    elif held is not None and not quarantine:
        offenders += [Offender(None, what) for what in _differences(held, expected)]
    counts = {"rows": held.rows if held else 0, "expected": expected.rows}
    return CheckResult.of(check, offenders, counts=counts, window=window, repair=repair)


def _differences(held: HeldLike, expected: HeldLike) -> list[str]:
    found = []
    if held.rows != expected.rows:
        found.append(f"{held.rows} rows, {expected.rows} were to land")
    if (held.first_ms, held.last_ms) != (expected.first_ms, expected.last_ms):
        ends = f"rows from {_time(held.first_ms)} to {_time(held.last_ms)}"
        found.append(f"{ends}, expected {_time(expected.first_ms)} to {_time(expected.last_ms)}")
    if not found and held.sha256 != expected.sha256:
        found.append(f"checksum {held.sha256[:12]}, expected {expected.sha256[:12]}")
    return found


def _time(time_ms: int | None) -> str:
    return "nothing" if time_ms is None else iso(time_ms)
