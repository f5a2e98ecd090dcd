"""Where a command says that Dagster's UI is."""

import os
from pathlib import Path

import pytest

from kline_pipeline.cli.ui_address import only_up, run_link, running_up, ui_url
from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.errors import StorageError

URL = "http://127.0.0.1:3001"


def test_the_address_counts_only_while_up_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert running_up(home) is None
    with only_up(home, URL):
        assert running_up(home) == URL
    assert URL in (home / "up.lock").read_text()
    assert running_up(home) is None


def test_a_home_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"), only_up(tmp_path / "file" / "home", URL):
        pass


def test_a_look_does_not_keep_the_next_up_from_starting(tmp_path: Path) -> None:
    for _ in range(3):
        with only_up(tmp_path, URL):
            assert running_up(tmp_path) == URL
        assert running_up(tmp_path) is None


def test_a_second_up_is_refused_and_leaves_the_address_of_the_first(tmp_path: Path) -> None:
    with only_up(tmp_path, URL):
        with pytest.raises(StorageError, match=f"as process {os.getpid()}"), only_up(tmp_path, "http://other"):
            pass
        assert running_up(tmp_path) == URL


def test_a_set_address_goes_before_that_of_up(tmp_path: Path) -> None:
    said = Settings(BybitSettings(), KlineSettings(home=tmp_path, ui_url="https://kline.example.org/"))
    unsaid = Settings(BybitSettings(), KlineSettings(home=tmp_path))
    with only_up(tmp_path, URL):
        assert (ui_url(said), ui_url(unsaid)) == ("https://kline.example.org", URL)
    assert ui_url(unsaid) is None


def test_a_run_without_a_ui_is_its_id() -> None:
    assert run_link(URL, "abc") == f"{URL}/runs/abc"
    assert run_link(None, "abc") == "abc"
