"""A folder of ours: whole files or none, and one venue for ever."""

import os
import resource
from pathlib import Path

import pytest

from kline_pipeline.errors import ConfigError, StorageError, VenueMismatch
from kline_pipeline.files import Folder


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "work"))

    folder.replace("a/b.parquet", b"old")
    folder.replace("a/b.parquet", b"new")

    assert folder.read("a/b.parquet") == b"new"
    assert [path.name for path in (tmp_path / "work/a").iterdir()] == ["b.parquet"]


def test_a_write_that_fails_leaves_the_old_file_and_says_where(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.replace("a/b", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="a/b"):
            folder.replace("a/b", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert folder.read("a/b") == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.replace("a/b", b"old")

    with pytest.raises(StorageError, match="a/b/c"):
        folder.replace("a/b/c", b"new")


def test_what_a_killed_writer_left_is_no_file_and_is_swept_later(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    left = tmp_path / ".b.0123abcd.tmp"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))

    assert folder.names("") == []
    folder.replace("b", b"whole")

    assert not left.exists()


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "nowhere"))

    assert folder.names("raw") == []
    assert folder.read("raw/x") is None


def test_an_object_store_url_works_like_a_folder() -> None:
    folder = Folder("memory://bucket/work")

    folder.replace("a/one", b"1")
    folder.replace("a/two", b"2")

    assert folder.names("a") == ["one", "two"]
    assert folder.read("a/one") == b"1"
    assert folder.read("a/none") is None
    assert folder.names("b") == []


def test_a_url_without_a_known_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="nosuch://"):
        Folder("nosuch://bucket")


def test_a_folder_of_one_exchange_refuses_another(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.claim("bybit")
    folder.claim("bybit")

    with pytest.raises(VenueMismatch, match="bybit"):
        folder.claim("simulated-seed-7")
