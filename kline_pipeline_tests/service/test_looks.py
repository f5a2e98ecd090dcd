"""What looks at storage and disk see; the database and the daemon are in postgres/test_late_database."""

from pathlib import Path

import pytest

from kline_pipeline.metrics import DISK_FREE, STORAGE_UP
from kline_pipeline.service.looks import disk_look, storage_look
from kline_pipeline.service.probes import Probe

GB = 10**9


def test_a_storage_that_can_be_used_holds_one_small_file_of_ours_however_often_it_is_looked_at(tmp_path: Path) -> None:
    look = storage_look(str(tmp_path / "snapshots"))

    for _ in range(3):
        seen = look()
        assert (seen.status, seen.readings[0].metric, seen.readings[0].value) == ("ok", STORAGE_UP, 1)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [".probe"]


def test_a_storage_behind_a_url_can_be_used() -> None:
    assert storage_look("memory://snapshots-of-a-test")().status == "ok"


@pytest.mark.parametrize("url", ["{}/file/below", "no-such-protocol://bucket"])
def test_a_storage_that_cannot_be_used_has_failed_without_its_path(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    probe = Probe("snapshot_storage", storage_look(url.format(tmp_path)), period_s=30, deadline_s=20)

    probe.run_once()

    assert probe.state().status == "failed"
    assert str(tmp_path) not in probe.state().seen


@pytest.mark.parametrize(
    ("free", "status"), [(GB - 1, "failed"), (GB, "degraded"), (10 * GB - 1, "degraded"), (10 * GB, "ok")]
)
def test_room_is_judged_as_doctor_does(free: int, status: str, tmp_path: Path) -> None:
    look = disk_look(tmp_path / "not" / "there", free_bytes=lambda _: free)()

    assert look.status == status
    assert (look.readings[0].metric, look.readings[0].value) == (DISK_FREE, free)
    assert str(tmp_path) not in look.seen


def test_room_is_that_of_the_disk(tmp_path: Path) -> None:
    assert disk_look(tmp_path)().readings[0].value > 0
