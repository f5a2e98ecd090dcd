"""Times as people write them, for --from and --to and in a notebook, as UTC milliseconds; no partitions here."""

import re
from datetime import UTC, date, datetime, timedelta

from kline_pipeline.errors import UsageError
from kline_pipeline.market.window import iso, to_ms

_WRITE = "write 2024-01-31 or 2024-01-31T12:00, in UTC"
_PLAIN_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def start_of(text: str, now_ms: int, *, option: str = "--from") -> int:
    """Return where a range begins: midnight of a plain date, else the moment; UTC where no zone is given.

    Raises:
        UsageError: the text is no time, or lies in the future.
    """
    start_ms = _moment(option, text)
    if start_ms > now_ms:
        raise UsageError(f"{option} {text} is in the future: the exchange's time is {iso(now_ms)}")
    return start_ms


def end_of(text: str, now_ms: int, *, option: str = "--to") -> int:
    """Return where a range ends, exclusive: after the whole day of a plain date, else at the moment; never after now.

    Raises:
        UsageError: the text is no time, a day after today, or a moment after now.
    """
    end_ms = _moment(option, text)
    if end_ms > now_ms:
        raise UsageError(f"{option} {text} is in the future: the exchange's time is {iso(now_ms)}")
    if not _PLAIN_DATE.fullmatch(text):
        return end_ms
    return min(now_ms, to_ms(datetime.fromtimestamp(end_ms / 1000, tz=UTC) + timedelta(days=1)))


def check_order(start: str | None, end: str | None) -> None:
    """Do nothing where --from does not lie after --to; needs no clock.

    Raises:
        UsageError: it does, or one of the two is no time.
    """
    start_ms = _moment("--from", start) if start is not None else None
    end_ms = _moment("--to", end) if end is not None else None
    if start_ms is None or end_ms is None or end is None:
        return
    if start_ms > end_ms or (start_ms == end_ms and not _PLAIN_DATE.fullmatch(end)):
        whole_day = _PLAIN_DATE.fullmatch(end) is not None and start_ms // 86_400_000 == end_ms // 86_400_000
        if not whole_day:
            raise UsageError(f"--from {start} is not before --to {end}: nothing lies between them")


def day_of(time_ms: int) -> date:
    """Return the UTC day that contains a time."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).date()


def _moment(option: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{option} {text!r} is no time: {_WRITE}") from exc
    if _is_date(text) and not _PLAIN_DATE.fullmatch(text):
        # 20240131 and 2024-W05 are dates to Python: as an exclusive midnight they would lose their last day.
        raise UsageError(f"{option} {text!r} is no date as it is written here: {_WRITE}")
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
