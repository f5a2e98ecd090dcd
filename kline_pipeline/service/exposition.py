"""The page of /metrics: every metric of ours in Prometheus' text format, made of counts and readings that others read.

Counters and histograms are there at zero before anything was counted: Prometheus does not see the first increment of a
counter that is born with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from kline_pipeline.metrics import COUNTED, METRICS, Labels, Metric, Reading, key_of

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def page(counted: Mapping[str, float] | None, readings: Iterable[Reading]) -> bytes:
    """Return the page.

    Args:
        counted: what processes counted, by key (metrics.Tally); None where that cannot be known: counters are left out
            then, as one that fell to zero would count all of it again.
        readings: of gauges, and of counters whose facts are kept elsewhere; of several for one sample the last counts.
    """
    read: dict[Metric, dict[str, float]] = {}
    for one in readings:
        read.setdefault(one.metric, {})[_key(one.metric.name, one.labels)] = one.value
    lines: list[str] = []
    for metric in METRICS:
        if metric in COUNTED:
            samples = list(_counted(metric, counted)) if counted is not None else []
        else:
            samples = list(read.get(metric, {}).items())
        if samples:
            lines += [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{key} {_told(value)}" for key, value in samples]
    return "".join(f"{line}\n" for line in lines).encode()


def _counted(metric: Metric, counted: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for labels in metric.every():
        for name, more in _parts(metric):
            key = key_of(name, (*labels, *more))
            yield key, counted.get(key, 0.0)


def _parts(metric: Metric) -> Iterator[tuple[str, Labels]]:
    """Give the samples of one combination of labels: names, and the labels that they have besides."""
    if metric.kind != "histogram":
        yield metric.name, ()
        return
    for bound in [*(f"{one:g}" for one in metric.buckets), "+Inf"]:
        yield f"{metric.name}_bucket", (("le", bound),)
    yield f"{metric.name}_sum", ()
    yield f"{metric.name}_count", ()


def _key(name: str, labels: Labels) -> str:
    return key_of(name, tuple((label, value.translate(_ESCAPED)) for label, value in labels))


def _told(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
