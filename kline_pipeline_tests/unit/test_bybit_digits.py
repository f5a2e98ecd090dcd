"""The columns of a page hold the plain decimals that were served, and nothing else gets into one."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.bybit.digits import NotPlain, NotRows, columns

PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
TEXTS = st.one_of(st.from_regex(PLAIN, fullmatch=True), st.text('0123456789.-+eE ",[]\\\u0663\u00e9', max_size=5))
ROWS = st.lists(st.tuples(st.from_regex(WHOLE, fullmatch=True) | TEXTS, TEXTS, TEXTS), max_size=6)


def compact(rows: object) -> bytes:
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()


@given(ROWS, st.booleans())
def test_columns_hold_plain_decimals_or_name_a_text_that_is_none(rows: list[tuple[str, ...]], blanks: bool) -> None:
    raw = json.dumps(rows).encode() if blanks else compact(rows)
    bad = [row[at] for row in rows for at in range(3) if not (PLAIN if at else WHOLE).fullmatch(row[at])]
    if not bad:
        found = [column.to_pylist() for column in columns(raw, 3)]
        assert found == [[row[at] for row in rows] for at in range(3)]
        return
    with pytest.raises((NotPlain, NotRows)) as caught:
        columns(raw, 3)
    if isinstance(caught.value, NotPlain) and not any(set(text) & set('"\\\\') for text in bad):
        assert caught.value.text in bad


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1..2", "1.2.3", "1e5", "-1", "+1", " 1", "1 ", "1_0", "\u0663", "/", ":", "1,2", "[1"],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_is_no_plain_decimal_is_refused(text: str, at: int) -> None:
    row = ["1", "2", "3"]
    row[at] = text
    with pytest.raises(NotPlain):
        columns(compact([["1", "2", "3"], row, ["4", "5", "6"]]), 3)


@pytest.mark.parametrize("text", ["1.5", "1" * 16])
def test_what_is_no_millisecond_number_is_no_open_time(text: str) -> None:
    with pytest.raises(NotPlain) as caught:
        columns(compact([["1", "2", "3"], [text, "2", "3"]]), 3)
    assert (caught.value.text, caught.value.column) == (text, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b'["1","2","3"]', b'[["1","2"]]', b'[["1","2","3","4"]]', b'[["1","2","3"],["1","2"]]', b'[["1",2,"3"]]',
        b'[["1","2","3"]', b'["1","2","3"]]', b'[["1","2","3"],]', b'[["1","2","3"]["1","2","3"]]', b"{}", b"", b"[[]]",
        b'[["1","2"],["3","1","2","3"]]', b'[["1";"2","3"]]', b'[["1","2","3"];["1","2","3"]]',
        b'[["1","2","3"],{"1","2","3"]]',
        b'{["1","2","3"]]', b'[["1","2","3"]}', b'[["1","2","3"]] x', b'[["1""2","3","4"]]',
    ],
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused(raw: bytes) -> None:
    with pytest.raises((NotRows, NotPlain)):
        columns(raw, 3)


def test_no_rows_are_empty_columns() -> None:
    assert [column.to_pylist() for column in columns(b"[]", 3)] == [[], [], []]
    assert [column.to_pylist() for column in columns(b"[ ]", 3)] == [[], [], []]
