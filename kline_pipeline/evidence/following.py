"""What the exchange lists, against what a dataset has: what to take up, and what has ended; who adds it is elsewhere.

Every instrument seen is written to `instruments`. One that is no longer listed is marked Closed there and its listing
is probed again, so that its grid ends where its candles do.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.bybit.instruments import Instrument
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.errors import BadRequest, MalformedAnswer, UnknownSeries
from kline_pipeline.evidence import instruments, listings
from kline_pipeline.evidence.instruments import Seen

# A probe is about ten requests, and a tick of a sensor has a minute; the others come with the next one.
_MOST_PROBES: Final = 20
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Stock:
    """What a look at the exchange found for a dataset; symbols ascending.

    Attributes:
        listed: how many instruments of the category are listed.
        new: to be taken up: declared ones and followed ones that are not known yet.
        not_yet: would be followed and have no candle yet, or could not be probed in this look.
        delisted: known ones that were found to have ended in this look.
    """

    listed: int
    new: tuple[str, ...]
    not_yet: tuple[str, ...]
    delisted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    database: Database
    client: BybitClient
    category: str
    grace_ms: int
    now_ms: int

    def goes_on(self, symbol: str, *, again: bool, unclear: bool | None) -> bool | None:
        """Return whether the last life of an instrument goes on; None for one without a candle.

        `unclear` is what to return where its answers contradict each other: one instrument must not hold up the others.
        """
        try:
            listing = listings.known_or_probed(
                self.database,
                self.client,
                self.category,
                symbol,
                grace_ms=self.grace_ms,
                now_ms=self.now_ms,
                again=again,
            )
        except BadRequest:
            return None
        except MalformedAnswer:
            return unclear
        return listing.goes_on if listing.lives else None


def take_stock(
    database: Database, client: BybitClient, dataset: Dataset, known: Collection[str], *, grace_ms: int, now_ms: int
) -> Stock:
    """Ask the exchange what it lists, write that down, and return what it means for a dataset.

    Args:
        database: where instruments and listings are kept; of this exchange's venue.
        client: of the exchange.
        dataset: one that follows.
        known: its symbols now.
        grace_ms: a candle counts as closed this long after its end.
        now_ms: the exchange's time.

    Raises:
        ExchangeError: it could not be asked; nothing was written.
        DatabaseUnavailable: what was found could not be written.
    """
    listed, closed = _ask(client, dataset)
    with database.translate_errors(), database.engine.begin() as connection:
        before = instruments.seen(connection, dataset.category)
        going_on = listings.going_on(connection, dataset.category)
        instruments.write(connection, [*closed.values(), *listed.values()], seen_at_ms=now_ms)
    look = _Look(database, client, dataset.category, grace_ms, now_ms)
    delisted = _delisted(look, listed, before, going_on, known)
    for symbol in [one for one in known if one in listed and going_on.get(one) is False][:_MOST_PROBES]:
        if listed[symbol].status == "Trading":  # listed again under its old name
            look.goes_on(symbol, again=True, unclear=None)
    new, not_yet = _new(look, dataset, {**closed, **listed}, known)
    return Stock(len(listed), new, not_yet, delisted)


def _ask(client: BybitClient, dataset: Dataset) -> tuple[dict[str, Instrument], dict[str, Instrument]]:
    """Return what is listed, and what was delisted where the dataset follows that, by symbol."""
    # Spot tells of Trading alone, which is what an unnamed status means everywhere (bybit-v5.md 2.1).
    statuses = (None,) if dataset.category == "spot" else (None, "PreLaunch", "Delivering")
    listed = {
        one.symbol: one for status in reversed(statuses) for one in client.instruments(dataset.category, status=status)
    }
    if not listed:
        raise MalformedAnswer(f"{client.host} lists no {dataset.category} instrument at all; nothing was changed")
    follows_closed = dataset.follow is not None and dataset.follow.status == instruments.CLOSED
    closed = client.instruments(dataset.category, status=instruments.CLOSED) if follows_closed else []
    return listed, {one.symbol: one for one in closed if one.symbol not in listed}


def _delisted(
    look: _Look,
    listed: Mapping[str, Instrument],
    before: Mapping[str, Seen],
    going_on: Mapping[str, bool],
    known: Collection[str],
) -> tuple[str, ...]:
    """Mark what is no longer listed, and return the known ones among it; the ends of those are probed again."""
    gone = {symbol for symbol, one in before.items() if symbol not in listed and one.status != instruments.CLOSED}
    gone |= {symbol for symbol in known if symbol not in listed and going_on.get(symbol)}
    ended = gone - set(known)
    for symbol in sorted(gone & set(known))[:_MOST_PROBES]:
        # Spot tells no end: while its newest candle is young, it may still be trading.
        if not look.goes_on(symbol, again=symbol in going_on, unclear=True):
            ended.add(symbol)
    with look.database.translate_errors(), look.database.engine.begin() as connection:
        instruments.mark_closed(connection, look.category, ended)
    return tuple(sorted(ended & set(known)))


def _new(
    look: _Look, dataset: Dataset, offered: Mapping[str, Instrument], known: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    followed = _followed(dataset, offered.values()) - set(known) - set(dataset.symbols)
    # One that was announced has no candle yet, and all of its partitions would be red. Many at once are old ones.
    young = {symbol for symbol in followed if (offered[symbol].launch_time_ms or 0) > look.now_ms - _DAY_MS}
    doubted = sorted(followed if len(followed) <= _MOST_PROBES else young)
    without = {symbol for symbol in doubted[:_MOST_PROBES] if look.goes_on(symbol, again=False, unclear=None) is None}
    without |= set(doubted[_MOST_PROBES:])
    declared = set(dataset.symbols) - set(known)
    return tuple(sorted(declared | (followed - without))), tuple(sorted(without))


def _followed(dataset: Dataset, offered: Iterable[Instrument]) -> set[str]:
    return {
        one.symbol
        for one in offered
        if dataset.follows(one.symbol, one.quote_coin, one.status) and _can_be_a_series(dataset, one.symbol)
    }


def _can_be_a_series(dataset: Dataset, symbol: str) -> bool:
    try:
        dataset.series(symbol)
    except UnknownSeries:
        return False
    return True
