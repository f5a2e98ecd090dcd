"""Secrets are hidden in every spelling, in messages, fields and tracebacks, before any handler sees a record."""

import base64
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from kline_pipeline.config import BybitSettings, KlineSettings, Settings
from kline_pipeline.locations import alert_secrets, url_secrets
from kline_pipeline.log.redaction import HIDDEN, Redaction, protect

SECRET = 'c4n/ary+"secret"=välue'
LONG = "canarySecretOf36Characters0123456789"


class Kept(logging.Handler):
    """What a handler of anybody gets to see: each record, put in words at once."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.texts.append(logging.Formatter().format(record))


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of another library's logger, under the secrets of the test."""
    handler, logger = Kept(), logging.getLogger("another.library")
    factory = logging.getLogRecordFactory()
    protect([SECRET, LONG])
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.propagate = True
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        LONG,
        LONG[:20] + "...",
        f"https://api.example/{LONG}/x",
        f"X{LONG}Y",
    ],
)
def test_a_secret_is_hidden_however_it_is_spelled(spelled: str) -> None:
    shown = Redaction([SECRET, LONG]).text(f"asked with {spelled} today")
    assert HIDDEN in shown
    assert shown.startswith("asked with ")
    assert shown.endswith(" today")
    assert "4n" not in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("api_key=hunter2 and more", "hunter2"),
        ("password: hunter2", "hunter2"),
        ('{"token": "hunter 2", "rows": 3}', "hunter 2"),
        ("{'db_passwd': 'hunter 2'}", "hunter 2"),
        ("X-BAPI-SIGN: 0a1b2c", "0a1b2c"),
        ("GET /x?sign=0a1b2c&rows=3", "0a1b2c"),
        ("Authorization: Bearer hunter2.abc", "hunter2"),
        ("postgresql://kline:hunter2@host:5432/d", "hunter2"),
        ("redis://:hunter2@host", "hunter2"),
        ("apiSecret=hunter2", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_though_nobody_knows_it(text: str, hidden: str) -> None:
    shown = Redaction().text(text)
    assert hidden not in shown
    assert HIDDEN in shown
    assert Redaction().text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "candles of linear:BTCUSDT:1 in [2024-01-01T00:00:00Z, 2024-01-02T00:00:00Z)",
        "BYBIT_API_SECRET: must be set with BYBIT_API_KEY",
        "monkey=3 design=4 assignment=5",
        "http://127.0.0.1:8090/v5/market/kline?symbol=BTCUSDT",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redaction([LONG]).text(text) == text


def test_a_short_password_is_hidden_as_a_word_and_takes_no_other_word_apart() -> None:
    shown = Redaction(["kline", "a"]).text("kline_pipeline: the password kline, a table kline.candles")
    assert shown == f"kline_pipeline: the password {HIDDEN}, a table {HIDDEN}.candles"


def test_fields_are_hidden_by_name_and_by_value_at_any_depth() -> None:
    hide = Redaction([LONG])
    assert hide.field("access_token", "short") == HIDDEN
    assert hide.field("api_key", None) is None
    shown = hide.field("sent", {"headers": {"X-BAPI-SIGN": "ab"}, "urls": [f"x?k={LONG}"], LONG: 1, "rows": 3})
    assert shown == {"headers": {"X-BAPI-SIGN": HIDDEN}, "urls": [f"x?k={HIDDEN}"], HIDDEN: 1, "rows": 3}
    assert LONG not in str(hide.field("window", Path(f"/x/{LONG}")))


def test_no_handler_of_another_library_sees_a_secret(kept: Kept) -> None:
    logger = logging.getLogger("another.library")
    logger.warning("sent %s", LONG)
    logger.warning("sent %(what)s", {"what": SECRET})
    logger.warning(quote(SECRET, safe=""))
    logger.warning(ValueError(LONG))
    assert len(kept.texts) == 4
    shown = [*kept.texts, *(str(vars(record)) for record in kept.records)]
    assert not [text for text in shown if "canary" in text or "4n" in text]


def test_a_traceback_with_its_causes_and_notes_holds_no_secret(kept: Kept) -> None:
    try:
        try:
            raise OSError(f"connected with {LONG}")
        except OSError as exc:
            exc.add_note(f"by {SECRET}")
            raise KeyError(SECRET) from exc
    except KeyError:
        logging.getLogger("another.library").exception("it failed")
    (text,), (record,) = kept.texts, kept.records
    assert "canary" not in text
    assert "4n" not in text
    assert "KeyError" in text
    assert "OSError" in text
    assert "test_a_traceback" in text  # where it came from is still told
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert LONG not in str(record.exc_info[1].__cause__)


def test_an_error_without_a_secret_is_left_alone(kept: Kept) -> None:
    error = ValueError("three rows")
    logging.getLogger("another.library").warning("it failed", exc_info=error)
    assert kept.records[0].exc_info is not None
    assert kept.records[0].exc_info[1] is error


def test_every_secret_of_the_settings_is_known(tmp_path: Path) -> None:
    bybit = BybitSettings(
        api_key=SecretStr("the-key"),
        api_secret=SecretStr("the-secret"),
        cache_url=SecretStr("redis://:cache-pass@h"),
        base_url="http://me:host-pass@h",
    )
    kline = KlineSettings(
        home=tmp_path,
        database_url=SecretStr("postgresql://u:p%40ss-word@h/d"),
        alert_urls=SecretStr("json://u:alert-pass@h/Path1234?+X=header1 tgram://bot-token-1/chat5678"),
        snapshot_url="ftp://u:ftp-pass@h/x",
    )
    for simulated in (False, True):  # which leaves most of them alone, and shows none
        secrets = Settings(bybit, kline, simulated=simulated).secrets()
        expected = {"the-key", "the-secret", "cache-pass", "host-pass", "p@ss-word", "p%40ss-word", "alert-pass"}
        assert expected | {"Path1234", "header1", "bot-token-1", "chat5678", "ftp-pass"} <= {
            part for secret in secrets for part in (secret, secret.removeprefix("+X="))
        }


def test_every_secret_field_is_hidden_also_one_that_comes_later() -> None:
    class More(KlineSettings):
        new_token: SecretStr | None = None

    settings = Settings(BybitSettings(), More(new_token=SecretStr("a-token"), ops_token=SecretStr("the-token-of-ops")))
    assert {"a-token", "the-token-of-ops"} <= set(settings.secrets())


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("https://hooks.slack.com/services/T000001/B0000002/XXXXyyyy", {"T000001", "B0000002", "XXXXyyyy"}),
        ("slack://TokenA12/TokenB34/tokenC56", {"TokenA12", "TokenB34", "tokenC56"}),
        ("json://127.0.0.1:8080/alerts", set()),
        ("log://", set()),
        ("no_url_at_all", {"no_url_at_all"}),
    ],
)
def test_the_secret_parts_of_the_url_of_an_alert_are_found_and_plain_words_are_not(url: str, secrets: set[str]) -> None:
    assert alert_secrets(url) == secrets


def test_a_url_without_a_password_has_no_secret() -> None:
    assert url_secrets("postgresql://kline@host/kline?host=/tmp") == set()
