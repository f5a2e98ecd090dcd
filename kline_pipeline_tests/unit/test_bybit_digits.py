"""A column of plain decimals holds what was served, and nothing else gets into one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_pipeline.bybit.digits import NotPlain, column

PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
TEXTS = st.lists(
    st.one_of(
        st.from_regex(PLAIN, fullmatch=True), st.text(st.sampled_from("0123456789.-+eE \u0663\u00e9"), max_size=5)
    ),
    max_size=6,
)


@given(TEXTS, st.booleans())
def test_a_column_holds_plain_decimals_or_names_the_first_text_that_is_none(texts: list[str], whole: bool) -> None:
    pattern = WHOLE if whole else PLAIN
    bad = [text for text in texts if not pattern.fullmatch(text)]
    if not bad:
        assert column(texts, whole=whole).to_pylist() == texts
        return
    with pytest.raises(NotPlain) as caught:
        column(texts, whole=whole)
    assert caught.value.text in bad


@pytest.mark.parametrize(
    "text", ["", ".", "1.", ".5", "1..2", "1.2.3", "1e5", "-1", "+1", " 1", "1 ", "1_0", "\u0663", "/", ":"]
)
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(NotPlain):
        column(["1", text, "2.5"])


def test_a_number_of_sixteen_digits_is_no_open_time() -> None:
    assert column(["1" * 15], whole=True).to_pylist() == ["1" * 15]
    with pytest.raises(NotPlain):
        column(["1" * 16], whole=True)
