"""One text of a number: exact, without exponent or needless zeros, and the same back from decimals."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.market.schema import (
    CANDLE_SCHEMA,
    SNAPSHOT_SCHEMA,
    canonical,
    decimals,
    sha256_of,
    text_of_decimals,
)


@pytest.mark.parametrize(
    ("served", "text"),
    [
        ("43488", "43488"),
        ("0.10", "0.1"),
        ("100", "100"),
        ("100.00", "100"),
        ("0.000", "0"),
        ("007.5", "7.5"),
        ("0", "0"),
    ],
)
def test_a_number_has_one_canonical_text(served: str, text: str) -> None:
    assert canonical(pa.array([served])).to_pylist() == [text]


@given(st.lists(st.decimals(min_value=0, max_value=10**19, places=18, allow_nan=False), min_size=1))
def test_decimals_and_canonical_text_are_the_same_numbers(numbers: list[Decimal]) -> None:
    texts = canonical(pa.chunked_array([[f"{number:f}" for number in numbers]]))

    assert [Decimal(text) for text in texts.to_pylist()] == numbers
    assert text_of_decimals(decimals(texts)).to_pylist() == texts.to_pylist()


def test_turnover_keeps_digits_that_a_float_would_lose() -> None:
    served = "325599405.76492207"

    assert text_of_decimals(decimals(pa.chunked_array([[served]]))).to_pylist() == [served]
    assert repr(float(served)) != served


def test_snapshots_hold_exact_decimals_and_utc_milliseconds() -> None:
    assert SNAPSHOT_SCHEMA.field("close").type == pa.decimal128(38, 18)
    assert SNAPSHOT_SCHEMA.field("open_time").type == pa.timestamp("ms", tz="UTC")


def test_one_other_digit_is_another_checksum() -> None:
    row = {"open_time_ms": 0, "open": "1", "high": "1", "low": "1", "close": "1", "volume": "1", "turnover": "1"}
    tables = [pa.Table.from_pylist([{**row, "turnover": text}], schema=CANDLE_SCHEMA) for text in ("1", "1.1")]

    assert sha256_of(tables[0]) != sha256_of(tables[1])
