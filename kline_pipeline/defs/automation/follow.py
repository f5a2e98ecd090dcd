"""The sensors that take up what the exchange lists: one for each dataset with `follow`; none ever takes a symbol away.

What is listed, new or ended is told in evidence/following. datasets.toml is read at every tick, so that `series remove`
counts at once; a dataset that is new there needs a reload of the code location.
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from kline_pipeline import datasets
from kline_pipeline.config import Settings
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.run_lines import tick_lines
from kline_pipeline.defs.size import size_warning
from kline_pipeline.defs.symbols import known_symbols, partitions_name
from kline_pipeline.errors import DatasetsError
from kline_pipeline.evidence.following import Stock, take_stock
from kline_pipeline.opening import Opened, opened

_EVERY_S: Final = 600
_NAMED: Final = 20


def follow_sensors(declared: Sequence[Dataset]) -> list[dg.SensorDefinition]:
    """Return a sensor for each dataset that follows the exchange, running unless it is switched off in the UI."""
    return [_sensor(dataset) for dataset in declared if dataset.follow is not None]


def _sensor(declared: Dataset) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"follow_{declared.name}",
        minimum_interval_seconds=_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds the symbols that the exchange lists and `follow` fits, and marks those that it delisted",
    )
    def follow(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        with tick_lines(f"follow_{declared.name}") as settings:
            dataset = _as_it_is_now(declared, settings)
            if dataset is None or dataset.follow is None:
                return dg.SkipReason(f"datasets.toml has no {declared.name} that follows; reload the code location")
            with opened(settings) as work:
                return _tick(context, settings, work, dataset)

    return follow


def _as_it_is_now(declared: Dataset, settings: Settings) -> Dataset | None:
    by_name = {one.name: one for one in datasets.load(settings.datasets_file)}
    return by_name.get(declared.name)


def _tick(
    context: dg.SensorEvaluationContext, settings: Settings, work: Opened, dataset: Dataset
) -> dg.SensorResult | dg.SkipReason:
    work.pipeline.claim()
    known, now_ms = known_symbols(context.instance, dataset), work.pipeline.now_ms()
    grace_ms = round(settings.bybit.close_grace_s * 1000)
    stock = take_stock(work.database, work.client, dataset, known, grace_ms=grace_ms, now_ms=now_ms)
    for sentence in _told(dataset, stock):
        context.log.info(sentence)
    if not stock.new:
        return dg.SkipReason(
            f"{dataset.name} has the {len(known)} symbols it is to have; {stock.listed} are listed. "
            + " ".join(_told(dataset, stock))
        )
    try:
        warning = size_warning(dataset, len(known) + len(stock.new), now_ms)
    except DatasetsError as exc:
        return dg.SkipReason(f"none of {len(stock.new)} new symbols was added: {exc}")
    if warning:
        context.log.warning(warning)
    request = dg.DynamicPartitionsDefinition(name=partitions_name(dataset)).build_add_request(list(stock.new))
    return dg.SensorResult(dynamic_partitions_requests=[request], skip_reason=" ".join(_told(dataset, stock)))


def _told(dataset: Dataset, stock: Stock) -> list[str]:
    told = []
    if stock.delisted:
        told.append(f"{_some(stock.delisted)}: delisted; the candles stay, and no more will come.")
    if stock.new:
        told.append(f"{dataset.name} takes up {_some(stock.new)}.")
    if stock.not_yet:
        told.append(f"Not yet, for want of a candle: {_some(stock.not_yet)}.")
    return told


def _some(symbols: Sequence[str]) -> str:
    rest = len(symbols) - _NAMED
    return ", ".join(symbols[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
