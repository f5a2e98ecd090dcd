"""The one definition of columns, and the one text of a number; nothing here reads or writes.

In process a candle table has `open_time_ms` (int64, UTC, ascending, unique) and six columns of canonical text. Text and
not decimal128, because it alone feeds COPY, sha256 and comparisons, and Arrow prints small decimals with an exponent.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NUMBER_COLUMNS: Final = ("open", "high", "low", "close", "volume", "turnover")
# The only exact type that pandas, polars, pyarrow and DuckDB all read safely across series (stack.md part 1, 5).
DECIMAL: Final = pa.decimal128(38, 18)

_ZERO, _POINT = (ord(char) for char in "0.")
_PIECE: Final = 8192  # candles, half a megabyte of text
_FLOAT_SCALES: Final = (4, 8)
_EXACT: Final = 2**53  # below that every integer is a float64

CANDLE_SCHEMA: Final = pa.schema(
    [pa.field("open_time_ms", pa.int64(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in NUMBER_COLUMNS]
)
RAW_SCHEMA: Final = pa.schema(
    [
        pa.field("page", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        *CANDLE_SCHEMA,
    ]
)
SNAPSHOT_SCHEMA: Final = pa.schema(
    [pa.field(name, pa.dictionary(pa.int32(), pa.string())) for name in ("category", "symbol", "interval")]
    + [pa.field("open_time", pa.timestamp("ms", tz="UTC"), nullable=False)]
    + [pa.field(name, DECIMAL, nullable=False) for name in NUMBER_COLUMNS]
)


def canonical(texts: pa.StringArray | pa.ChunkedArray) -> pa.StringArray:
    """Return plain decimals in canonical text: no exponent, no trailing zeros, no needless leading zeros.

    Plain is ASCII digits, with a point only between digits, as bybit/digits lets in: no sign, nothing empty, no null.
    By bytes: as expressions of Arrow this took a third of the time of deriving a candle.
    """
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(array):
        return array
    _, offsets, content = array.buffers()
    ends = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    codes = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    firsts = np.flatnonzero((codes[ends[:-1]] == _ZERO) & (ends[1:] - ends[:-1] > 1))
    leading = (codes[ends[firsts] + 1] != _POINT).any()
    trailing = np.flatnonzero(codes[ends[1:] - 1] == _ZERO)
    trailing = trailing[_has_point(codes, ends[trailing], ends[trailing + 1])]
    if len(trailing):
        array = _without_trailing_zeros(codes, ends, trailing)
    return pc.replace_substring_regex(array, "^0+([0-9])", r"\1") if leading else array


def _has_point(codes: NDArray[np.uint8], starts: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.bool_]:
    found = np.zeros(len(starts), dtype=bool)
    for place in range(int((ends - starts).max(initial=0))):
        found |= codes[np.minimum(starts + place, ends - 1)] == _POINT
    return found


def _without_trailing_zeros(
    codes: NDArray[np.uint8], ends: NDArray[np.int32], rows: NDArray[np.int64]
) -> pa.StringArray:
    """Return decimals without the zeros behind their point, and without a point that has nothing behind it.

    Args:
        codes: their text.
        ends: where each begins, and the end of the last.
        rows: those that have such zeros.
    """
    kept, cut = np.ones(len(codes), dtype=bool), np.zeros(len(ends) - 1, dtype=np.int32)
    while len(rows):
        last = ends[rows + 1] - 1 - cut[rows]
        goes = (codes[last] == _ZERO) | (codes[last] == _POINT)
        rows, last = rows[goes], last[goes]
        kept[last] = False
        cut[rows] += 1
        rows = rows[codes[last] == _ZERO]
    places = np.concatenate([ends[:1], ends[1:] - np.cumsum(cut, dtype=np.int32)])
    return pa.StringArray.from_buffers(len(cut), pa.py_buffer(places), pa.py_buffer(codes[kept]))


def canonical_candles(table: pa.Table) -> pa.Table:
    """Return `table` with CANDLE_SCHEMA: the same rows in the same order, numbers in canonical text."""
    columns = [table["open_time_ms"], *(canonical(table[name]) for name in NUMBER_COLUMNS)]
    return pa.table(columns, schema=CANDLE_SCHEMA)


def empty_candles() -> pa.Table:
    """Return a candle table without rows."""
    return CANDLE_SCHEMA.empty_table()


def decimals(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return canonical text as exact decimal128(38, 18).

    Raises:
        pyarrow.ArrowInvalid: a number has more than 20 digits before or 18 after the point.
    """
    return pc.cast(texts, DECIMAL)


def snapshot_table(names: Sequence[str], candles: pa.Table) -> pa.Table:
    """Return candles (CANDLE_SCHEMA) with SNAPSHOT_SCHEMA, rows in the order given.

    Args:
        names: category, symbol and interval.
        candles: of that series.
    """
    keys = [
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(candles), np.int32)), pa.array([name])) for name in names
    ]
    moments = pc.cast(candles["open_time_ms"], pa.timestamp("ms", tz="UTC"))
    return pa.table([*keys, moments, *(decimals(candles[name]) for name in NUMBER_COLUMNS)], schema=SNAPSHOT_SCHEMA)


def text_of_decimals(values: pa.ChunkedArray) -> pa.StringArray:
    """Return decimal128 values in canonical text; Arrow's own text has exponents below 1e-6, which this spells out."""
    texts = pc.cast(values, pa.string())
    scientific = pc.match_substring(texts, "E")
    if pc.any(scientific).as_py():
        spelled = [f"{value:f}" for value in pc.unique(values.filter(scientific)).to_pylist()]
        keys = pc.unique(values.filter(scientific))
        index = pc.index_in(values, value_set=keys)
        texts = pc.if_else(scientific, pc.take(pa.array(spelled, pa.string()), index), texts)
    return canonical(texts)


def floats(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return decimal128(38, 18) as the nearest float64 each.

    Arrow's own cast rounds twice. An integer below 2**53 over a power of ten rounds once: most candles have few enough
    digits for that, the others go by way of their text.
    """
    return np.concatenate([np.zeros(0), *map(_floats, values.chunks)])


def _floats(array: pa.Decimal128Array) -> NDArray[np.float64]:
    words = np.frombuffer(array.buffers()[1], np.uint64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    found, left = np.empty(len(array)), np.arange(len(array))
    for scale in _FLOAT_SCALES:
        low, high = words[left, 0], words[left, 1]
        unit = 10 ** (DECIMAL.scale - scale)
        # The quotient by floats is off by a few units at most; times the unit it must give the last 64 bits again, and
        # whatever else gave them would be off by 2**64. Dividing 128 bits takes Arrow five times as long.
        quotient = np.rint((high * 2.0**64 + low) / unit)
        quotient[quotient >= _EXACT] = 0  # and what is negative, as its high word is large here
        exact = (quotient.astype(np.uint64) * np.uint64(unit) == low) & ((quotient > 0) | (high == 0))
        found[left[exact]] = quotient[exact] / 10.0**scale
        left = left[~exact]
        if not len(left):
            return found
    texts = text_of_decimals(pa.chunked_array([array.take(pa.array(left))]))
    found[left] = pc.cast(texts, pa.float64()).to_numpy()
    return found


def lines_of(candles: pa.Table, *first: pa.ChunkedArray | pa.Scalar) -> Iterator[memoryview]:
    """Yield the text of a candle table in pieces: per candle `first` and the six numbers, tabs between, a line feed.

    The pieces are Arrow's own memory: nothing is copied, and no Python text is made of a row. A piece is made while
    whoever takes them, such as a server, is still busy with the one before.
    """
    columns = [*first, *(candles[name] for name in NUMBER_COLUMNS)]
    for start in range(0, len(candles), _PIECE):
        parts = [one if isinstance(one, pa.Scalar) else one.slice(start, _PIECE) for one in columns]
        lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*parts, "\t"), "", "\n")
        for chunk in lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]:
            _, offsets, content = chunk.buffers()
            if len(chunk):
                ends = memoryview(offsets).cast("i")
                yield memoryview(content)[ends[chunk.offset] : ends[chunk.offset + len(chunk)]]


def moments_of(candles: pa.Table) -> pa.ChunkedArray:
    """Return the open times as text for a session in UTC: 2024-01-01 00:00:00.000."""
    # Without a zone: with one, Arrow takes 25 times as long to print a moment.
    return pc.cast(pc.cast(candles["open_time_ms"], pa.timestamp("ms")), pa.string())


def sha256_of(candles: pa.Table) -> str:
    """Return the checksum of a candle table: sha256 of its lines, open time in ms first; order counts."""
    digest = hashlib.sha256()
    for lines in lines_of(candles, pc.cast(candles["open_time_ms"], pa.string())):
        digest.update(lines)
    return digest.hexdigest()
