"""Probes never keep anybody waiting: a look that hangs is told as such, by its age, and a return is seen."""

import threading

import pytest

from kline_pipeline.errors import StorageError
from kline_pipeline.metrics import DATABASE_UP, Reading
from kline_pipeline.service.probes import Look, Probe, Probes
from kline_pipeline_tests.service.asking import Seconds

WORKS = Look("ok", "it works", readings=(Reading(DATABASE_UP, 1.0),))
DOWN = (Reading(DATABASE_UP, 0.0),)
_PATIENCE_S = 20.0


class Hanging:
    """A look that hangs until it is released or given up."""

    def __init__(self) -> None:
        self.hangs = False
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.given_up = 0

    def __call__(self) -> Look:
        if self.hangs:
            self.begun.set()
            assert self.ended.wait(_PATIENCE_S)
        return WORKS

    def give_up(self) -> None:
        self.given_up += 1
        self.ended.set()


def probe(look: object, clock: Seconds, **options: object) -> Probe:
    return Probe("it", look, period_s=5, deadline_s=6, unknown=DOWN, clock_s=clock, **options)  # type: ignore[arg-type]


def test_what_was_never_looked_at_has_failed() -> None:
    state = probe(lambda: WORKS, Seconds()).state()

    assert (state.status, state.age_s, state.readings) == ("failed", None, DOWN)


def test_a_state_has_the_age_of_its_look() -> None:
    clock = Seconds()
    one = probe(lambda: WORKS, clock)
    one.run_once()
    clock.now_s += 4.5

    state = one.state()

    assert (state.status, state.age_s, state.readings) == ("ok", 4.5, WORKS.readings)


def test_a_look_that_hangs_has_failed_is_given_up_and_comes_back() -> None:
    clock, look = Seconds(), Hanging()
    one = probe(look, clock, give_up=look.give_up)
    one.run_once()
    look.hangs = True
    thread = threading.Thread(target=one.run_once, daemon=True)
    thread.start()
    assert look.begun.wait(_PATIENCE_S)

    clock.now_s += 5
    one.oversee()
    assert (one.state().status, look.given_up) == ("ok", 0)
    clock.now_s += 2
    state = one.state()
    assert (state.status, state.age_s, state.readings) == ("failed", 7, DOWN)
    assert "7 s: it hangs" in state.seen
    one.oversee()
    thread.join(_PATIENCE_S)

    assert look.given_up == 1
    assert one.state().status == "ok"
    one.oversee()
    assert look.given_up == 1


def test_a_result_that_no_newer_one_follows_has_failed() -> None:
    clock = Seconds()
    one = probe(lambda: WORKS, clock)
    one.run_once()
    clock.now_s += 60

    assert one.state().status == "failed"
    assert "60 s old" in one.state().seen


def test_an_answer_of_an_earlier_look_is_told_with_its_age() -> None:
    clock = Seconds()
    kept = Look("ok", "it works", asked_s=clock.now_s)
    clock.now_s += 40
    one = probe(lambda: kept, clock)
    one.run_once()

    assert (one.state().status, one.state().age_s) == ("ok", 40)


@pytest.mark.parametrize("error", [StorageError("/secret/path: no"), ZeroDivisionError("/secret/path")])
def test_an_error_of_a_look_is_a_failure_without_its_text(error: Exception) -> None:
    def look() -> Look:
        raise error

    one = probe(look, Seconds())
    one.run_once()
    state = one.state()

    assert (state.status, state.readings) == ("failed", DOWN)
    assert type(error).__name__ in state.seen
    assert "secret" not in state.seen


def test_a_failure_is_looked_at_again_soon() -> None:
    sees = [Look("failed", "no"), WORKS]
    one = probe(lambda: sees.pop(0), Seconds())
    one.run_once()
    assert one.wait_s() == 2
    one.run_once()
    assert one.wait_s() == 5


def test_one_that_hangs_keeps_no_other_and_no_thread_is_added() -> None:
    look, clock = Hanging(), Seconds()
    look.hangs = True
    looked = threading.Semaphore(0)

    def other() -> Look:
        looked.release()
        return WORKS

    before = threading.active_count()
    hanging = Probe("hanging", look, period_s=0.001, deadline_s=6, clock_s=clock)
    working = Probe("working", other, period_s=0.001, deadline_s=6, clock_s=clock)
    with Probes([hanging], [working]) as probes:
        assert look.begun.wait(_PATIENCE_S)
        assert all(looked.acquire(timeout=_PATIENCE_S) for _ in range(100))
        clock.now_s += 7
        assert probes.parts["hanging"].state().status == "failed"
        assert threading.active_count() == before + 3  # one each, and the one that breaks off
        assert probes.readings() == list(WORKS.readings)
        look.ended.set()
