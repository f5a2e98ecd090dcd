"""`python -m kline_pipeline.cli.dagster_child PARENT MODULE ...`: a program that ends with its parent.

Without it a killed `up` would leave a webserver and a service that keep their ports, and a daemon that launches runs.
"""

import os
import runpy
import signal
import sys
import threading
import time

_LOOK_S = 1.0
_GRACE_S = 10.0


def main() -> None:
    """Run the module as the program, watching the parent from a thread."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    # This process leads its group, which has what it started.
    os.killpg(os.getpgrp(), signal.SIGINT)
    time.sleep(_GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
