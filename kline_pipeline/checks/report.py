"""The result of a check: passed or not, how bad, how many, the first offenders; rules are in the modules beside it."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Self

import msgspec

from kline_pipeline.market.window import Window, iso

Severity = Literal["ERROR", "WARN"]
FIRST_OFFENDERS: Final = 20


class Offender(msgspec.Struct, frozen=True):
    """One candle, or one partition, that broke a rule.

    Attributes:
        open_time_ms: of the candle; None where the whole partition offends.
        what: what is wrong with it, in a few words.
    """

    open_time_ms: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.open_time_ms is None else f"{iso(self.open_time_ms)} {self.what}"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule found in one partition, or in all that is stored.

    Attributes:
        check: name of the rule.
        passed: nothing offends.
        severity: ERROR quarantines, WARN does not.
        total: how many offend.
        counts: what was looked at, by name.
        offenders: the first 20, errors before warnings, each ascending by open time.
        start_ms, end_ms: the window that was looked at, half-open; None over all that is stored.
        repair: the command that mends it, empty when nothing offends.
        picture: SVG of what was looked at, empty where none helps.
    """

    check: str
    passed: bool
    severity: Severity = "ERROR"
    total: int = 0
    counts: dict[str, int] = {}
    offenders: tuple[Offender, ...] = ()
    start_ms: int | None = None
    end_ms: int | None = None
    repair: str = ""
    picture: str = ""

    @classmethod
    def of(
        cls,
        check: str,
        offenders: Sequence[Offender],
        *,
        counts: dict[str, int],
        window: Window,
        severity: Severity = "ERROR",
        repair: str = "",
    ) -> Self:
        """Return the result of a rule that found these offenders, ascending, in a window."""
        return cls(
            check=check,
            passed=not offenders,
            severity=severity,
            total=len(offenders),
            counts=counts,
            offenders=tuple(offenders[:FIRST_OFFENDERS]),
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            repair=repair if offenders else "",
        )

    @property
    def window(self) -> Window | None:
        """The window that was looked at, None over all that is stored."""
        return None if self.start_ms is None or self.end_ms is None else Window(self.start_ms, self.end_ms)

    @property
    def sentence(self) -> str:
        """What is wrong, for people: how many offend and the first of them; empty when nothing does."""
        if self.passed:
            return ""
        more = f" and {self.total - 3} more" if self.total > 3 else ""  # noqa: PLR2004 - three names fit a line
        return f"{self.check}: {'; '.join(str(offender) for offender in self.offenders[:3])}{more}"


def merged(check: str, results: Iterable[tuple[str, CheckResult]]) -> CheckResult:
    """Return one result over many partitions: failed if one failed, counts added, offenders named with their partition.

    Args:
        check: name of the rule.
        results: (partition, result), in the order in which offenders are to be listed.
    """
    total, looked_at, failed = 0, 0, 0
    counts: dict[str, int] = {}
    offenders: list[Offender] = []
    worst: Severity = "WARN"
    for partition, result in results:
        looked_at += 1
        for name, count in result.counts.items():
            counts[name] = counts.get(name, 0) + count
        if result.passed:
            continue
        failed += 1
        total += result.total
        worst = "ERROR" if result.severity == "ERROR" else worst
        room = FIRST_OFFENDERS - len(offenders)
        offenders += [Offender(one.open_time_ms, f"{partition}: {one.what}") for one in result.offenders[:room]]
    return CheckResult(
        check=check,
        passed=not failed,
        severity=worst if failed else "ERROR",
        total=total,
        counts={"partitions": looked_at, "failed": failed, **counts},
        offenders=tuple(offenders),
    )
