"""What is refused, and how: too many, no token, too large; and who cannot get around it."""

from pathlib import Path

import pytest

from kline_pipeline.config import KlineSettings, Settings
from kline_pipeline.errors import ConfigError
from kline_pipeline_tests.service.asking import Service

TOKEN = "a-token-of-a-test"
BEARER = ("Authorization", f"Bearer {TOKEN}")
UNCOUNTED = ("/metrics", "/health/live", "/health/ready")


def test_sixty_a_minute_then_429_that_says_when_to_come_again() -> None:
    service = Service()
    statuses = [service.ask("/health").status for _ in range(60)]

    told = service.ask("/health")

    assert statuses == [200] * 60
    assert told.status == 429
    assert int(told.headers["retry-after"]) >= 1
    assert set(told.content) == {"error"}
    assert service.ask("/health", client="192.0.2.2").status == 200
    assert service.ask("/health/bybit").status == 429  # one count for all pages
    assert service.ask("/nowhere").status == 429
    service.clock.now_s += int(told.headers["retry-after"])
    service.probes.run_once()
    assert service.ask("/health").status == 200


@pytest.mark.parametrize("path", UNCOUNTED)
def test_what_machines_ask_all_the_time_is_not_counted(path: str) -> None:
    service = Service(variables={"ops_requests_per_minute": 1})
    assert service.ask("/health").status == 200

    assert [service.ask(path).status for _ in range(100)] == [200] * 100
    assert service.ask("/health").status == 429


def test_a_forged_header_does_not_help() -> None:
    service = Service(variables={"ops_requests_per_minute": 5})
    statuses = [service.ask("/health", headers=[("X-Forwarded-For", f"203.0.113.{n}")]).status for n in range(8)]

    assert statuses == [200] * 5 + [429] * 3


def test_behind_a_trusted_proxy_each_client_has_its_own_count() -> None:
    service = Service(variables={"ops_requests_per_minute": 5, "ops_trusted_proxies": "127.0.0.1 10.0.0.0/8"})

    def ask(client: str) -> int:
        # The client forges what stands before; the proxy appends whom it sees.
        headers = [("X-Forwarded-For", f"198.51.100.{next(numbers)}, {client}")]
        return service.ask("/health", headers=headers, client="10.0.0.3").status

    numbers = iter(range(100))
    assert [ask("203.0.113.9") for _ in range(7)] == [200] * 5 + [429] * 2
    assert [ask("203.0.113.10") for _ in range(7)] == [200] * 5 + [429] * 2


def test_with_a_token_every_page_but_those_of_kubernetes_needs_it() -> None:
    service = Service(variables={"ops_token": TOKEN})

    for path in ("/health", "/health/bybit", "/metrics", "/nowhere"):
        told = service.ask(path)
        assert (told.status, told.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN.encode() not in told.body
        assert service.ask(path, headers=[BEARER]).status == (404 if path == "/nowhere" else 200)
    for path in ("/health/live", "/health/ready"):
        assert service.ask(path).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer \xff\xfe")],
        [("Authorization", f"Bearer {TOKEN.upper()}")],
        [("Authorization", "Bearer wrong-token"), BEARER],
        [("X-Token", TOKEN)],
    ],
)
def test_another_token_is_none(headers: list[tuple[str, str]]) -> None:
    assert Service(variables={"ops_token": TOKEN}).ask("/health", headers=headers).status == 401


def test_the_token_is_not_taken_from_the_url() -> None:
    assert Service(variables={"ops_token": TOKEN}).ask(f"/health?token={TOKEN}").status == 401


def test_guesses_of_the_token_are_counted_on_every_page() -> None:
    service = Service(variables={"ops_token": TOKEN, "ops_requests_per_minute": 5})

    assert [service.ask("/metrics").status for _ in range(7)] == [401] * 5 + [429] * 2
    assert service.ask("/metrics", headers=[BEARER]).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Length", "1")], 413),
        ([("Content-Length", "99999999999")], 413),
        ([("Transfer-Encoding", "chunked")], 413),
        ([("Content-Length", "0")], 200),
        ([], 200),
    ],
)
def test_no_page_takes_a_body(headers: list[tuple[str, str]], status: int) -> None:
    told = Service().ask("/health", headers=headers, body=b"x")

    assert told.status == status
    assert told.headers.get("connection") == ("close" if status == 413 else None)


def test_a_long_url_is_refused() -> None:
    service = Service()
    assert service.ask("/health?" + "a" * 1000).status == 200
    assert service.ask("/health?" + "a" * 1100).status == 414
    assert service.ask("/" + "a" * 1100).status == 414


def test_large_headers_are_refused() -> None:
    assert Service().ask("/health", headers=[("X", "y" * 15_000)]).status == 200
    assert Service().ask("/health", headers=[("X", "y" * 17_000)]).status == 431
    assert Service().ask("/health", headers=[(f"X{n}", "y" * 100) for n in range(200)]).status == 431


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("KLINE_OPS_REQUESTS_PER_MINUTE", "0", "greater than or equal to 1"),
        ("KLINE_OPS_TRUSTED_PROXIES", "10.0.0.0/8 proxy.example", "proxy.example"),
        ("KLINE_OPS_TRUSTED_PROXIES", "10.0.0.1/8", "host bits"),
        ("KLINE_OPS_TOKEN", "short", "at least 8"),
        ("KLINE_OPS_TOKEN", "with blanks in it", "at least 8"),
    ],
)
def test_a_setting_that_cannot_work_is_one_sentence_without_the_secret(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError, match=words) as caught:
        Settings.load()

    assert variable in str(caught.value)
    assert variable != "KLINE_OPS_TOKEN" or value not in str(caught.value)


def test_the_token_is_not_in_what_settings_print(tmp_path: Path) -> None:
    assert TOKEN not in repr(KlineSettings(home=tmp_path, ops_token=TOKEN))  # type: ignore[arg-type]
