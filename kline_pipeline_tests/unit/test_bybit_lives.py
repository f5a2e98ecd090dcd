"""The lives of an instrument: exact ends, holes, every status, few requests."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kline_pipeline.bybit.lives import Lives, probe_lives
from kline_pipeline.bybit.side_by_side import side_by_side
from kline_pipeline.errors import BadSymbol, MalformedAnswer
from kline_pipeline.market.window import iso, to_ms
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline.simulator.replay import ReplayHistory
from kline_pipeline.simulator.transport import SimulatorTransport
from kline_pipeline_tests.exchanges import Asked, simulated

NOW_MS = 1_763_900_000_000  # 2025-11-23T12:13:20Z


def spans(found: Lives) -> list[tuple[str, str | None]]:
    return [(iso(life.from_ms), iso(life.until_ms) if life.until_ms else None) for life in found.lives]


def probe(category: str, symbol: str, *faults: dict[str, object], now_ms: int = NOW_MS) -> tuple[Lives, Asked]:
    with simulated(now_ms=now_ms, retry_max_attempts=2) as (asked, exchange):
        exchange.faults.replace(list(faults))
        return probe_lives(asked.client, category, symbol, grace_ms=10_000), asked


def drop(symbol: str, category: str, interval: str, open_time: str) -> dict[str, object]:
    words = {"category": category, "symbol": symbol, "interval": interval, "open_time": open_time}
    return {"drop": words}


@pytest.mark.parametrize(
    ("category", "symbol", "expected"),
    [
        ("linear", "BTCUSDT", [("2020-03-25T10:36:00Z", None)]),
        ("linear", "LUNAUSDT", [("2021-08-12T06:00:00Z", "2022-05-13T08:01:00Z")]),
        (
            "spot",
            "SHIBUSDT",
            [("2021-07-20T10:00:00Z", "2021-11-29T06:12:00Z"), ("2021-12-07T00:00:00Z", None)],
        ),
        ("spot", "AGIXUSDT", [("2023-02-09T08:00:00Z", "2024-07-01T08:00:00Z")]),
        ("inverse", "EOSUSD", [("2019-02-01T02:00:00Z", "2025-05-28T09:00:00Z")]),
        ("linear", "NEW2511USDT", [("2025-11-01T08:00:00Z", None)]),
        ("linear", "NEW2512USDT", []),
    ],
)
def test_lives_begin_and_end_with_their_first_and_last_candle(
    category: str, symbol: str, expected: list[tuple[str, str | None]]
) -> None:
    found, _ = probe(category, symbol)
    assert spans(found) == expected
    assert found.probed_at_ms == NOW_MS


def test_several_are_probed_side_by_side_and_one_that_nobody_knows_is_named() -> None:
    names = [("linear", "BTCUSDT"), ("spot", "SHIBUSDT"), ("linear", "LUNAUSDT")]
    with simulated(now_ms=NOW_MS) as (asked, _):

        def lives_of(one: tuple[str, str]) -> Lives:
            return probe_lives(asked.client, *one, grace_ms=10_000)

        found = side_by_side(lives_of, names, 3)
        assert [(one.category, one.symbol) for one in found] == names
        assert [spans(one) for one in found] == [spans(probe(*one)[0]) for one in names]
        with pytest.raises(BadSymbol, match="NOBODYUSDT"):
            side_by_side(lives_of, [names[0], ("linear", "NOBODYUSDT")], 2)


def test_a_symbol_that_trades_costs_seven_requests_one_of_them_for_minutes() -> None:
    found, asked = probe("linear", "BTCUSDT")
    time, *sent = [(request.url.path.rsplit("/", 1)[1], request.url.params.get("interval")) for request in asked.sent]
    assert time == ("time", None)  # a client that had heard of it before does not ask
    assert sorted(sent[:2]) == [("instruments-info", None), ("kline", "M")]
    assert [interval for _, interval in sent[2:]] == ["D", "D", "D", "60", "1"]
    assert found.instrument is not None
    assert found.instrument.launch_time_ms != found.lives[0].from_ms


def test_every_status_is_asked_for_until_the_symbol_is_found() -> None:
    found, asked = probe("linear", "NEW2410USDT")
    assert found.instrument is not None
    assert found.instrument.status == "Closed"
    assert found.lives[-1].until_ms == to_ms(datetime(2025, 10, 16, 9, tzinfo=UTC))
    assert "Closed" in [request.url.params.get("status") for request in asked.sent]


def test_coarse_candles_that_are_left_out_do_not_end_a_life_early() -> None:
    hours = [drop("NEW2410USDT", "linear", "60", f"2025-10-16T{hour}:00:00Z") for hour in ("07", "08")]
    found, _ = probe("linear", "NEW2410USDT", *hours)
    assert found.lives[-1].until_ms == to_ms(datetime(2025, 10, 16, 9, tzinfo=UTC))


def test_a_spot_symbol_that_nobody_lists_but_that_has_fresh_candles_goes_on() -> None:
    now_ms = to_ms(datetime(2024, 7, 1, 7, 30, 30, tzinfo=UTC))
    found, _ = probe("spot", "AGIXUSDT", now_ms=now_ms)
    assert found.instrument is None
    assert spans(found) == [("2023-02-09T08:00:00Z", None)]


@pytest.mark.parametrize(
    ("category", "symbol"),
    [
        ("linear", "NOPEUSDT"),
        ("spot", "NOPEUSDT"),
        ("spot", "BOBUSDT"),
        # Answers with linear candles, and is no inverse instrument all the same.
        ("inverse", "BTCUSDT"),
    ],
)
def test_a_symbol_that_is_none_is_refused(category: str, symbol: str) -> None:
    with pytest.raises(BadSymbol, match=symbol):
        probe(category, symbol)


def test_a_daily_candle_that_is_missing_while_its_hours_are_there_is_no_hole() -> None:
    found, asked = probe("spot", "AGIXUSDT", drop("AGIXUSDT", "spot", "D", "2023-06-10"))
    assert spans(found) == [("2023-02-09T08:00:00Z", "2024-07-01T08:00:00Z")]
    asked_for = [dict(request.url.params) for request in asked.sent]
    day = {"interval": "D", "start": "1686355200000", "end": "1686355200000"}
    assert sum(day.items() <= params.items() for params in asked_for) == 1  # once more, by itself


def test_a_missing_first_day_is_seen_by_its_hours() -> None:
    found, _ = probe("linear", "BTCUSDT", drop("BTCUSDT", "linear", "D", "2020-03-25"))
    assert spans(found) == [("2020-03-25T10:36:00Z", None)]


@pytest.mark.parametrize("month", ["2020-03-01", "2022-05-01", "2024-04-01"])
def test_a_month_without_its_own_candle_is_seen_by_its_days(month: str) -> None:
    found, _ = probe("linear", "BTCUSDT", drop("BTCUSDT", "linear", "M", month))
    assert spans(found) == [("2020-03-25T10:36:00Z", None)]


def test_a_month_without_days_is_an_error() -> None:
    days = [drop("BTCUSDT", "linear", "D", f"2022-05-{day:02}") for day in range(1, 32)]
    with pytest.raises(MalformedAnswer, match="2022-05"):
        probe("linear", "BTCUSDT", *days)


def test_the_evidence_is_json_and_says_what_was_asked_and_answered() -> None:
    found, _ = probe("spot", "SHIBUSDT")
    told = json.loads(json.dumps(found.evidence))
    asked = told["candle_requests"]
    assert [request["interval"] for request in asked[:2]] == ["M", "D"]
    assert asked[0]["first"] == "2021-07-01T00:00:00Z"
    assert asked[0]["server_time"] == iso(NOW_MS)
    assert [edge["time"] for edge in told["edges"][0]] == [
        "2021-07-20T10:00:00Z",
        "2021-11-29T06:12:00Z",
    ]


def record(folder: Path, interval: str, minutes: int, rows: int, start: str) -> None:
    begin = to_ms(datetime.fromisoformat(start).replace(tzinfo=UTC))
    lines = ["open_time,open,high,low,close,volume,turnover"]
    lines += [f"{begin + row * minutes * 60_000},1,1,1,1,1,1" for row in range(rows)]
    (folder / f"AUSDT_{interval}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "recording",
    [
        ("5m", 5, 2001, "2025-10-19T11:55", "2025-10-26T10:35"),
        ("4h", 240, 100, "2025-05-30T20:00", "2025-06-16T08:00"),
        ("1d", 1440, 50, "2025-01-01T00:00", "2025-02-19T00:00"),
        ("1w", 10080, 30, "2025-01-06T00:00", "2025-07-28T00:00"),
    ],
)
def test_recordings_of_one_interval_give_their_span(tmp_path: Path, recording: tuple[str, int, int, str, str]) -> None:
    name, minutes, rows, start, until = recording
    record(tmp_path, name, minutes, rows, start)
    exchange = Exchange(ReplayHistory(tmp_path, "linear"), clock=lambda: NOW_MS)
    asked = Asked(SimulatorTransport(exchange))
    with asked.client:
        found = probe_lives(asked.client, "linear", "AUSDT", grace_ms=10_000)
        first = len(asked.sent)
        again = probe_lives(asked.client, "linear", "AUSDT", grace_ms=10_000)
    assert spans(found) == [(f"{start}:00Z", f"{until}:00Z")]
    assert again.lives == found.lives
    refused = [request for request in found.evidence["candle_requests"] if request.get("refused")]
    assert len(asked.sent) - first <= first - len(refused) + 2  # what is not served is remembered
