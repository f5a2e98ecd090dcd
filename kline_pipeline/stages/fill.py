"""Filling partitions: what is not held, or offended a rule, is fetched; what was held is not.

A window for which the answers had no row is asked once more before the rules see it, and may become a known gap then.
What the exchange refuses for good is noted in the ledger, and the other partitions go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kline_pipeline.bybit.client import BybitClient
from kline_pipeline.candles.derive import Generation
from kline_pipeline.database.locks import partition_lock
from kline_pipeline.datasets import Cell, Dataset
from kline_pipeline.errors import BadRequest
from kline_pipeline.evidence import coverage
from kline_pipeline.evidence.partitions import known_of
from kline_pipeline.evidence.series_ids import series_id
from kline_pipeline.market.window import Window, intersect_all, merge, subtract, to_ms, windows_of
from kline_pipeline.raw_batches.fill import Wanted, fetch
from kline_pipeline.stages.confirm import confirm_gaps
from kline_pipeline.stages.lives import KnownLives
from kline_pipeline.stages.look import known_gaps_in, look
from kline_pipeline.stages.prune import set_spoilt_aside
from kline_pipeline.stages.stores import Stores

# An hour of minutes: longer than any run takes.
_AHEAD_SLOTS: Final = 60
# What the exchange refuses for good is asked for once a day.
_REFUSED_WAIT_MS: Final = 86_400_000


@dataclass(slots=True, kw_only=True)
class FillReport:
    """What filling one partition did.

    Attributes:
        requests: pages of candles that began in it.
        rows: rows received, open candles included.
        size_bytes: written to raw batches.
        fetch_error: why the exchange refused it for good, None when it answered.
        not_listed: no life of the instrument touches it.
        held: nothing had to be fetched.
    """

    requests: int = 0
    rows: int = 0
    size_bytes: int = 0
    fetch_error: str | None = None
    not_listed: bool = False
    held: bool = False


OnReady = Callable[[Cell, FillReport], None]


@dataclass(slots=True)
class Fill:
    """One filling of partitions of one dataset.

    Attributes:
        stores: of the KLINE_HOME.
        client: of the exchange.
        dataset: of the partitions.
        concurrency: requests in flight.
        now_ms: the exchange's time when it began.
        on_pages: told after each page how many came and how many are planned so far.
    """

    stores: Stores
    client: BybitClient
    dataset: Dataset
    concurrency: int
    now_ms: int
    on_pages: Callable[[int, int], None] = lambda _done, _planned: None
    _pages: tuple[int, int] = (0, 0)
    _lives: KnownLives = field(init=False)

    def __post_init__(self) -> None:
        self._lives = KnownLives(self.stores, self.client, self.dataset.category, self.now_ms)

    def run(self, cells: Sequence[Cell], on_ready: OnReady = lambda _cell, _report: None) -> dict[Cell, FillReport]:
        """Fetch what is missing of the partitions and return what was done, per partition.

        Args:
            cells: the partitions.
            on_ready: told each partition as soon as nothing more is to be fetched of it, while others still are.

        Raises:
            ExchangeError: a retryable one after all attempts; whole batches received before it are kept.
            StorageError: the database or a folder failed.
        """
        for cell in cells:
            set_spoilt_aside(self.stores, self.dataset, cell)
        self._lives.learn(cell.symbol for cell in cells)
        reports = {cell: FillReport() for cell in sorted(cells, key=lambda one: (one.symbol, one.date))}
        wanted = {cell: found for cell, report in reports.items() if (found := self._wanted(cell, report)) is not None}
        left = dict(reports)

        def ready(cell: Cell) -> None:
            report = left.pop(cell)
            self._note(cell, report)
            on_ready(cell, report)

        def answered(one: Wanted) -> None:
            cell = Cell(one.date, one.series.symbol)
            _add(reports[cell], one)
            if not one.absent:  # else it is asked once more first
                ready(cell)

        for cell in [cell for cell in reports if cell not in wanted or not wanted[cell].windows]:
            ready(cell)
        first = [self._ahead(one) for one in wanted.values() if one.windows]
        self._fetch(first, answered)
        again = [self._again(one) for one in first if one.absent]
        self._probe_ends(first)
        self._fetch(again, lambda one: _add(reports[Cell(one.date, one.series.symbol)], one))
        for one in again:
            cell = Cell(one.date, one.series.symbol)
            self._note(cell, reports[cell])  # what the exchange refused never confirms a gap
            if one.absent and reports[cell].fetch_error is None:
                reports[cell].requests += self._confirm(cell)
            ready(cell)
        return reports

    def _confirm(self, cell: Cell) -> int:
        """Ask what speaks against the gaps of a partition; a refusal leaves them as they are."""
        try:
            return confirm_gaps(self.stores, self.client, self.dataset, cell, now_ms=self.now_ms)
        except BadRequest:
            return 1

    def windows_missing(self, cells: Sequence[Cell]) -> dict[Cell, list[Window]]:
        """Return what `run` would fetch, per partition; nothing is fetched but listings that are not known."""
        self._lives.learn(cell.symbol for cell in cells)
        found = ((cell, self._wanted(cell, FillReport())) for cell in cells)
        return {cell: one.windows if one is not None else [] for cell, one in found}

    def _wanted(self, cell: Cell, report: FillReport) -> Wanted | None:
        """Return what is to be fetched of a partition; None when the instrument was refused, noted in the report."""
        listing = self._lives.of(cell.symbol)
        if isinstance(listing, str):
            report.fetch_error = listing
            return None
        window = self.dataset.window(cell.date)
        end_ms = min(window.end_ms, self._closed_end())
        if end_ms > listing.probed_at_ms and not listing.goes_on:
            # It may have been listed again since: what a probe says of the end holds until the probe.
            listing = self._lives.of(cell.symbol, again=True)
            if isinstance(listing, str):
                report.fetch_error = listing
                return None
        parts = listing.windows(self.dataset.interval, window)
        closed = Window(window.start_ms, max(window.start_ms, end_ms))
        missing = subtract(intersect_all([closed], parts), self._held_good(cell))
        report.not_listed = not parts
        report.held = not missing
        return Wanted(self.dataset.series(cell.symbol), cell.date, window, missing)

    def _closed_end(self) -> int:
        return self.dataset.interval.closed_end(self.now_ms, self.stores.grace_ms)

    def _held_good(self, cell: Cell) -> list[Window]:
        """Return what need not be fetched; once the last candle has closed, only what was read after that.

        What a repair distrusts does not count either, nor a known gap that is due.
        """
        stores, series = self.stores, self.dataset.series(cell.symbol)
        with stores.database.translate_errors(), stores.database.engine.begin() as connection:
            partition_lock(connection, series, cell.date)
            names, known = stores.raw.names(series, cell.date), known_of(connection, self.dataset, cell)
            if not names:
                return []
            since_ms = known.closes_ms + stores.grace_ms
            since_ms = max(since_ms if since_ms <= self.now_ms else 0, known.read_after_ms)
            row, generation = known.row, str(Generation.of(names, known.prune_epoch))
            stands = row is not None and (row.state, row.generation) == ("landed", generation)
            is_due = row is not None and row.ask_again_at is not None and to_ms(row.ask_again_at) <= self.now_ms
            if row is not None and stands and (row.read_whole or not since_ms) and not is_due:
                return merge(name.covered for name in names)
            looked = look(stores, self.dataset, cell, known, names, now_ms=self.now_ms)
        held = subtract(looked.derivation.answers.held(since_ms), looked.judgement.offended)
        gaps = windows_of(known_gaps_in(known, looked.judgement), self.dataset.interval) if is_due else []
        return subtract(held, gaps)

    def _fetch(self, wanted: Sequence[Wanted], on_answered: Callable[[Wanted], None]) -> None:
        before, planned = self._pages

        def tell(done: int, of: int) -> None:
            self._pages = (before + done, planned + of)
            self.on_pages(*self._pages)

        fetch(
            self.client,
            self.stores.raw,
            wanted,
            grace_ms=self.stores.grace_ms,
            concurrency=self.concurrency,
            on_page=tell,
            on_answered=on_answered,
        )

    def _ahead(self, one: Wanted) -> Wanted:
        """Ask an open partition beyond now: the server time of its last page, not ours, then says where it ends."""
        interval, now_ms = self.dataset.interval, self._closed_end()
        if not one.windows or one.windows[-1].end_ms != now_ms or one.window.end_ms <= now_ms:
            return one
        ahead = Window(now_ms, min(one.window.end_ms, interval.ceil(now_ms + _AHEAD_SLOTS * interval.typical_ms)))
        return Wanted(one.series, one.date, one.window, merge([*one.windows, ahead]))

    @staticmethod
    def _again(one: Wanted) -> Wanted:
        """Ask again for what the answers lacked; for the last candles as far as before, for more may have closed."""
        windows = list(one.absent)
        if windows[-1].end_ms == one.covered[-1].end_ms < one.windows[-1].end_ms:
            windows = merge([*windows, Window(one.covered[-1].end_ms, one.windows[-1].end_ms)])
        return Wanted(one.series, one.date, one.window, windows)

    def _probe_ends(self, wanted: Sequence[Wanted]) -> None:
        """Ask anew for the lives of symbols that lack their last candles: they may have been delisted since."""
        ends = {one.series.symbol for one in wanted if one.absent and one.absent[-1].end_ms == one.covered[-1].end_ms}
        for symbol in sorted(ends):
            self._lives.of(symbol, again=True)

    def _note(self, cell: Cell, report: FillReport) -> None:
        series, window = self.dataset.series(cell.symbol), self.dataset.window(cell.date)
        with self.stores.database.translate_errors(), self.stores.database.engine.begin() as connection:
            key = series_id(connection, series)
            coverage.note_fetch_error(
                connection,
                key,
                cell.date,
                window,
                report.fetch_error,
                ask_again_ms=self.now_ms + _REFUSED_WAIT_MS,
            )
            if report.held and not self.stores.raw.names(series, cell.date):
                coverage.note_filled(connection, key, cell.date, window, now_ms=self.now_ms)


def _add(report: FillReport, one: Wanted) -> None:
    report.requests += one.requests
    report.rows += one.rows
    report.size_bytes += one.size_bytes
    report.fetch_error = report.fetch_error or one.fetch_error
