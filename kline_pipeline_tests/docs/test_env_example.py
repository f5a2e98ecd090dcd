""".env.example names every variable that the code reads, with the default that the code has, and no other."""

import re
from pathlib import Path

from kline_pipeline.config import BybitSettings, KlineSettings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_every_variable_stands_there_with_its_default() -> None:
    found = dict(re.findall(r"^(?:# )?((?:BYBIT|KLINE)_[A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    expected = {
        prefix + name.upper(): "" if field.default is None else str(field.default)
        for prefix, model in (("BYBIT_", BybitSettings), ("KLINE_", KlineSettings))
        for name, field in model.model_fields.items()
    }

    assert found == expected


def test_variables_without_a_default_are_commented_out() -> None:
    empty = re.findall(r"^((?:BYBIT|KLINE)_[A-Z_]+)=$", EXAMPLE.read_text(), re.MULTILINE)

    assert empty == []
