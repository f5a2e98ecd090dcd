"""What an expression of Prometheus asks for: its metrics with their matchers, and the labels that it groups by.

Only what can be told without knowing types; that it is one at all is for promtool to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kline_pipeline.metrics import METRICS, Metric, sample_names

_TOKEN = re.compile(
    r"\"[^\"]*\"|'[^']*'"  # a text
    r"|[a-zA-Z_]\w*|[\d.]+(?:e-?\d+)?[smhdwy]*"  # a name; a number or a time
    r"|=~|!~|!=|==|>=|<=|[-+*/%^(){}\[\],=<>:]"
)
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
# What Prometheus itself says of a target.
_OF_PROMETHEUS = {"up": Metric("up", "gauge", "Whether a target answered.", {"job": ("kline_pipeline",)})}


@dataclass
class Selector:
    """A metric by its exported name, and per matcher label, operator and value."""

    name: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)


def parsed(expression: str) -> tuple[list[Selector], set[str]]:
    """Return the selectors of an expression, and the labels that it groups or joins by."""
    tokens = list(_tokens(expression))
    selectors: list[Selector] = []
    labels: set[str] = set()
    at = 0
    while at < len(tokens):
        token = tokens[at]
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if token in _GROUPING and following == "(":
            end = tokens.index(")", at)
            labels.update(name for name in tokens[at + 2 : end] if name != ",")
            at = end
        elif token == "{":
            end = tokens.index("}", at)
            inside = [part for part in tokens[at + 1 : end] if part != ","]
            matchers = zip(inside[::3], inside[1::3], inside[2::3], strict=True)
            selectors[-1].matchers += [(label, operator, value[1:-1]) for label, operator, value in matchers]
            at = end
        elif _is_metric(token, following):
            selectors.append(Selector(token))
        at += 1
    return selectors, labels


def faults(expression: str) -> list[str]:
    """Return what an expression asks for that is not exported: names, labels, values of labels."""
    selectors, labels = parsed(expression)
    found = [] if selectors else ["it asks for no metric"]
    for selector in selectors:
        metric = _exported().get(selector.name)
        if metric is None:
            found.append(f"{selector.name} is not exported")
            continue
        known = {*metric.labels, *(["le"] if selector.name.endswith("_bucket") else [])}
        found += [f"{selector.name} has no label {label}" for label in labels - known]
        for label, operator, value in selector.matchers:
            values = metric.labels.get(label)
            if values is None:
                found.append(f"{selector.name} has no label {label}")
            elif values:  # empty where the label names a series
                wanted = value.split("|") if "~" in operator else [value]
                found += [f"{label} of {selector.name} is never {one}" for one in wanted if not _says(values, one)]
    return found


def _is_metric(token: str, following: str) -> bool:
    """Return whether a token is a metric: a name, no function or aggregation of what follows, and no operator."""
    function = following in {"(", "by", "without"}
    return bool(re.fullmatch(r"[a-zA-Z_]\w*", token)) and not function and token.lower() not in {*_GROUPING, *_WORDS}


def _says(values: tuple[str, ...], wanted: str) -> bool:
    return any(re.fullmatch(wanted, value) for value in values)


def _exported() -> dict[str, Metric]:
    return {name: metric for metric in METRICS for name in sample_names(metric)} | _OF_PROMETHEUS


def _tokens(expression: str) -> Iterator[str]:
    rest = expression.strip()
    while rest:
        match = _TOKEN.match(rest)
        assert match is not None, f"cannot read {rest!r}"
        yield match[0]
        rest = rest[match.end() :].lstrip()
