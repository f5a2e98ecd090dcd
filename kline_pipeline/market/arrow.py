"""What pyarrow does by itself in a process, and need not do in ours; the columns of candles are in schema."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        del path, target
        if fullname == "pandas":
            msg = "pandas is not looked for now"
            raise ImportError(msg)


def leave_pandas_alone() -> None:
    """Let pyarrow not load pandas with the first array that is made; conversions to pandas load it when they are asked.

    It looks whether what it is given comes from pandas, and loads pandas for that look: 0.8 s of CPU and 100 MB in
    commands and workers that never see a frame (pyarrow 26, pandas-shim.pxi). Not for notebooks: arrays made of a
    pandas series would take the slow way. Nothing happens where pandas is loaded already.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])  # remembers what it found
    finally:
        sys.meta_path.remove(finder)
