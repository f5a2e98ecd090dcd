"""What a dataset of datasets.toml does by itself: which instruments it follows, when it is brought up to date.

Who acts on it is told in defs/automation.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from kline_pipeline.errors import DatasetsError

STATUSES: Final = ("Trading", "PreLaunch", "Delivering", "Closed")
# Cron's */N starts anew every hour: others would leave one short step in each.
EVERY_MINUTES: Final = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class Follow:
    """Which instruments of its category a dataset takes up by itself; all three must fit.

    Attributes:
        quote: coin that prices are in, None for any.
        status: as instruments-info says it.
        pattern: of the symbol, with * ? and [], None for any.
    """

    quote: str | None = None
    status: str = "Trading"
    pattern: str | None = None

    def matches(self, *, symbol: str, quote: str, status: str) -> bool:
        """Return whether an instrument is one to take up."""
        fits = (self.quote in (None, quote), self.status == status)
        return all(fits) and (self.pattern is None or fnmatchcase(symbol, self.pattern))


@dataclass(frozen=True, slots=True)
class Schedule:
    """When Dagster brings a dataset up to date by itself.

    Attributes:
        daily: once after midnight UTC.
        every_minutes: also so often, one of EVERY_MINUTES; 0 for not.
    """

    daily: bool = True
    every_minutes: int = 0


def read_follow(value: object, category: str) -> Follow:
    """Return what the key `follow` of a dataset says.

    Raises:
        DatasetsError: it says something that cannot be.
    """
    given = _table("follow", value, ("quote", "status", "pattern"))
    if not given or not all(isinstance(text, str) and text for text in given.values()):
        raise DatasetsError(f"follow = {value!r} must say as text at least one of quote, status and pattern")
    status = given.get("status", "Trading")
    if status not in STATUSES:
        raise DatasetsError(f"follow: status = {status!r} must be one of {', '.join(STATUSES)}")
    if category == "spot" and status != "Trading":
        raise DatasetsError(f"follow: spot tells of status Trading alone, not {status}")
    return Follow(given.get("quote"), status, given.get("pattern"))


def read_schedule(value: object) -> Schedule:
    """Return what the key `schedule` of a dataset says.

    Raises:
        DatasetsError: it says something that cannot be.
    """
    given = _table("schedule", value, ("daily", "every_minutes"))
    daily, minutes = given.get("daily", True), given.get("every_minutes", 0)
    if not isinstance(daily, bool):
        raise DatasetsError(f"schedule: daily = {daily!r} must be true or false")
    if isinstance(minutes, bool) or minutes not in (0, *EVERY_MINUTES):
        raise DatasetsError(
            f"schedule: every_minutes = {minutes!r} must be 0 (none) or one of {', '.join(map(str, EVERY_MINUTES))}"
        )
    return Schedule(daily, minutes)


def _table(key: str, value: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise DatasetsError(f"{key} = {value!r} must be a table of {', '.join(known)}")
    return value
