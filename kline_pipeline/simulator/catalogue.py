"""The symbols of the synthetic exchange: their lives, steps, and rough price and volume.

What makes them worth testing is said next to each. The candles themselves come from market.
"""

from kline_pipeline.simulator.grid import DAY_MS, month_ms, month_number, utc_ms
from kline_pipeline.simulator.nature import Entry, Nature, make_entry


def catalogue(now_ms: int, numbered: int = 0) -> list[Entry]:
    """Return every instrument that exists, existed, or will be listed within a year of `now_ms`.

    What an entry says does not depend on `now_ms`, only how many monthly ones there are.

    Args:
        now_ms: the time of the exchange.
        numbered: how many linear SYM001USDT, SYM002USDT, ... there are besides, at most 999.
    """
    return [*_linear(), *_monthly(now_ms), *_numbered(numbered), *_inverse(), *_spot()]


def _linear() -> list[Entry]:
    at = utc_ms
    return [
        # launchTime is five days later than the first candle, as on the real exchange.
        make_entry(
            "linear",
            "BTC",
            [(at(2020, 3, 25, 10, 36), None)],
            "0.1",
            "0.001",
            Nature(6500, 0.42, 90_000),
            launch_ms=at(2020, 3, 30),
        ),
        make_entry(
            "linear",
            "ETH",
            [(at(2020, 10, 21, 4, 9), None)],
            "0.01",
            "0.01",
            Nature(380, 0.35, 900_000),
        ),
        make_entry(
            "linear",
            "SOL",
            [(at(2021, 6, 29, 9, 0), None)],
            "0.01",
            "0.1",
            Nature(33, 0.3, 9_000_000),
        ),
        make_entry("linear", "XRP", [(at(2021, 5, 13, 7, 20), None)], "0.0001", "1", Nature(1.3, 0.1, 3e8)),
        make_entry(
            "linear",
            "DOGE",
            [(at(2021, 6, 2, 6, 30), None)],
            "0.00001",
            "1",
            Nature(0.36, -0.1, 2e9),
        ),
        make_entry(
            "linear",
            "1000PEPE",
            [(at(2023, 5, 5, 12, 30), None)],
            "0.0000001",
            "100",
            Nature(0.0021, 0.4, 5e10),
        ),
        make_entry(
            "linear",
            "DOT",
            [(at(2021, 3, 9, 3, 0), None)],
            "0.0001",
            "0.1",
            Nature(34, -0.4, 6_000_000),
        ),
        make_entry("linear", "ADA", [(at(2021, 1, 15, 2, 0), None)], "0.0001", "1", Nature(0.31, 0.1, 2e8)),
        make_entry(
            "linear",
            "AVAX",
            [(at(2021, 9, 14, 3, 0), None)],
            "0.001",
            "0.1",
            Nature(60, -0.2, 5_000_000),
        ),
        make_entry(
            "linear",
            "LINK",
            [(at(2020, 10, 21, 8, 0), None)],
            "0.001",
            "0.1",
            Nature(11, 0.1, 4_000_000),
        ),
        make_entry(
            "linear",
            "APE",
            [(at(2022, 3, 17, 14, 30), None)],
            "0.0001",
            "0.1",
            Nature(9, -0.5, 3_000_000, quiet=True),
        ),
        # Delisted in the middle of a month, still served; its launchTime is Bybit's placeholder.
        make_entry(
            "linear",
            "LUNA",
            [(at(2021, 8, 12, 6, 0), at(2022, 5, 13, 8, 1))],
            "0.001",
            "0.1",
            Nature(16, 0.5, 9_000_000),
            launch_ms=946_684_800_000,
        ),
        # Delisted and listed again under the same name, both ends inside one UTC day.
        make_entry(
            "linear",
            "ZKJ",
            [(at(2023, 11, 2, 10, 0), at(2024, 6, 10, 7, 30)), (at(2024, 6, 10, 19, 15), None)],
            "0.0001",
            "1",
            Nature(1.2, 0.2, 40_000_000, quiet=True),
        ),
    ]


def _monthly(now_ms: int) -> list[Entry]:
    # One symbol is listed on the first of every month at 08:00 and delisted a year and 15 days
    # later, so that at any time one is new, one is PreLaunch (the next) and one is Delivering.
    first = utc_ms(2023, 1, 1)
    entries = []
    for number in range(month_number(first), month_number(now_ms) + 13):
        opens, name = (
            month_ms(number) + 8 * 3_600_000,
            f"NEW{number // 12 % 100:02d}{number % 12 + 1:02d}",
        )
        life = (opens, month_ms(number + 12) + 15 * DAY_MS + 9 * 3_600_000)
        entries.append(
            make_entry(
                "linear",
                name,
                [life],
                "0.0001",
                "1",
                Nature(0.5 + number % 7, 0.1, 30_000_000, quiet=True),
                delivering_ms=30 * DAY_MS,
            )
        )
    return entries


def _numbered(count: int) -> list[Entry]:
    # For tests of scale: many that are all alike but for their candles, listed on one day.
    life = (utc_ms(2021, 1, 1, 8), None)
    return [
        make_entry("linear", f"SYM{number:03d}", [life], "0.001", "0.1", Nature(5 + number % 90, 0.1, 3_000_000))
        for number in range(1, count + 1)
    ]


def _inverse() -> list[Entry]:
    at = utc_ms
    return [
        make_entry("inverse", "BTC", [(at(2018, 11, 14, 16, 0), None)], "0.5", "1", Nature(5600, 0.36, 3e8)),
        make_entry("inverse", "ETH", [(at(2019, 1, 25, 2, 0), None)], "0.05", "1", Nature(117, 0.45, 6e7)),
        make_entry(
            "inverse",
            "EOS",
            [(at(2019, 2, 1, 2, 0), at(2025, 5, 28, 9, 0))],
            "0.001",
            "1",
            Nature(2.4, -0.1, 5e6, quiet=True),
        ),
    ]


def _spot() -> list[Entry]:
    at = utc_ms
    return [
        make_entry(
            "spot",
            "BTC",
            [(at(2021, 7, 5, 12, 0), None)],
            "0.01",
            "0.000001",
            Nature(34000, 0.2, 9000),
        ),
        make_entry(
            "spot",
            "ETH",
            [(at(2021, 7, 5, 12, 0), None)],
            "0.01",
            "0.00001",
            Nature(2300, 0.1, 90_000),
        ),
        make_entry(
            "spot",
            "SOL",
            [(at(2021, 9, 30, 8, 0), None)],
            "0.01",
            "0.001",
            Nature(140, 0.05, 900_000),
        ),
        make_entry("spot", "XRP", [(at(2021, 7, 5, 12, 0), None)], "0.0001", "0.01", Nature(0.65, 0.2, 4e7)),
        # Listed twice: no candles inside the hole, and questions inside it answer with older rows.
        make_entry(
            "spot",
            "SHIB",
            [(at(2021, 7, 20, 10, 0), at(2021, 11, 29, 6, 12)), (at(2021, 12, 7), None)],
            "0.00000001",
            "1",
            Nature(0.00004, 0.1, 2e11),
        ),
        # Gone from instruments-info, candles still there.
        make_entry(
            "spot",
            "AGIX",
            [(at(2023, 2, 9, 8, 0), at(2024, 7, 1, 8, 0))],
            "0.00001",
            "0.01",
            Nature(0.4, 0.2, 6_000_000, quiet=True),
            vanished=True,
        ),
        # Gone altogether: "Not supported symbols".
        make_entry(
            "spot",
            "BOB",
            [(at(2022, 6, 1, 8, 0), at(2023, 8, 1, 8, 0))],
            "0.00001",
            "1",
            Nature(0.1, 0.0, 6_000_000),
            vanished=True,
            supported=False,
        ),
    ]
