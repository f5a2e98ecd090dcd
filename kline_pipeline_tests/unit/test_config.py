"""Settings: wrong values are named with their variable, and simulated ones keep to themselves."""

from pathlib import Path

import pytest

from kline_pipeline.config import Settings
from kline_pipeline.errors import ConfigError


def test_every_wrong_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYBIT_REQUESTS_PER_SECOND", "200")
    monkeypatch.setenv("BYBIT_BASE_URL", "ftp://x")

    with pytest.raises(ConfigError) as caught:
        Settings.load()

    assert "BYBIT_REQUESTS_PER_SECOND" in str(caught.value)
    assert "BYBIT_BASE_URL: must begin with http" in str(caught.value)


def test_a_secret_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLINE_DATABASE_URL", "mysql://u:hunter2@h/d")

    with pytest.raises(ConfigError) as caught:
        Settings.load()

    assert "hunter2" not in str(caught.value)
    assert "KLINE_DATABASE_URL" in str(caught.value)


def test_a_home_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KLINE_HOME", str(tmp_path / ("x" * 300)))

    with pytest.raises(ConfigError, match="KLINE_HOME"):
        Settings.load()


def test_the_nearest_home_upward_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".kline").mkdir()
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")

    assert Settings.load().home == tmp_path / ".kline"


def test_simulated_settings_live_apart_and_ignore_the_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KLINE_HOME", str(tmp_path))
    monkeypatch.setenv("KLINE_DATABASE_URL", "postgresql://u:p@h/d")
    monkeypatch.setenv("KLINE_SNAPSHOT_URL", str(tmp_path / "real"))
    monkeypatch.setenv("BYBIT_API_KEY", "mine")
    monkeypatch.setenv("BYBIT_API_SECRET", "geheim")
    monkeypatch.setenv("BYBIT_CACHE_URL", "redis://elsewhere")

    settings = Settings.load(simulated=True)

    assert settings.home == tmp_path / "simulated"
    assert settings.database_url is None
    assert settings.ignored_database_url
    assert settings.bybit.api_key is None
    assert settings.cache_url is not None
    assert settings.cache_url.get_secret_value() == f"file:{tmp_path}/simulated/cache"
    assert settings.snapshot_url == str(tmp_path / "simulated/snapshots")


@pytest.mark.parametrize("url", ["redis:/nowhere", "memcached://x", "file:", "/a/folder"])
def test_a_cache_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BYBIT_CACHE_URL", url)
    with pytest.raises(ConfigError, match="BYBIT_CACHE_URL"):
        Settings.load()


def test_a_key_without_its_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYBIT_API_KEY", "mine")
    with pytest.raises(ConfigError, match="BYBIT_API_SECRET") as caught:
        Settings.load()
    assert "mine" not in str(caught.value)


def test_secrets_have_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_SECRET"):
        monkeypatch.setenv(f"BYBIT_{name}", "geheim")
    monkeypatch.setenv("BYBIT_CACHE_URL", "redis://:geheim@host")
    settings = Settings.load()
    assert "geheim" not in repr(settings.bybit) + str(settings.bybit) + repr(vars(settings))


@pytest.mark.parametrize("name", ["COOL_DOWN_S", "TIMEOUT_S", "CLOSE_GRACE_S", "CACHE_TTL_DAYS", "RETRY_TOTAL_S"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e12", "-1"])
def test_a_number_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"BYBIT_{name}", value)
    with pytest.raises(ConfigError, match=f"BYBIT_{name}"):
        Settings.load()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KLINE_HOME", "KLINE_DATABASE_URL", "KLINE_LOG_FORMAT", "BYBIT_CACHE_URL", "BYBIT_API_KEY"):
        monkeypatch.setenv(name, "")
    settings = Settings.load()
    assert (settings.home, settings.database_url, settings.bybit.api_key) == (tmp_path / ".kline", None, None)
