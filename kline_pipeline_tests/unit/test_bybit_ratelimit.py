"""The budget in a file and the arithmetic of both forms; what both forms promise is in postgres/test_rate_budget."""

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.bybit.file_budget import FileBudget
from kline_pipeline.bybit.pace import Pace, Reply, State, hour_wait_ms, is_quiet, pace, share_at
from kline_pipeline.bybit.ratelimit import Turns
from kline_pipeline.errors import Banned, ExchangeError, RateLimited, StorageError
from kline_pipeline_tests.budgets import NEXT_HOUR_MS, NOON_MS, Hand, grants_until, most_in

# Prints by which time of the clock each grant was judged.
_WORKER = """
import sys, time
from pathlib import Path
from kline_pipeline.bybit.file_budget import FileBudget
read = []
def clock_ms():
    read.append(time.time_ns() // 1_000_000)
    return read[-1]
budget = FileBudget(Path(sys.argv[1]), 100, clock_ms=clock_ms)
for _ in range(int(sys.argv[2])):
    budget.acquire(60)
    print(read[-1], flush=True)
"""


def budget_at(path: Path, hand: Hand, rate: float) -> FileBudget:
    return FileBudget(path / "budget", rate, clock_ms=hand, sleep=hand.sleep, source=random.Random(1))


def worker(path: Path, grants: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _WORKER, str(path / "budget"), str(grants)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


_STEPS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 25), st.integers(0, 3000)),
        st.sampled_from(["ask"] * 20 + ["slow down", "cool down"]),
    ),
    min_size=1,
    max_size=400,
)


@given(rate=st.integers(1, 110), steps=_STEPS)
def test_whatever_happens_no_second_and_no_five_seconds_hold_more_than_the_rate(
    rate: int, steps: list[tuple[int, str]]
) -> None:
    state, at, now_ms, granted = State(), pace(rate), NOON_MS, list[int]()
    for gap_ms, what in steps:
        now_ms += gap_ms
        if what == "slow down":
            state.slow_down(now_ms, "10006")
        if what == "cool down":
            state.cool_down(now_ms, 0.5, "banned")
        # As many ask as there are, and none waits for an instant: whoever can get a grant at this time gets one.
        while state.ask(at, now_ms, reserved=True).granted:
            granted.append(now_ms)
    assert most_in(granted, 1000) <= rate
    assert most_in(granted, 5000) <= min(600, 5 * rate)


@given(rate=st.sampled_from([1, 39, 40, 50, 79, 80, 110]), lateness=st.lists(st.integers(0, 40), min_size=50))
def test_who_wakes_late_gets_no_more_than_the_rate(rate: int, lateness: list[int]) -> None:
    state, at, now_ms, granted = State(), pace(rate), NOON_MS, list[int]()
    for late_ms in lateness * 4:
        now_ms += late_ms
        reserved = False
        while not (reply := state.ask(at, now_ms, reserved=reserved)).granted:
            now_ms, reserved = now_ms + reply.wait_ms, reply.reserved
        granted.append(now_ms)
    assert most_in(granted, 1000) <= rate


@pytest.mark.parametrize("rate", [50, 110])
@pytest.mark.parametrize("late_ms", [0, 5, 12])
def test_waking_late_costs_no_more_than_five_percent(rate: int, late_ms: int) -> None:
    state, at, now_ms, granted, reserved = State(), pace(rate), NOON_MS, 0, False
    while now_ms < NOON_MS + 20_000:
        reply = state.ask(at, now_ms, reserved=reserved)
        granted, reserved = granted + reply.granted, reply.reserved and not reply.granted
        now_ms += 0 if reply.granted else reply.wait_ms + late_ms
    assert granted >= 0.95 * 20 * rate


@given(rate=st.sampled_from([1, 10, 50, 110]), waiting=st.integers(1, 16))
def test_each_of_those_who_wait_reserves_an_instant_of_its_own(rate: int, waiting: int) -> None:
    state, at = State(), pace(rate)
    while state.ask(at, NOON_MS).granted:
        pass
    instants = [NOON_MS + state.ask(at, NOON_MS).wait_ms for _ in range(waiting)]
    assert len(set(instants)) == waiting
    assert all(comes_at(state, at, instant) for instant in instants)


def comes_at(state: State, at: Pace, instant_ms: int) -> bool:
    """Say whether who comes at its instant is granted, or a few milliseconds later, as times are rounded."""
    return any(state.ask(at, instant_ms + late_ms, reserved=True).granted for late_ms in range(20))


def test_who_comes_without_an_instant_does_not_take_that_of_another() -> None:
    state, at = State(), pace(50)
    while state.ask(at, NOON_MS).granted:
        pass
    first, second = (NOON_MS + state.ask(at, NOON_MS).wait_ms for _ in range(2))
    assert not state.ask(at, first).granted
    assert state.ask(at, first, reserved=True).granted
    assert state.ask(at, second, reserved=True).granted


def test_an_instant_whose_process_was_killed_is_lost_and_nothing_else() -> None:
    state, at = State(), pace(50)
    while state.ask(at, NOON_MS).granted:
        pass
    state.ask(at, NOON_MS)  # killed while it waits
    wait_ms = state.ask(at, NOON_MS).wait_ms
    assert wait_ms <= 4 * 1000 / 50  # the burst, two that were refused, and its own
    assert comes_at(state, at, NOON_MS + wait_ms)


@given(share=st.floats(0.125, 1), at_ms=st.integers(0, 2**42), seconds=st.floats(0, 10**9))
def test_a_share_grows_and_never_beyond_the_whole(share: float, at_ms: int, seconds: float) -> None:
    grown = share_at(share, at_ms, at_ms + round(seconds * 1000))
    assert share <= grown <= 1
    assert grown == 1 or seconds < 181


def test_a_share_doubles_every_minute_smoothly() -> None:
    assert share_at(0.25, NOON_MS, NOON_MS + 30_000) == pytest.approx(0.3536, abs=1e-4)
    assert share_at(0.25, NOON_MS, NOON_MS + 60_000) == pytest.approx(0.5)
    assert share_at(0.25, NOON_MS, NOON_MS - 60_000) == 0.25


@given(now_ms=st.integers(0, 2**42), seed=st.integers())
def test_no_time_is_left_in_the_first_seconds_of_an_hour(now_ms: int, seed: int) -> None:
    after_ms = now_ms + hour_wait_ms(now_ms, random.Random(seed))
    assert not is_quiet(after_ms)
    assert after_ms == now_ms or 5_000 <= after_ms % 3_600_000 <= 8_000


def test_the_first_seconds_of_an_hour_are_five() -> None:
    source = random.Random(1)
    assert hour_wait_ms(NEXT_HOUR_MS - 1, source) == 0
    assert hour_wait_ms(NEXT_HOUR_MS, source) >= 5_000
    assert hour_wait_ms(NEXT_HOUR_MS + 4_999, source) >= 1
    assert hour_wait_ms(NEXT_HOUR_MS + 5_000, source) == 0


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
    assert max(granted) - NOON_MS >= 89 * 1000 / 20


def test_processes_share_one_pace_and_a_killed_one_stops_nobody(tmp_path: Path) -> None:
    doomed = worker(tmp_path, 10_000)
    assert doomed.stdout is not None
    doomed.stdout.readline()  # it is at it
    others = [worker(tmp_path, 60) for _ in range(3)]
    assert others[0].stdout is not None
    first = others[0].stdout.readline()
    doomed.kill()
    said = [doomed.communicate()[0], first, *(other.communicate()[0] for other in others)]
    granted = sorted(int(line) for text in said for line in text.split())

    assert [other.returncode for other in others] == [0, 0, 0]
    assert len(granted) > 180
    assert most_in(granted, 1000) <= 100


def test_a_clock_set_back_stops_nobody(tmp_path: Path) -> None:
    hand = Hand()
    budget = budget_at(tmp_path, hand, 10)
    budget.acquire(1)
    budget.slow_down("10006")
    budget.cool_down(2, "too many visits")
    hand.now_ms -= 1_800_000
    before_ms = hand()
    budget.acquire(10)
    assert hand() - before_ms <= 2200
    # The slow-down counts from now, so a minute later it is over.
    hand.now_ms += 60_000
    assert len(grants_until(budget, hand, hand() + 1000)) >= 9


def test_a_file_that_is_not_ours_is_begun_anew(tmp_path: Path) -> None:
    for text in ("{ not json", '"a string"', '{"tat_us": "soon"}', "\xff" * 2000, '{"slow_share": null}'):
        (tmp_path / "budget").write_text(text, encoding="latin-1")
        budget_at(tmp_path, Hand(), 10).acquire(1)
        assert json.loads((tmp_path / "budget").read_bytes())["tat_us"] > 0


@pytest.mark.parametrize("more", [{}, {"a field of a later version": [1]}])
def test_a_cool_down_of_another_version_is_kept(tmp_path: Path, more: dict[str, object]) -> None:
    record = {"tat_us": 0, "cool_until_ms": NOON_MS + 600_000, "cool_s": 600.0, "reason": "banned", **more}
    (tmp_path / "budget").write_text(json.dumps(record).ljust(2048))
    with pytest.raises(Banned, match="banned"):
        budget_at(tmp_path, Hand(), 10).acquire(1)


@pytest.mark.parametrize("reason", ["\U0001f6d1" * 10_000, "\x00\x01\n" * 10_000, "\udcff" * 300, '"' * 10_000])
def test_no_reason_is_too_long_or_too_strange_for_the_record(tmp_path: Path, reason: str) -> None:
    budget_at(tmp_path, Hand(), 10).cool_down(600, reason)
    with pytest.raises(Banned):
        budget_at(tmp_path, Hand(), 10).acquire(1)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="request budget"):
        FileBudget(tmp_path / "file" / "budget", 10).acquire(1)


def test_who_queues_behind_a_thread_that_waits_out_a_cool_down_is_told_of_it(tmp_path: Path) -> None:
    hand = Hand()
    refused: list[ExchangeError] = []

    def sleep(seconds: float) -> None:
        try:
            budget.acquire(0)  # as another thread: the turnstile is taken
        except (Banned, RateLimited) as exc:
            refused.append(exc)
        hand.sleep(seconds)

    budget = FileBudget(tmp_path / "budget", 10, clock_ms=hand, sleep=sleep)
    budget.cool_down(20, "too many visits")
    budget.acquire(60)
    budget.acquire(60)

    assert [type(error) for error in refused] == [Banned, RateLimited]
    assert "too many visits" in str(refused[0])


def test_who_loses_patience_is_not_told_of_a_cool_down_that_is_over() -> None:
    hand = Hand()
    refused: list[ExchangeError] = []
    replies = [Reply(granted=False, now_ms=NOON_MS, wait_ms=5, cool_until_ms=NOON_MS + 5, reason="banned")]

    def ask(_lag_s: float, _reserved: bool) -> Reply:
        if not replies and not refused:
            with pytest.raises((Banned, RateLimited)) as caught:
                turns.acquire(0)  # as another thread: the turnstile is taken
            refused.append(caught.value)
        return replies.pop() if replies else Reply(granted=True, now_ms=hand())

    turns = Turns(ask, clock_ms=hand, sleep=lambda _: refused.append(RateLimited("")), source=None)
    turns.acquire(1)
    refused.clear()
    turns.acquire(1)

    assert [type(error) for error in refused] == [RateLimited]
