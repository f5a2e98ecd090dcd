"""Rows of numbers from the bytes of a JSON list, as columns of text; what a column means is not known here.

By bytes: a page has 7000 numbers, and making a Python text of each took most of the time of reading it.
"""

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_QUOTE, _COMMA, _OPEN, _CLOSE, _POINT, _ZERO = (ord(char) for char in '",[].0')
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


class NotRows(ValueError):
    """The bytes are no list of rows of so many texts."""


class NotPlain(ValueError):
    """A text is no plain decimal.

    Attributes:
        text: the first such text.
        column: of it.
    """

    def __init__(self, text: str, column: int) -> None:
        super().__init__(text)
        self.text = text
        self.column = column


def columns(raw: bytes, width: int) -> list[pa.StringArray]:
    """Return the columns of [["1","2.5"],["3","4"]], rows in the order given, digits as they are.

    Args:
        raw: a JSON list of lists of `width` texts.
        width: texts in a row.

    Raises:
        NotRows: something else.
        NotPlain: a text that is not ASCII digits with at most one point that has digits on both sides; or in the first
            column, one with a point or more than 15 digits.
    """
    codes, quotes = _compact(raw, width)
    if not len(quotes):
        return [pa.array([], pa.string())] * width
    # Column by column, so that each is one piece of the bytes that are gathered below.
    starts = (quotes[0::2] + 1).reshape(-1, width).T.ravel()
    lengths = quotes[1::2].reshape(-1, width).T.ravel() - starts
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    places = np.repeat((starts - offsets[:-1]).astype(np.int32), lengths)
    places += np.arange(len(places), dtype=np.int32)
    texts = codes.take(places)
    rows = len(starts) // width
    bad = _bad(texts, offsets, lengths, rows)
    if bad.any():
        first = int(np.argmax(bad))
        text = codes[starts[first] : starts[first] + lengths[first]].tobytes().decode("utf-8", errors="replace")
        raise NotPlain(text, first // rows)
    flat = pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(texts.tobytes()))
    return [flat.slice(column * rows, rows) for column in range(width)]


def _compact(raw: bytes, width: int) -> tuple[Bytes, Places]:
    """Return the bytes of the list without blanks between its parts, and the places of its quotes."""
    codes = np.frombuffer(raw, np.uint8)
    quotes = np.flatnonzero(codes == _QUOTE)
    if raw == b"[]" or _is_list(codes, quotes, width):
        return codes, quotes
    # Bybit sends no blanks: whatever else this is, a parser decides.
    try:
        parsed = msgspec.json.encode(msgspec.json.decode(raw, type=list[list[str]]))
    except msgspec.MsgspecError as exc:
        raise NotRows from exc
    codes = np.frombuffer(parsed, np.uint8)
    quotes = np.flatnonzero(codes == _QUOTE)
    if parsed != b"[]" and not _is_list(codes, quotes, width):
        raise NotRows
    return codes, quotes


def _is_list(codes: Bytes, quotes: Places, width: int) -> bool:
    """Say whether nothing but brackets and commas stands between the quotes, each where it must."""
    if not len(quotes) or len(quotes) % (2 * width) or quotes[0] != 2 or quotes[-1] != len(codes) - 3:  # noqa: PLR2004 - [[" and "]]
        return False
    outer = (codes[[0, 1]] == _OPEN).all() and (codes[[-1, -2]] == _CLOSE).all()
    before, after = quotes[1:-1:2], quotes[2::2]
    between_rows = np.arange(1, len(before) + 1) % width == 0
    within, ends, begins = before[~between_rows], before[between_rows], after[between_rows]
    return bool(
        outer
        and (after[~between_rows] - within == 2).all()  # noqa: PLR2004 - one comma
        and (codes[within + 1] == _COMMA).all()
        and (begins - ends == 4).all()  # noqa: PLR2004 - ],[
        and (codes[ends + 1] == _CLOSE).all()
        and (codes[ends + 2] == _COMMA).all()
        and (codes[ends + 3] == _OPEN).all()
    )


def _bad(texts: Bytes, offsets: NDArray[np.int32], lengths: Places, rows: int) -> NDArray[np.bool_]:
    """Return which texts are no plain decimals; of the first `rows` of them, which are no millisecond numbers."""
    bad: NDArray[np.bool_] = lengths == 0
    if bad.any():
        return bad
    digit = texts - _ZERO <= 9  # noqa: PLR2004 - unsigned: what lies below "0" is large
    points = np.flatnonzero(texts == _POINT)
    odd = np.flatnonzero(~digit)
    bad = ~digit[offsets[:-1]] | ~digit[offsets[1:] - 1]
    bad[:rows] |= lengths[:rows] > 15  # noqa: PLR2004 - milliseconds have 13 digits
    of_point = np.searchsorted(offsets, points, side="right") - 1
    bad[of_point[1:][of_point[1:] == of_point[:-1]]] = True
    bad[of_point[of_point < rows]] = True
    if len(odd) > len(points):
        bad[np.searchsorted(offsets, np.setdiff1d(odd, points), side="right") - 1] = True
    return bad
