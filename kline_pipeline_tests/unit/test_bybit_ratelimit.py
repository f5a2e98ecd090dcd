"""The shared budget: its pace holds over threads, processes and restarts, as does a cool-down."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kline_pipeline.bybit.ratelimit import FileBudget
from kline_pipeline.errors import Banned, RateLimited, StorageError

_WORKER = """
import sys, time
from pathlib import Path
from kline_pipeline.bybit.ratelimit import FileBudget
budget = FileBudget(Path(sys.argv[1]), 100)
for _ in range(40):
    budget.acquire(30)
    print(time.time_ns() // 1000)
"""


class Hand:
    """A clock that only sleeping moves; threads may share it."""

    def __init__(self) -> None:
        self.now_ms = 1_712_752_496_000
        self._lock = threading.Lock()

    def __call__(self) -> int:
        return self.now_ms

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_ms += max(1, round(seconds * 1000))


def budget_at(path: Path, hand: Hand, rate: float) -> FileBudget:
    return FileBudget(path / "budget", rate, clock_ms=hand, sleep=hand.sleep)


def most_in(times_ms: list[int], span_ms: int) -> int:
    return max(sum(start <= time < start + span_ms for time in times_ms) for start in times_ms)


@pytest.mark.parametrize("rate", [0.5, 1, 3, 50, 110])
def test_no_second_and_no_five_seconds_hold_more_than_the_rate(tmp_path: Path, rate: float) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, rate)
    granted = []
    for _ in range(700):
        budget.acquire(60)
        granted.append(hand())
    assert most_in(granted, 1000) <= max(1, rate)
    assert most_in(granted, 5000) <= min(600, 5 * rate + 1)


def test_an_idle_budget_saves_nothing_up(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 10)
    budget.acquire(1)
    hand.now_ms += 60_000
    granted = []
    for _ in range(12):
        budget.acquire(5)
        granted.append(hand())
    assert most_in(granted, 1000) <= 10


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    hand = Hand()
    granted = []
    for _ in range(30):
        budget_at(tmp_path, hand, 10).acquire(5)
        granted.append(hand())
    assert most_in(granted, 1000) <= 10


def test_threads_share_one_pace(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 20)
    granted: list[int] = []

    def work() -> None:
        for _ in range(15):
            budget.acquire(600)
            granted.append(hand())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 90
    # A grant is written down a little after it was given, so the pace as a whole is what is exact.
    assert max(granted) - 1_712_752_496_000 >= 89 * 1000 / 20


def test_processes_share_one_pace(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "budget")]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    granted = sorted(int(line) for worker in workers for line in worker.communicate()[0].split())
    assert len(granted) == 120
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    # 100 steps of 1/98 s; the rest is what lies between a grant and its time stamp.
    assert all(later - earlier > 950_000 for earlier, later in zip(granted, granted[100:], strict=False))


def test_a_cool_down_of_one_process_holds_for_another(tmp_path: Path) -> None:
    hand = Hand()
    one, other = budget_at(tmp_path, hand, 50), budget_at(tmp_path, hand, 50)
    other.acquire(1)
    before_ms = hand()
    one.cool_down(3, "too many visits")
    other.acquire(10)
    assert hand() - before_ms >= 3000


def test_a_cool_down_that_lasts_longer_than_the_patience_is_told_at_once(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 50)
    budget.cool_down(600, "HTTP 403 'access too frequent'")
    before_ms = hand()
    with pytest.raises(Banned, match="access too frequent") as caught:
        budget.acquire(30)
    assert hand() == before_ms
    assert caught.value.retry_after_s == pytest.approx(600, abs=1)


def test_a_shorter_cool_down_does_not_end_a_longer_one(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 50)
    budget.cool_down(600, "banned")
    budget.cool_down(2, "too many visits")
    with pytest.raises(Banned, match="banned"):
        budget.acquire(30)


def test_a_clock_set_back_stops_nobody(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 10)
    budget.acquire(1)
    budget.cool_down(2, "too many visits")
    hand.now_ms -= 3_600_000
    before_ms = hand()
    budget.acquire(10)
    assert hand() - before_ms <= 2200


def test_no_turn_in_time_is_an_error(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 0.5)
    budget.acquire(1)
    with pytest.raises(RateLimited, match="BYBIT_REQUESTS_PER_SECOND"):
        budget.acquire(1)


def test_a_file_that_is_not_ours_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "budget").write_text("{ not json")
    hand = Hand()
    budget_at(tmp_path, hand, 10).acquire(1)
    assert json.loads((tmp_path / "budget").read_bytes())["tat_us"] > 0


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="request budget"):
        FileBudget(tmp_path / "file" / "budget", 10).acquire(1)
