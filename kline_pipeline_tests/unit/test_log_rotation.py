"""Files of log lines: written by many processes at once through many midnights, kept for 30 days, readable by one."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kline_pipeline.errors import ConfigError
from kline_pipeline.log.daily import KEPT_DAYS, begin_anew
from kline_pipeline.log.lines import Lines
from kline_pipeline.log.rotation import LogFile

MIDDAY_S = 1_712_750_400.0  # 2024-04-10T12:00:00Z
DAY_S = 86_400
PROCESSES, LINES, DAYS = 8, 240, 20
# Each process has a clock of its own that goes 20 days while it writes; who is ahead begins the file of the next day.
WRITER = f"""
import logging, sys, time
from pathlib import Path
now_s = {MIDDAY_S}
time.time = lambda: now_s
from kline_pipeline.log.lines import Lines
from kline_pipeline.log.rotation import LogFile
file = LogFile(Path(sys.argv[1]), Lines("json"), trouble=logging.StreamHandler())
logger = logging.getLogger("kline_pipeline.writer")
logger.setLevel("INFO")
logger.addHandler(file)
for number in range({LINES}):
    now_s = {MIDDAY_S} + number * {DAYS} // {LINES} * {DAY_S}
    logger.info("line", extra={{"writer": sys.argv[2], "number": number, "filling": "x" * 500}})
file.close()
"""


def files_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def test_eight_processes_through_many_midnights_lose_no_line_and_break_none(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "kline.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], stderr=subprocess.PIPE)
        for number in range(PROCESSES)
    ]
    told = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * PROCESSES, told
    assert told == [b""] * PROCESSES
    files = files_of(path)
    assert len(files) > DAYS // 2
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    written = sorted((line["writer"], line["number"]) for line in lines)
    assert written == sorted((str(writer), number) for writer in range(PROCESSES) for number in range(LINES))
    assert {oct(file.stat().st_mode & 0o777) for file in [*files, *path.parent.glob(".*")]} == {"0o600"}


def test_of_more_days_than_thirty_the_last_thirty_are_kept_with_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kline.log"
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    for day in range(KEPT_DAYS + 5):
        monkeypatch.setattr(time, "time", lambda now_s=MIDDAY_S + day * DAY_S: now_s)
        file = LogFile(path, Lines("json"), trouble=logging.NullHandler())  # as a command that runs once a day
        file.handle(logging.makeLogRecord({"msg": f"day {day}", "levelno": logging.INFO, "levelname": "INFO"}))
        file.close()
    files = files_of(path)
    assert len(files) == KEPT_DAYS + 1
    told = {file.name: json.loads(file.read_text())["event"] for file in files}
    assert told["kline.log"] == f"day {KEPT_DAYS + 4}"
    assert told["kline.log.2024-04-14"] == "day 4"  # by the day, UTC, on which it was written
    assert "kline.log.2024-04-13" not in told


def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "kline.log"
    path.touch(0o644)
    file = LogFile(path, Lines("json"), trouble=logging.NullHandler())
    file.handle(logging.makeLogRecord({"msg": "x"}))
    file.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_that_cannot_be_written_any_more_are_told_once(tmp_path: Path) -> None:
    class Heard(logging.Handler):
        def __init__(self) -> None:
            super().__init__()
            self.levels: list[int] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.levels.append(record.levelno)

    heard, folder = Heard(), tmp_path / "logs"
    file = LogFile(folder / "kline.log", Lines("json"), trouble=heard)
    file.handle(logging.makeLogRecord({"msg": "x"}))
    for one in folder.iterdir():
        one.unlink()
    folder.rmdir()
    folder.touch()
    for _ in range(3):
        file.handle(logging.makeLogRecord({"msg": "y"}))
    file.close()
    assert heard.levels == [logging.ERROR]


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KLINE_LOG_FILE"):
        LogFile(tmp_path, Lines("json"), trouble=logging.NullHandler())


def test_what_children_printed_before_today_is_put_aside_while_they_print_on(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    with path.open("ab") as child:
        child.write(b"yesterday\n")
        child.flush()
        os.utime(path, (MIDDAY_S, MIDDAY_S))
        begin_anew(path)
        child.write(b"today\n")
        child.flush()
        begin_anew(path)
    assert path.read_bytes() == b"today\n"
    old = tmp_path / "daemon.log.2024-04-10"
    assert old.read_bytes() == b"yesterday\n"
    assert old.stat().st_mode & 0o777 == 0o600


def test_thirty_files_of_children_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    names = [f"daemon.log.2024-03-{day:02}" for day in range(1, 32)] + ["daemon.log.2024-04-01"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "daemon.log.mine").touch()
    begin_anew(path)
    assert [file.name for file in files_of(path)] == ["daemon.log", *names[-KEPT_DAYS:], "daemon.log.mine"]
    assert path.stat().st_mode & 0o777 == 0o600
