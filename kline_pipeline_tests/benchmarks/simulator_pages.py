"""Prints how many full pages a second the simulator serves on one core, by interval.

Run: python kline_pipeline_tests/benchmarks/simulator_pages.py. CPU seconds are counted, so that a
busy machine does not matter: of the exchange alone, then of the server process behind a client.
"""

import resource
import subprocess
import sys
import time

import httpx

from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.market import SyntheticHistory

PAGES = 150
SERIES = (("linear", "BTCUSDT"), ("spot", "BTCUSDT"), ("inverse", "BTCUSD"))
INTERVALS = ("1", "60", "720", "D", "W", "M")
MAIN = "import typer\nfrom kline_pipeline.cli.simulate import simulate\ntyper.run(simulate)\n"
LIMITLESS = "1000000000"


def queries(category: str, symbol: str, interval: str, now_ms: int) -> list[dict[str, str]]:
    """Full pages further and further back."""
    series = {"category": category, "symbol": symbol, "interval": interval, "limit": "1000"}
    return [{**series, "end": str(now_ms - page * 3_600_000)} for page in range(PAGES)]


def exchange_alone(now_ms: int) -> dict[tuple[str, str], float]:
    """CPU seconds per page of Exchange.handle, by category and interval."""
    history = SyntheticHistory(7, now_ms=now_ms)
    exchange = Exchange(history, clock=lambda: now_ms, requests_per_5s=int(LIMITLESS))
    found = {}
    for category, symbol in SERIES:
        for interval in INTERVALS:
            asked = queries(category, symbol, interval, now_ms)
            exchange.handle("GET", "/v5/market/kline", asked[0])
            began = time.process_time()
            for query in asked:
                exchange.handle("GET", "/v5/market/kline", query)
            found[category, interval] = (time.process_time() - began) / PAGES
    return found


def over_loopback(now_ms: int) -> float:
    """CPU seconds per page of a server process, all series and intervals mixed."""
    options = ["--port", "0", "--requests-per-5s", LIMITLESS]
    with subprocess.Popen([sys.executable, "-c", MAIN, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        pages = 0
        with httpx.Client(base_url=url, timeout=60) as client:
            for category, symbol in SERIES:
                for interval in INTERVALS:
                    for query in queries(category, symbol, interval, now_ms):
                        client.get("/v5/market/kline", params=query).raise_for_status()
                        pages += 1
        process.terminate()
    # The start of the process (imports, day shapes, inverse sums) is in it too.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / pages


def main() -> None:
    """Print pages per CPU second."""
    now_ms = time.time_ns() // 1_000_000
    for (category, interval), cost_s in exchange_alone(now_ms).items():
        print(f"{category:8}{interval:>4}{1 / cost_s:8.0f} pages/s")
    print(f"over loopback, all mixed{1 / over_loopback(now_ms):8.0f} pages/s of server CPU")


if __name__ == "__main__":
    main()
