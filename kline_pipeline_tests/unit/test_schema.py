"""One text of a number: exact, without exponent or needless zeros, and the same back from decimals."""

import hashlib
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.market.schema import (
    CANDLE_SCHEMA,
    DECIMAL,
    NUMBER_COLUMNS,
    SNAPSHOT_SCHEMA,
    canonical,
    decimals,
    floats,
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
        ("10.010", "10.01"),
        ("007.50", "7.5"),
        ("1050", "1050"),
    ],
)
def test_a_number_has_one_canonical_text(served: str, text: str) -> None:
    assert canonical(pa.array([served])).to_pylist() == [text]


@given(st.lists(st.from_regex(r"\A[0-9]{1,6}(\.[0-9]{1,4})?\Z", fullmatch=True), min_size=2))
def test_canonical_text_is_the_shortest_of_its_number(served: list[str]) -> None:
    texts = canonical(pa.chunked_array([served]).slice(1)).to_pylist()

    parts = [one.partition(".") for one in served[1:]]
    shortest = [f"{int(whole)}.{fraction.rstrip('0')}".rstrip(".") for whole, _, fraction in parts]
    assert texts == shortest


@given(st.lists(st.decimals(min_value=0, max_value=10**19, places=18, allow_nan=False), min_size=1))
def test_decimals_and_canonical_text_are_the_same_numbers(numbers: list[Decimal]) -> None:
    texts = canonical(pa.chunked_array([[f"{number:f}" for number in numbers]]))

    assert [Decimal(text) for text in texts.to_pylist()] == numbers
    assert text_of_decimals(decimals(texts)).to_pylist() == texts.to_pylist()


@given(st.lists(st.decimals(min_value=0, max_value=10**19, places=18, allow_nan=False), min_size=1), st.integers(0, 18))
def test_a_float_is_the_nearest_to_its_decimal(numbers: list[Decimal], places: int) -> None:
    texts = [f"{number:.{places}f}" for number in numbers]

    assert floats(decimals(pa.chunked_array([texts]))).tolist() == [float(text) for text in texts]


@given(st.lists(st.integers(0, 2**70), min_size=1), st.sampled_from([10**10, 10**14, 2**64, 1]))
def test_no_number_is_taken_for_another_with_the_same_last_bits(numbers: list[int], step: int) -> None:
    values = [Decimal(number * step % 10**37).scaleb(-18) for number in numbers]
    texts = [f"{value:f}" for value in values]
    chunks = pa.chunked_array([pa.array(values[:1], DECIMAL), pa.array([None, *values], DECIMAL).slice(1)])

    assert floats(chunks).tolist() == [float(text) for text in [texts[0], *texts]]


@pytest.mark.parametrize(
    "texts",
    [
        ["9007199254740993"],
        ["900719925474.0993", "1"],
        ["325599405.76492207", "0.5"],
        ["18.446744073709551616", "-1.5", "0"],
        [],
    ],
)
def test_a_number_with_too_many_digits_for_one_step_is_the_nearest_float_too(texts: list[str]) -> None:
    assert floats(decimals(pa.chunked_array([pa.array(texts, pa.string())]))).tolist() == [
        float(text) for text in texts
    ]


def test_a_command_makes_arrays_without_loading_pandas_and_frames_with_it() -> None:
    program = """
import sys
import numpy as np
import pyarrow as pa
from kline_pipeline.market.arrow import leave_pandas_alone
leave_pandas_alone()
table = pa.table({"x": pa.array(np.arange(3))})
assert table["x"].to_numpy().tolist() == [0, 1, 2]
print("pandas" in sys.modules, end=" ")
print(table.to_pandas()["x"].sum(), "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "3", "True"]


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


def test_the_checksum_is_of_the_lines_however_the_table_is_cut() -> None:
    rows = [{"open_time_ms": 60_000 * row, **dict.fromkeys(NUMBER_COLUMNS, f"{row}.5")} for row in range(5)]
    table = pa.Table.from_pylist(rows, schema=CANDLE_SCHEMA)
    lines = "".join(
        "\t".join([str(row["open_time_ms"]), *(str(row[name]) for name in NUMBER_COLUMNS)]) + "\n" for row in rows
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()

    cut = pa.concat_tables([table.slice(0, 2), table.slice(2, 0), table.slice(2, 3)])
    assert {sha256_of(table), sha256_of(cut), sha256_of(pa.concat_tables([table, table]).slice(5))} == {expected}
    assert sha256_of(table.slice(0, 0)) == hashlib.sha256(b"").hexdigest()
