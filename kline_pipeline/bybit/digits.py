"""A column of numbers as text, checked by its bytes: plain decimals, nothing else; what it means is not known here.

By bytes and not by a regular expression: a page has 7000 numbers, and that took a third of the time of reading it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ZERO: Final = ord("0")
_POINT: Final = ord(".")


class NotPlain(ValueError):
    """A text is no plain decimal.

    Attributes:
        text: the first such text.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def column(texts: Sequence[str], *, whole: bool = False) -> pa.StringArray:
    """Return texts as an Arrow column, in the order given, digits as they are.

    By buffers, not pa.array(list): that imports pandas, a second per process (style.md).

    Args:
        texts: ASCII digits with at most one point that has digits on both sides.
        whole: no point at all, and at most 15 digits.

    Raises:
        NotPlain: one is something else.
    """
    data = "".join(texts).encode()
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    if not data.isascii():
        raise NotPlain(next(text for text in texts if not text.isascii()))
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    codes = np.frombuffer(data, np.uint8)
    bad = _bad(codes, offsets, lengths, whole=whole)
    if bad.any():
        raise NotPlain(texts[int(np.argmax(bad))])
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data))


def _bad(
    codes: NDArray[np.uint8], offsets: NDArray[np.int32], lengths: NDArray[np.int64], *, whole: bool
) -> NDArray[np.bool_]:
    bad: NDArray[np.bool_] = lengths == 0
    if bad.any() or not len(codes):
        return bad
    digit = codes - _ZERO <= 9  # noqa: PLR2004 - unsigned: what lies below "0" is large
    point = codes == _POINT
    starts, ends = offsets[:-1], offsets[1:] - 1
    points = np.add.reduceat(point, starts, dtype=np.int64)
    odd = np.add.reduceat(~(digit | point), starts, dtype=np.int64)
    bad = (odd > 0) | (points > (0 if whole else 1)) | ~digit[starts] | ~digit[ends]
    return bad | (lengths > 15) if whole else bad  # noqa: PLR2004 - milliseconds have 13 digits
