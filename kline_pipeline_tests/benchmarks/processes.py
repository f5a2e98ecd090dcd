"""Programs that are started to be measured: their processes are watched in /proc while they run. Linux only.

What a work is, and what is beside it, is told elsewhere.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_LOOK_S: Final = 0.05
_GONE_S: Final = 60.0


@dataclass(frozen=True)
class Ran:
    """What a program took.

    Attributes:
        wall_s: from the start to the exit of the program itself.
        command_cpu_s: of the program, and of those descendants that it waited for; the kernel's account at its exit.
        workers_cpu_s: of all other descendants, as of the last look at each: up to 0.05 s before its end is not seen.
        peak_mb: of the largest single process of the program and its descendants, resident (VmHWM), pages that it
            shares with others included. What grew in the last 0.05 s is not seen. The kernel's account at the exit is
            not taken: it begins with the peak of whoever started the program.
        code: the exit code.
    """

    wall_s: float
    command_cpu_s: float
    workers_cpu_s: float
    peak_mb: float
    code: int


@dataclass
class _Seen:
    parent: int
    cpu_s: float = 0.0


class Watch(threading.Thread):
    """Looks at a program and all its descendants from time to time; a context manager.

    A look reads what is new in /proc and the family, nothing else: about a millisecond. A process whose parent is gone
    before the first look at it is taken for a stranger.

    Args:
        strangers: processes that were there before the program.
    """

    def __init__(self, strangers: set[int]) -> None:
        super().__init__(name="watch", daemon=True)
        self._strangers = strangers
        self._family: dict[int, _Seen] = {}
        self._program = 0
        self._orphans_cpu_s = 0.0
        self._peak_kb = 0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def follow(self, program: int) -> None:
        """Begin with this process."""
        self._family = {program: _Seen(os.getpid())}
        self._program = program

    def run(self) -> None:
        """Look until the end of the block."""
        while not self._ended.wait(_LOOK_S):
            if self._program:
                self._look()

    def result(self) -> tuple[float, float]:
        """Return CPU seconds of the descendants that the program has not waited for, and MB of the largest process.

        Raises:
            SystemExit: some still live a minute after the program.
        """
        late = time.monotonic() + _GONE_S
        while self._family:
            if time.monotonic() > late:
                raise SystemExit(f"a minute after the program, processes of it still run: {sorted(self._family)}")
            time.sleep(_LOOK_S)
        return self._orphans_cpu_s, self._peak_kb / 1024

    def _look(self) -> None:
        living = living_processes()
        # First those that live: what has just vanished is in the account of a parent that is read after that.
        self._strangers &= living
        for pid in sorted(living - self._strangers - self._family.keys()):
            fields = stat_of(pid)
            if fields is not None and int(fields[1]) in self._family:
                self._family[pid] = _Seen(int(fields[1]))
            else:
                self._strangers.add(pid)
        for pid, seen in self._family.items():
            if (fields := stat_of(pid)) is not None:
                # With those that it has waited for, so that none is counted twice or missed.
                seen.cpu_s = sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_S
                self._peak_kb = max(self._peak_kb, _peak_kb(pid))
                if fields[0] == "Z" and int(fields[1]) not in self._family:
                    living.discard(pid)  # ended, and whoever should wait for it is not of the family
        gone = {pid: seen for pid, seen in self._family.items() if pid not in living}
        family = {pid: seen for pid, seen in self._family.items() if pid in living}
        for pid, seen in gone.items():
            if pid != self._program and seen.parent not in family:
                self._orphans_cpu_s += seen.cpu_s
        self._family = family


def run_watched(words: Sequence[str], env: Mapping[str, str], output: Path) -> Ran:
    """Run a program to its end, and until all its descendants are gone; what it writes goes to `output`.

    Raises:
        SystemExit: some descendants stay.
    """
    with output.open("wb") as file, Watch(living_processes()) as watch:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        began = time.perf_counter()
        pid = os.posix_spawn(words[0], list(words), env, file_actions=actions)
        watch.follow(pid)
        _, status, used = os.wait4(pid, 0)
        wall_s = time.perf_counter() - began
        workers_s, peak_mb = watch.result()
    command_s = used.ru_utime + used.ru_stime
    return Ran(wall_s, command_s, workers_s, peak_mb, os.waitstatus_to_exitcode(status))


def told_by(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """Return the JSON in the last line of a program of the benchmarks.

    It is a process of its own, so that what it holds is never held by the one that starts the works.

    Raises:
        SystemExit: it failed; it has said why on standard error.
    """
    words = [sys.executable, "-m", f"kline_pipeline_tests.benchmarks.{module}", *arguments]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words[2:])} failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def living_processes() -> set[int]:
    """Return all processes of the machine."""
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def stat_of(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on, None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return None


def busy_s() -> float:
    """Return the CPU seconds of the whole machine: user, nice and system."""
    return sum(int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:4]) / TICKS_PER_S


def cpu_of_family_s(pid: int) -> float:
    """Return the CPU seconds of a process, of its living children, and of those that it has waited for."""
    total = 0
    for process in living_processes():
        fields = stat_of(process)
        if fields is not None and process == pid:
            total += sum(int(ticks) for ticks in fields[11:15])
        elif fields is not None and int(fields[1]) == pid:
            total += sum(int(ticks) for ticks in fields[11:13])
    return total / TICKS_PER_S


def _peak_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    # A process that has ended and is not waited for yet has no memory.
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
