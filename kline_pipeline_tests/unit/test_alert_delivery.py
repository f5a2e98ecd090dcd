"""Which URLs are targets, what is shown of them, and that a dry run is the log's."""

import logging

import pytest
from pydantic import SecretStr

from kline_pipeline.alerting.delivery import target, targets
from kline_pipeline.errors import AlertsNotDelivered
from kline_pipeline.evidence.alerts import Alert
from kline_pipeline_tests.webhooks import webhook

ALERT = Alert("0123456789abcdef", "ERROR", "ERROR linear_60: 7 partitions failed", "all of it")
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop1234567890abcdefgh/12315544"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("log://", "log://"),
        ("json://user:password@example.com:8080/secret?+Token=abc", "json://example.com:8080/..."),
        ("jsons://example.com", "jsons://example.com"),
        (TELEGRAM, "tgram://1...h/12315544"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "slack://T...2/A...D/T...Q/%23general"),
        ("mailtos://me:password@example.com?to=you@example.com", "mailtos://me:****@example.com/you%40example.com"),
    ],
)
def test_a_target_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert target(SecretStr(url), 1).shown == shown


def test_urls_that_are_none_are_named_by_their_place_and_do_not_touch_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        found, wrong = targets(SecretStr(url) for url in ("log://", "my_secret", "tgram://my_secret", TELEGRAM))
    assert [one.shown.partition(":")[0] for one in found] == ["log", "tgram"]
    assert [str(one).partition(" and ")[0] for one in wrong] == [
        "KLINE_ALERT_URLS: URL 2 begins with no scheme",
        "KLINE_ALERT_URLS: URL 3 begins with tgram://",
    ]
    assert "my_secret" not in caplog.text + repr(wrong)  # apprise itself logs such a URL


def test_a_dry_run_is_taken_by_the_log() -> None:
    target(SecretStr("log://"), 1).send(ALERT)


def test_a_webhook_gets_title_text_severity_and_id() -> None:
    with webhook() as hook:
        target(SecretStr(hook.url), 1).send(ALERT)
    (payload,) = hook.payloads
    assert (payload["title"], payload["message"]) == (ALERT.title, ALERT.body)
    assert (payload["type"], payload["alert_id"]) == ("failure", ALERT.alert_id)


def test_a_target_that_does_not_answer_is_an_error_that_names_it() -> None:
    with pytest.raises(AlertsNotDelivered, match=r"json://127\.0\.0\.1:9/\.\.\. did not take alert 0123456789abcdef: "):
        target(SecretStr("json://127.0.0.1:9/my_secret"), 1).send(ALERT)
