"""Messages are kept with the state they tell of, reach each target once and in order, and survive their process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from kline_pipeline.alerting.delivery import targets
from kline_pipeline.alerting.episodes import FinishedRun
from kline_pipeline.alerting.outbox import Delivered, deliver, track
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.database.locks import take_alert_lock
from kline_pipeline_tests.alert_cases import judged, run
from kline_pipeline_tests.webhooks import Webhook, webhook
from kline_pipeline_tests.worlds import ms

NOW_MS = ms("2024-04-10 12:34:56")
A, B, C = "2024-03-01|AUSDT", "2024-03-01|BUSDT", "2024-03-01|CUSDT"
DELIVER = """
from kline_pipeline.alerting.delivery import targets
from kline_pipeline.alerting.outbox import deliver
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import connect
settings = Settings.load()
with connect(settings, migrate=False) as database:
    deliver(database, targets(settings.alert_urls)[0])
"""


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook("/path_secret") as made:
        yield made


class Outbox:
    """Ticks over runs that a test tells, numbered as Dagster numbers its events."""

    def __init__(self, database: Database, settings: Settings, *urls: str) -> None:
        self.database, self.settings = database, settings
        self.targets = targets(SecretStr(url) for url in urls)[0]
        self.cursors: list[int | None] = []

    def track(self, *runs: FinishedRun, now_ms: int = NOW_MS) -> int:
        def read(after: int | None) -> tuple[Sequence[FinishedRun], int | None]:
            self.cursors.append(after)
            return runs, (after or 0) + len(runs)

        return track(self.database, self.settings, read, self.targets, now_ms=now_ms)

    def deliver(self, **given: Any) -> Delivered:
        return deliver(self.database, self.targets, **given)

    def tick(self, *runs: FinishedRun) -> Delivered:
        self.track(*runs)
        return self.deliver()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]


@pytest.fixture
def outbox(database: Database, settings: Settings, hook: Webhook) -> Outbox:
    return Outbox(database, settings, hook.url)


def symbols(hook: Webhook) -> list[str]:
    return [title.split(":")[1] for title in hook.titles]


def test_a_webhook_that_refuses_twice_gets_each_message_once_and_in_order(outbox: Outbox, hook: Webhook) -> None:
    hook.refusals = [500, 500]
    first = outbox.tick(run(judged(A), judged(B)))
    second = outbox.tick(run(judged(C)))
    third = outbox.tick(run(judged(A, passed=True)))
    assert [(one.sent, len(one.errors), one.waiting) for one in (first, second, third)] == [
        (0, 1, 2), (0, 1, 3), (4, 0, 0),
    ]  # fmt: skip
    assert "error=500" in first.errors[0]
    assert symbols(hook) == ["AUSDT", "BUSDT", "CUSDT", "AUSDT"]
    assert [payload["type"] for payload in hook.payloads] == ["failure"] * 3 + ["success"]
    attempts = outbox.rows("select attempts from kline.alert_deliveries join kline.alerts using (alert_id) order by 1")
    assert attempts == [(1,), (1,), (1,), (3,)]
    assert outbox.tick() == Delivered()


def test_a_target_that_fails_does_not_keep_another_waiting(database: Database, settings: Settings) -> None:
    with webhook() as bad, webhook() as good:
        bad.refusals = [503]
        outbox = Outbox(database, settings, bad.url, good.url)
        assert outbox.tick(run(judged(A), judged(B))).sent == 2
        assert (len(bad.payloads), len(bad.refused), len(good.payloads)) == (0, 1, 2)
        assert outbox.tick().sent == 2
        assert bad.ids == good.ids


def test_nothing_is_kept_of_a_tick_that_breaks_off(outbox: Outbox, hook: Webhook) -> None:
    def broken(after: int | None) -> tuple[Sequence[FinishedRun], int]:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        track(outbox.database, outbox.settings, broken, outbox.targets, now_ms=NOW_MS)
    outbox.tick(run(judged(A)))
    outbox.tick()
    assert outbox.cursors == [None, 1]
    assert len(hook.payloads) == 1


def _killed_at(payload_number: int, hook: Webhook, outbox: Outbox, variables: Callable[[str], object]) -> None:
    """Deliver in a process that is killed when its message has arrived and is not answered yet."""
    variables("http://127.0.0.1:1")
    environment = {**os.environ, "KLINE_ALERT_URLS": hook.url}
    process = subprocess.Popen([sys.executable, "-c", DELIVER], env=environment)

    def kill(_: dict[str, Any]) -> None:
        if len(hook.payloads) == payload_number:
            process.send_signal(signal.SIGKILL)
            process.wait()

    hook.before_answer = kill
    assert process.wait(120) == -signal.SIGKILL
    hook.before_answer = lambda _: None


def test_a_process_killed_between_sending_and_saving_sends_that_message_again_with_its_id(
    outbox: Outbox, hook: Webhook, tell_environment: Callable[[str], object]
) -> None:
    outbox.track(run(judged(A), judged(B), judged(C)))
    _killed_at(2, hook, outbox, tell_environment)
    assert symbols(hook) == ["AUSDT", "BUSDT"]
    assert outbox.tick().sent == 2
    assert symbols(hook) == ["AUSDT", "BUSDT", "BUSDT", "CUSDT"]
    assert hook.ids[1] == hook.ids[2]
    assert f"Alert: {hook.ids[1]}" in hook.payloads[1]["message"]
    assert outbox.tick().sent == 0


def test_what_an_earlier_process_knew_is_known(outbox: Outbox, settings: Settings, hook: Webhook) -> None:
    outbox.tick(run(judged(A)))
    again = Outbox(outbox.database, settings, hook.url)
    again.tick(run(judged(A)))
    again.tick(run(judged(A, passed=True)))
    assert again.cursors == [1, 2]
    assert [payload["title"].split()[0] for payload in hook.payloads] == ["ERROR", "RECOVERED"]


def test_without_a_target_episodes_are_followed_and_a_later_target_gets_what_is_new_alone(
    database: Database, settings: Settings, hook: Webhook
) -> None:
    assert Outbox(database, settings).track(run(judged(A))) == 1
    later = Outbox(database, settings, hook.url)
    assert later.tick(run(judged(A), judged(B))).sent == 1
    assert symbols(hook) == ["BUSDT"]
    later.tick(run(judged(A, passed=True, minute=5)))
    assert hook.titles[-1].startswith("RECOVERED linear:AUSDT")


def test_while_another_process_sends_this_one_does_not(outbox: Outbox, hook: Webhook) -> None:
    with outbox.database.engine.begin() as other:
        assert take_alert_lock(other)
        assert outbox.tick(run(judged(A))) == Delivered(waiting=1)
    assert outbox.tick().sent == 1


def test_what_does_not_fit_into_a_tick_goes_out_with_the_next(outbox: Outbox, hook: Webhook) -> None:
    outbox.track(run(judged(A), judged(B), judged(C)))
    seconds = iter(range(100))
    assert outbox.deliver(seconds=2.5, clock=lambda: next(seconds)) == Delivered(sent=2, waiting=1)
    assert outbox.deliver() == Delivered(sent=1)
    assert symbols(hook) == ["AUSDT", "BUSDT", "CUSDT"]


def test_no_secret_of_a_url_is_stored_or_told(database: Database, settings: Settings, hook: Webhook) -> None:
    hook.refusals = [401]
    outbox = Outbox(database, settings, f"{hook.url}?+Authorization=header_secret")
    (error,) = outbox.tick(run(judged(A))).errors
    stored = repr(outbox.rows("select * from kline.alert_deliveries"))
    assert "error=401" in stored
    assert "_secret" not in stored + error + repr(outbox.targets)


def test_messages_are_forgotten_after_as_many_days_as_runs_are(outbox: Outbox) -> None:
    day_ms = 86_400_000
    outbox.track(run(judged(A)))
    outbox.track(run(judged(B)), now_ms=NOW_MS + (outbox.settings.keep_days + 1) * day_ms)
    assert [title.split(":")[1] for (title,) in outbox.rows("select title from kline.alerts")] == ["BUSDT"]
    assert len(outbox.rows("select * from kline.alert_deliveries")) == 1
    assert len(outbox.rows("select * from kline.alert_episodes")) == 2
