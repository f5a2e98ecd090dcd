"""What the benchmarks make of their runs: medians, ratios, targets, the table, and the end that a 403 is."""

import pytest

from kline_pipeline_tests.benchmarks.report import Report
from kline_pipeline_tests.benchmarks.results import TO_FLOORS, Line, again_to_first, grown_to_year, within_runs
from kline_pipeline_tests.benchmarks.targets import TARGETS, Target, Verdict, judge

_FLOORS = {floor: 1.0 for _, floor in TO_FLOORS.values()} | {"floor_pages": 526.0, "floor_sampled_pages": 48.0}


def run(**figures: float) -> dict[str, float]:
    known = dict.fromkeys(("candles", "wall_s", "own_cpu_s", "own_cpu_s_per_million", "peak_mb", "refused"), 0.0)
    versions = dict.fromkeys(("rows_inserted", "rows_updated", "rows_deleted"), 0.0)
    return {**known, **versions, **_FLOORS, **figures}


def line(name: str, way: str, *runs: dict[str, float]) -> Line:
    again = again_to_first(runs, runs) if name == "W5" else {}
    return Line(name, way, runs, within_runs(runs, TO_FLOORS) | again)


def test_each_figure_is_a_median_of_its_own() -> None:
    runs = [run(wall_s=1, own_cpu_s=9), run(wall_s=2, own_cpu_s=7), run(wall_s=3, own_cpu_s=8)]

    assert line("W1", "core", *runs).medians["wall_s"] == 2
    assert line("W1", "core", *runs).medians["own_cpu_s"] == 8


@pytest.mark.parametrize("name", ["peak_mb", "rows_inserted", "rows_updated", "rows_deleted", "refused"])
def test_of_memory_row_versions_and_refusals_the_worst_run_counts(name: str) -> None:
    assert line("W5", "core", run(wall_s=1), run(wall_s=2, **{name: 7}), run(wall_s=3)).medians[name] == 7


def test_a_ratio_is_taken_within_a_run() -> None:
    runs = [run(wall_s=2, floor_copy_s=1), run(wall_s=30, floor_copy_s=10), run(wall_s=4, floor_copy_s=4)]

    assert within_runs(runs, {"wall_to_copy": TO_FLOORS["wall_to_copy"]}) == {"wall_to_copy": 2}


def test_a_second_run_is_compared_with_the_first_of_the_same_home() -> None:
    first, again = [run(wall_s=10), run(wall_s=20), run(wall_s=40)], [run(wall_s=4), run(wall_s=10), run(wall_s=16)]

    assert again_to_first(again, first) == {"wall_to_w2": 0.4}


def test_growth_is_told_per_candle_and_of_memory() -> None:
    grown, year = run(wall_s=40, candles=400, peak_mb=330), run(wall_s=8, candles=100, peak_mb=300)

    assert grown_to_year(grown, year) == {"s_per_candle_to_w2": 1.25, "peak_to_w2": 1.1}


@pytest.mark.parametrize(
    ("target", "found", "holds"),
    [
        (Target("W1", "core", "wall_s", 2), 2.0, True),
        (Target("W1", "core", "wall_s", 2), 2.001, False),
        (Target("stream", "paced", "share_of_pace", 0.95, at_least=True), 0.95, True),
        (Target("stream", "paced", "share_of_pace", 0.95, at_least=True), 0.949, False),
    ],
)
def test_a_limit_itself_holds_and_a_little_beyond_does_not(target: Target, found: float, holds: bool) -> None:
    assert target.holds(found) == holds


def test_a_line_without_the_figure_of_a_target_is_a_defect() -> None:
    with pytest.raises(KeyError, match="wall_s"):
        judge("W1", "core", {"peak_mb": 1.0})


def test_no_target_is_listed_twice() -> None:
    assert len(TARGETS) == len({(one.name, one.way, one.figure) for one in TARGETS})


def test_a_missed_target_is_told_and_ends_nothing() -> None:
    shown: list[str] = []
    report = Report(shown.append)

    report.add(line("W1", "core", run(wall_s=2.5)))

    assert str(Verdict(Target("W1", "core", "wall_s", 2), 2.5, holds=False)) in shown[-1]
    assert shown[-1].endswith("found 2.50: MISSED")


def test_a_403_in_any_run_ends_everything_after_its_line() -> None:
    shown: list[str] = []
    report = Report(shown.append)

    with pytest.raises(SystemExit, match="W3 core: the exchange answered 403 to 2 requests"):
        report.add(line("W3", "core", run(), run(refused=2), run()))

    assert any(text.startswith("W3") for text in shown)
    assert report.as_json()["W3"]["core"]["medians"]["refused"] == 2


def test_a_floor_that_was_measured_on_some_of_the_pages_says_so() -> None:
    shown: list[str] = []

    Report(shown.append).add(line("W4", "core", run(own_cpu_s=3.0)))

    assert shown[-1].endswith("orjson alone, CPU 1.00 s (3.00 x) measured on 48 of 526 pages")


def test_a_heading_is_told_once_for_lines_with_the_same_columns() -> None:
    shown: list[str] = []
    report = Report(shown.append)

    report.add(line("W3", "core", run()))
    report.add(line("W4", "core", run()))
    report.add(Line("decode", "orjson", [{"cpu_ms_per_page": 0.5}], {"to_orjson": 1.0}))

    assert [text.split()[:4] for text in shown if text.startswith("part")] == [
        ["part", "way", "wall", "s"],
        ["part", "way", "CPU", "ms"],
    ]


def test_json_has_runs_medians_ratios_and_targets_per_work_and_way() -> None:
    report = Report(lambda _: None)
    runs = [run(wall_s=1.0), run(wall_s=3.0), run(wall_s=2.0)]

    report.add(line("W1", "core", *runs))

    told = report.as_json()["W1"]["core"]
    assert told["runs"] == runs
    assert told["medians"]["wall_s"] == told["ratios"]["wall_to_copy"] == 2.0
    assert [(one["figure"], one["limit"], one["found"], one["holds"]) for one in told["targets"]] == [
        ("wall_s", 2.0, 2.0, True)
    ]
