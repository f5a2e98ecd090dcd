"""What Dagster loads, and the pipeline as a resource: overrides, opening, closing."""

import importlib
import tomllib
from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from kline_pipeline import datasets
from kline_pipeline.cli import dagster_children
from kline_pipeline.config import BybitSettings, Settings
from kline_pipeline.definitions import definitions_of
from kline_pipeline.defs.location import LOCATION_NAME
from kline_pipeline.defs.resources import BybitResource, resources
from kline_pipeline.errors import DatasetsError
from kline_pipeline.pipeline import Pipeline

BROKEN = '[[dataset]]\ncategory = "linear"\ninterval = "7"\n'


def test_every_declared_dataset_is_one_group_of_four_assets_with_eight_checks() -> None:
    graph = definitions_of(datasets.load(None)).resolve_asset_graph()

    groups = {name: graph.asset_keys_for_group(name) for name in ("linear_1", "linear_60", "spot_15")}
    assert {name: len(keys) for name, keys in groups.items()} == dict.fromkeys(groups, 4)
    assert set().union(*groups.values()) == graph.get_all_asset_keys()
    for keys in groups.values():
        assert sorted(check.name for check in graph.asset_check_keys if check.asset_key in keys) == [
            "consistent", "fresh", "no_duplicates", "no_gaps", "parquet_agrees", "postgres_agrees", "revisions",
            "well_formed",
        ]  # fmt: skip


def test_definitions_of_all_datasets_resolve() -> None:
    dg.Definitions.validate_loadable(definitions_of(datasets.load(None)))


def test_every_way_to_start_dagster_names_the_location_alike() -> None:
    top = Path(__file__).parents[2]
    project = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    workspace = (top / "workspace.yaml").read_text()
    assert project["code_location_name"] == LOCATION_NAME
    assert f"location_name: {LOCATION_NAME}\n" in workspace
    assert workspace == dagster_children._WORKSPACE


def test_a_broken_datasets_file_is_one_sentence_when_dagster_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "datasets.toml"
    path.write_text(BROKEN)
    monkeypatch.setenv("KLINE_DATASETS_FILE", str(path))
    module = importlib.import_module("kline_pipeline.definitions")
    with pytest.raises(DatasetsError, match=r"dataset 1: interval '7' is not one of Bybit's"):
        importlib.reload(module)


def test_loading_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("KLINE_HOME", str(home))
    importlib.reload(importlib.import_module("kline_pipeline.definitions"))
    assert not home.exists()


def test_the_resource_overrides_only_what_is_given() -> None:
    settings = BybitSettings(timeout_s=3)
    assert BybitResource(concurrency=2).over(settings) == settings.model_copy(update={"concurrency": 2})
    assert BybitResource().over(settings) == settings


def test_the_resource_offers_every_setting_of_the_exchange_but_secrets_and_the_cache() -> None:
    left_out = set(BybitSettings.model_fields) - set(BybitResource.model_fields)
    assert left_out == {"api_key", "api_secret", "cache_url", "cache_ttl_days", "cache_max_mb"}


@pytest.mark.parametrize("wrong", [{"requests_per_second": 500}, {"base_url": "ftp://x"}, {"concurrency": 0}])
def test_an_override_has_the_bounds_of_the_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BybitResource(**wrong)


def test_a_run_opens_the_pipeline_with_its_overrides_and_closes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("KLINE_HOME", str(settings.home))
    monkeypatch.setenv("KLINE_DATABASE_URL", settings.database_url.get_secret_value())
    seen: list[tuple[str, int]] = []

    @dg.asset
    def asks(pipeline: dg.ResourceParam[Pipeline]) -> None:
        seen.append((pipeline._client.host, pipeline._concurrency))

    for config, expected in (({}, ("api.bybit.com", 16)), ({"concurrency": 3}, ("api.bybit.com", 3))):
        run_config = {"resources": {"bybit": {"config": config}}} if config else None
        with dg.DagsterInstance.ephemeral() as instance:
            assert dg.materialize([asks], resources=resources(), run_config=run_config, instance=instance).success
        assert seen[-1] == expected
