"""Dagster's pages before and after housekeeping, by the questions that its UI asks, over runs of our definitions."""

import asyncio
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.schema import create_schema

from kline_pipeline.config import Settings
from kline_pipeline.database.engine import Database
from kline_pipeline.datasets import Dataset
from kline_pipeline.defs.instance.pruning import prune
from kline_pipeline.defs.instance.storage import open_instance
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.ranges import RangeRun, plan_runs
from kline_pipeline.defs.run_messages import RunEvent
from kline_pipeline.defs.runs import execute_runs
from kline_pipeline.defs.symbols import known_symbols, sync_symbols
from kline_pipeline.market.interval import Interval
from kline_pipeline.simulator.exchange import Exchange
from kline_pipeline_tests.defs.conftest import WorldOf

DAILY = Dataset("linear", Interval("D"), date(2024, 1, 1), "month", ("BTCUSDT", "ETHUSDT"))
DECLARED = """
[[dataset]]
category = "linear"
interval = "D"
grain = "month"
start = 2024-01-01
symbols = ["BTCUSDT", "ETHUSDT"]
"""
MONTHS = [date(2024, month, 1) for month in (1, 2, 3)]
HOLE = {"category": "linear", "symbol": "ETHUSDT", "interval": "D", "open_time": "2024-03-10T00:00"}
DAY_MS = 86_400_000

# Abridged from the questions of Dagster 1.13.27's UI of these names, which stand in its JavaScript.
STATUSES = """
    ... on AssetCheckDefaultPartitionStatuses {
        succeededPartitions failedPartitions inProgressPartitions skippedPartitions executionFailedPartitions }
    ... on AssetCheckTimePartitionStatuses { ranges { startKey endKey status } }"""
EXECUTION = """
    id runId status timestamp stepKey run { id status } evaluation {
        severity success description partition timestamp targetMaterialization { timestamp runId }
        metadataEntries { label description } }"""
PARTITION_HEALTH = """query PartitionHealthQuery($asset: AssetKeyInput!) {
    assetNodeOrError(assetKey: $asset) { ... on AssetNode {
        partitionStats { numMaterialized numMaterializing numPartitions numFailed }
        assetPartitionStatuses { ... on MultiPartitionStatuses { ranges {
            primaryDimStartKey primaryDimEndKey secondaryDim { ... on DefaultPartitionStatuses {
                materializedPartitions materializingPartitions failedPartitions } } } } } } } }"""
ASSET_GRAPH_LIVE = f"""query AssetGraphLiveQuery($asset: AssetKeyInput!) {{
    assetNodes(assetKeys: [$asset], loadMaterializations: true) {{
        assetMaterializations(limit: 1) {{ timestamp runId stepKey partition metadataEntries {{ label description }} }}
        assetChecksOrError {{ ... on AssetChecks {{ checks {{
            name executionForLatestMaterialization {{ {EXECUTION} }}
            partitionStatuses {{ ... on AssetCheckMultiPartitionStatuses {{ ranges {{
                primaryDimStartKey primaryDimEndKey secondaryDim {{ {STATUSES} }} }} }} {STATUSES} }} }} }} }} }}
    assetsLatestInfo(assetKeys: [$asset]) {{
        unstartedRunIds inProgressRunIds latestRun {{ id status startTime endTime }} }} }}"""
PARTITION_DETAIL = """query AssetPartitionDetailQuery($asset: AssetKeyInput!, $partition: String!) {
    assetOrError(assetKey: $asset) { ... on Asset {
        definition { latestRunForPartition(partition: $partition) { id status endTime } }
        assetEventHistory(partitions: [$partition], limit: 1, eventTypeSelectors: [MATERIALIZATION]) { results {
            ... on MaterializationEvent { runId timestamp partition stepKey runOrError { ... on Run { id status } }
                metadataEntries { label ... on IntMetadataEntry { intValue } } tags { key value } } } } } } }"""
CHECK_DETAIL = f"""query AssetCheckPartitionDetailQuery($asset: AssetKeyInput!, $check: String!, $partition: String!) {{
    assetCheckExecutions(assetKey: $asset, checkName: $check, partition: $partition, limit: 1) {{ {EXECUTION} }} }}"""
RUN = """query RunRootQuery($run: ID!) { runOrError(runId: $run) { __typename ... on Run {
    status startTime endTime tags { key value } assetSelection { path } stepStats { stepKey status startTime endTime }
    assets { key { path } } } } }"""
LAUNCH = """mutation LaunchPipelineExecution($run: ExecutionParams!) {
    launchPipelineExecution(executionParams: $run) { ... on LaunchRunSuccess { run { id } } } }"""


class Pages:
    """Answers of a webserver's schema over an instance, with the definitions in a code server of their own."""

    def __init__(self, instance: DagsterInstance, process: WorkspaceProcessContext) -> None:
        self._instance = instance
        self._process = process
        self._schema = create_schema()

    def ask(self, query: str, **variables: Any) -> Any:
        with self._process.create_request_context() as context:
            answer = asyncio.run(self._schema.execute_async(query, context_value=context, variable_values=variables))
        assert not answer.errors, answer.errors
        return answer.data

    def seen(self) -> dict[str, Any]:
        """Return what the pages of every asset, check and partition show, computed from the tables."""
        shown: dict[str, Any] = {}
        checks = {"candles": ("no_gaps", "no_duplicates", "well_formed"), "candles_parquet": ("parquet_agrees",)}
        for name in ("raw_batches", "candles", "candles_postgres", "candles_parquet"):
            asset = {"path": ["linear", "D", name]}
            shown[f"{name} cached"] = self.ask(PARTITION_HEALTH, asset=asset)
            self._instance.wipe_asset_cached_status(
                [key for key in self._instance.all_asset_keys() if key.path[-1] == name]
            )
            shown[f"{name} health"] = self.ask(PARTITION_HEALTH, asset=asset)
            shown[f"{name} live"] = self.ask(ASSET_GRAPH_LIVE, asset=asset)
            for cell in (f"{month}|{symbol}" for month in MONTHS for symbol in DAILY.symbols):
                shown[f"{name} {cell}"] = self.ask(PARTITION_DETAIL, asset=asset, partition=cell)
                for check in checks.get(name, ()):
                    shown[f"{check} {cell}"] = self.ask(CHECK_DETAIL, asset=asset, check=check, partition=cell)
        return shown

    def launch(self, run: RangeRun) -> DagsterRun:
        """Put a run into the queue, which no daemon empties here, and return it."""
        names = ("raw_batches", "candles", "candles_postgres", "candles_parquet")
        selector = {
            "repositoryLocationName": LOCATION_NAME, "repositoryName": "__repository__", "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": ["linear", "D", name]} for name in names],
        }  # fmt: skip
        tags = [{"key": key, "value": value} for key, value in run.range_tags.items()]
        answer = self.ask(LAUNCH, run={"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}})
        launched = self._instance.get_run_by_id(answer["launchPipelineExecution"]["run"]["id"])
        assert launched is not None
        return launched

    def run(self, run_id: str) -> Any:
        return self.ask(RUN, run=run_id)["runOrError"]


@pytest.fixture
def world(world_of: WorldOf, exchange: Exchange) -> Iterator[Settings]:
    """Settings that other processes find in the environment, a daily dataset, and an exchange that answers."""
    with world_of(exchange, DECLARED) as made:
        yield made


@pytest.fixture
def instance(world: Settings) -> Iterator[DagsterInstance]:
    with open_instance(world) as opened:
        sync_symbols(opened, DAILY)
        yield opened


@pytest.fixture
def pages(instance: DagsterInstance) -> Iterator[Pages]:
    target = ModuleTarget("kline_pipeline.definitions", "defs", None, LOCATION_NAME)
    with WorkspaceProcessContext(instance, target) as process:
        yield Pages(instance, process)


def test_every_page_of_a_partition_shows_the_same_before_and_after(
    world: Settings, instance: DagsterInstance, database: Database, exchange: Exchange, pages: Pages
) -> None:
    def plan(months: list[date], *symbols: str) -> RangeRun:
        (run,) = plan_runs(DAILY, months, symbols, known=known_symbols(instance, DAILY))
        return run

    # A hole in March, which is asked again in vain with the month before; January of the first symbol breaks off before
    # any step, and its February waits for its turn.
    exchange.faults.replace([{"drop": HOLE}])
    asked = [plan(MONTHS, "BTCUSDT", "ETHUSDT"), plan(MONTHS[1:], "ETHUSDT")]
    outcomes = execute_runs(world, asked, on_progress=_ignore, workers=1)
    broken, waiting = (pages.launch(plan(MONTHS[month:][:1], "BTCUSDT")) for month in (0, 1))
    instance.report_run_failed(broken, "the machine went down")
    before = pages.seen()
    shown = [*(outcome.run_id for outcome in outcomes), broken.run_id, waiting.run_id]
    runs = {run_id: pages.run(run_id) for run_id in shown}
    stats = before["candles_parquet health"]["assetNodeOrError"]["partitionStats"]
    assert [stats[name] for name in ("numMaterialized", "numMaterializing", "numFailed")] == [3, 1, 2]

    report = prune(database, now_ms=round(time.time() * 1000) + 40 * DAY_MS, keep_days=30)

    assert report.rows["event_logs"] > 50
    assert report.rows["asset_check_executions"] >= 10
    assert pages.seen() == before
    assert {run_id: pages.run(run_id) for run_id in shown} == runs


def _ignore(_: RunEvent) -> None:
    pass
