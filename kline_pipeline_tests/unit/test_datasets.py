"""datasets.toml: what it may say, what it must not, and how it is changed without losing a comment."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.dataset_automation import Follow, Schedule
from kline_pipeline.datasets import load
from kline_pipeline.datasets_file import add_symbol, remove_symbol
from kline_pipeline.errors import DatasetsError
from kline_pipeline.market.series import Series
from kline_pipeline.market.window import iso, to_ms

NOW_MS = to_ms(datetime(2024, 3, 5, 12, tzinfo=UTC))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "datasets.toml"
    path.write_text(text)
    return path


def settings(tmp_path: Path) -> Settings:
    return Settings(BybitSettings(), KlineSettings(home=tmp_path))


def test_the_packaged_default_has_three_datasets() -> None:
    assert [dataset.name for dataset in load(None)] == ["linear_1", "linear_60", "spot_15"]


def test_partitions_reach_from_the_start_to_the_open_one(tmp_path: Path) -> None:
    path = written(tmp_path, '[[dataset]]\ncategory="linear"\ninterval="1"\nstart=2024-01-17\nsymbols=["BTCUSDT"]\n')

    dataset = load(path)[0]

    assert dataset.dates(NOW_MS) == [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)]
    assert str(dataset.window(date(2024, 2, 1))) == "[2024-02-01T00:00:00Z, 2024-03-01T00:00:00Z)"


def test_a_week_belongs_to_the_year_in_which_it_opens(tmp_path: Path) -> None:
    path = written(tmp_path, '[[dataset]]\ncategory="spot"\ninterval="W"\nsymbols=["BTCUSDT"]\n')

    window = load(path)[0].window(date(2024, 1, 1))

    assert (iso(window.start_ms), iso(window.end_ms)) == ("2024-01-01T00:00:00Z", "2025-01-06T00:00:00Z")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[dataset]\n", "not TOML"),
        ('[[dataset]]\ninterval="1"\n', "category is missing"),
        ('[[dataset]]\ncategory="option"\ninterval="1"\n', "category 'option'"),
        ('[[dataset]]\ncategory="linear"\ninterval="7"\n', "interval '7'"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\ngrain="week"\n', "grain = 'week'"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nstart="2024-01-01"\n', "without quotes"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nsymbols="BTCUSDT"\n', "list of texts"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nsymbols=["btc|usdt"]\n', "symbol 'btc|usdt'"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nsinks=[]\n', "sinks is empty"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nsymbol=["BTCUSDT"]\n', "unknown key symbol"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\n' * 2, "linear_1 twice"),
        ("dataset = 3\n", r"\[\[dataset\]\]"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nfollow={}\n', "at least one of quote"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nfollow={coin="USDT"}\n', "table of quote, status, pattern"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nfollow={status="Gone"}\n', "status = 'Gone'"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nfollow={quote=1}\n', "at least one of quote"),
        ('[[dataset]]\ncategory="spot"\ninterval="1"\nfollow={status="Closed"}\n', "spot tells of status Trading"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nschedule={daily=1}\n', "true or false"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nschedule={every_minutes=7}\n', "every_minutes = 7"),
        ('[[dataset]]\ncategory="linear"\ninterval="1"\nschedule="daily"\n', "table of daily, every_minutes"),
    ],
)
def test_a_broken_file_gives_one_sentence_that_names_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DatasetsError, match=named):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetsError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


def test_adding_a_series_copies_the_default_with_its_comments_first(tmp_path: Path) -> None:
    path = add_symbol(settings(tmp_path), Series.parse("linear:DOGEUSDT:5"))

    assert path == tmp_path / "datasets.toml"
    assert "# symbols " in path.read_text()
    assert [(dataset.name, dataset.symbols) for dataset in load(path)][-1] == ("linear_5", ("DOGEUSDT",))


def test_a_removed_series_is_excluded_and_can_be_added_again(tmp_path: Path) -> None:
    series = Series.parse("linear:ETHUSDT:1")

    removed = load(remove_symbol(settings(tmp_path), series))[0]
    again = load(add_symbol(settings(tmp_path), series))[0]

    assert (removed.symbols, removed.exclude) == (("BTCUSDT",), ("ETHUSDT",))
    assert (again.symbols, again.exclude) == (("BTCUSDT", "ETHUSDT"), ())


def test_what_a_dataset_follows_and_when_it_is_brought_up_to_date(tmp_path: Path) -> None:
    keys = 'follow={quote="USDT", pattern="BTC*"}\nschedule={daily=false, every_minutes=15}\n'

    (dataset,) = load(written(tmp_path, f'[[dataset]]\ncategory="linear"\ninterval="1"\n{keys}'))

    assert dataset.follow == Follow("USDT", "Trading", "BTC*")
    assert dataset.schedule == Schedule(daily=False, every_minutes=15)


def test_a_dataset_follows_nothing_and_is_brought_up_to_date_daily_by_default() -> None:
    assert {(dataset.follow, dataset.schedule) for dataset in load(None)} == {(None, Schedule(daily=True))}


@pytest.mark.parametrize(
    ("follow", "taken"),
    [
        (Follow(quote="USDT"), {"BTCUSDT", "ETHUSDT"}),
        (Follow(quote="USDT", pattern="BTC*"), {"BTCUSDT"}),
        (Follow(pattern="?TH*"), {"ETHUSDT", "ETHPERP"}),
        (Follow(status="Closed"), {"LUNAUSDT"}),
    ],
)
def test_an_instrument_is_followed_when_all_fits(follow: Follow, taken: set[str]) -> None:
    listed = [
        ("BTCUSDT", "USDT", "Trading"),
        ("ETHUSDT", "USDT", "Trading"),
        ("ETHPERP", "USDC", "Trading"),
        ("LUNAUSDT", "USDT", "Closed"),
    ]
    matching = {one for one, quote, status in listed if follow.matches(symbol=one, quote=quote, status=status)}
    assert matching == taken
