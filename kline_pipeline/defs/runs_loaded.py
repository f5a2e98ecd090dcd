"""Loads, where it is imported, what workers are forked with: in the server process that forks them, nowhere else.

Nothing of it is garbage: to look for cycles in it takes a sixth of the loading, and each worker would look again.
"""

import gc
from importlib import import_module

from kline_pipeline.defs.runs_processes import LOADED

gc.disable()
for name in LOADED:
    import_module(name)
gc.freeze()
gc.enable()
