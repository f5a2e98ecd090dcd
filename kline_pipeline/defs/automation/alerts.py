"""The sensor `alerts`: each failed check and run is told once, and its recovery once; how is told in alerting/."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg

from kline_pipeline.alerting.delivery import targets
from kline_pipeline.alerting.outbox import Delivered, deliver, track
from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database, connect
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.automation.finished_runs import read_finished
from kline_pipeline.defs.run_lines import tick_lines
from kline_pipeline.errors import AlertsNotDelivered

NAME: Final = "alerts"
_INTERVAL_S: Final = 10
_WORDS: Final = (
    "Tells KLINE_ALERT_URLS of each check and run that fails, once, and of its recovery, once; "
    "what a target did not take is sent again."
)


@dataclass(frozen=True, slots=True)
class Told:
    """What a tick did.

    Attributes:
        new: messages that were made.
        targets: how many there are.
        delivered: what became of the messages, old ones included.
    """

    new: int
    targets: int
    delivered: Delivered

    @property
    def sentence(self) -> str:
        """What the tick's page says."""
        if not self.targets:
            told = f"{self.new} new alerts were sent to nobody: " if self.new else ""
            return f"{told}KLINE_ALERT_URLS names no target; what fails is followed all the same"
        return f"{self.new} new alerts; {self.delivered.sent} delivered, {self.delivered.waiting} waiting"


def alert_sensors(declared: Sequence[Dataset]) -> list[dg.SensorDefinition]:
    """Return the sensor, running by default; none where no dataset is declared."""

    @dg.sensor(
        name=NAME,
        description=_WORDS,
        minimum_interval_seconds=_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with tick_lines(NAME) as settings, connect(settings, migrate=False) as database:
            told = tell(context.instance, database, settings, now_ms=time.time_ns() // 1_000_000)
        return dg.SkipReason(told.sentence)

    return [alerts] if declared else []


def tell(instance: dg.DagsterInstance, database: Database, settings: Settings, *, now_ms: int) -> Told:
    """Read what ended since the last time, keep what is news, send what is not sent yet.

    Args:
        instance: whose runs are read.
        database: of our tables, migrated.
        settings: targets, least severity and the UI's URL.
        now_ms: UTC milliseconds.

    Raises:
        AlertsNotDelivered: a target did not take a message, or a URL is none; all the others were served, nothing is
            lost, and the next tick goes on.
        DatabaseUnavailable: no server answers.
    """
    good, wrong = targets(settings.alert_urls)
    new = track(database, settings, lambda after: read_finished(instance, after, now_ms=now_ms), good, now_ms=now_ms)
    delivered = deliver(database, good)
    if errors := [*map(str, wrong), *delivered.errors]:
        raise AlertsNotDelivered("; ".join(errors))
    return Told(new, len(good), delivered)
