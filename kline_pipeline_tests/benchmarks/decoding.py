"""What decoding a page costs beside orjson alone over the same bytes; a process of its own, run by the benchmarks.

Run: python -m kline_pipeline_tests.benchmarks.decoding   (prints CPU ms per page of 1000 candles, as JSON)
"""

import json
from collections.abc import Callable

import orjson
import pyarrow as pa

from kline_pipeline.bybit.messages import Answer, kline_rows, open_envelope
from kline_pipeline.bybit.pages import plan
from kline_pipeline.market.schema import CANDLE_SCHEMA, decimals
from kline_pipeline.market.series import Series
from kline_pipeline_tests.benchmarks.floors import bodies, cpu_s
from kline_pipeline_tests.benchmarks.works import WORKS
from kline_pipeline_tests.benchmarks.world import settings_of, world
from kline_pipeline_tests.worlds import NoBudget

_PAGES = 30


def main() -> None:
    """Measure orjson alone, our exact columns of text, and those as decimals."""
    work = WORKS["W1"]
    series = work.series[0]
    asks = [(series, page) for page in plan(work.window, series.interval)[:_PAGES]]
    with world("--requests-per-5s", "100000", latency_ms=0) as here:
        pages = bodies(settings_of(here.home, base_url=here.url).bybit, NoBudget(), asks)
    costs = {"orjson": orjson.loads, "exact text": _text_of(series), "decimal128": _decimals_of(series)}
    print(json.dumps({name: _ms_per_page(step, pages) for name, step in costs.items()}))


def _text_of(series: Series) -> Callable[[bytes], pa.Table]:
    def decode(body: bytes) -> pa.Table:
        answer = Answer(host="", asked="", status=200, headers={}, body=body)
        return kline_rows(answer, open_envelope(answer), category=series.category, symbol=series.symbol)

    return decode


def _decimals_of(series: Series) -> Callable[[bytes], list[pa.ChunkedArray]]:
    text = _text_of(series)

    def decode(body: bytes) -> list[pa.ChunkedArray]:
        table = text(body)
        return [decimals(table[name]) for name in CANDLE_SCHEMA.names[1:]]

    return decode


def _ms_per_page(step: Callable[[bytes], object], pages: list[bytes]) -> float:
    return cpu_s(lambda: [step(page) for page in pages]) / len(pages) * 1000


if __name__ == "__main__":
    main()
