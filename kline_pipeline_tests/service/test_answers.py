"""Every page: what it says, with which status; and what it says when a part fails."""

import asyncio
import threading

import pytest

from kline_pipeline.service.probes import Look
from kline_pipeline_tests.service.asking import PARTS, Service, asked

FAILED = Look("failed", "it does not answer")


def test_health_tells_every_part_with_its_age() -> None:
    service = Service()
    service.clock.now_s += 3

    told = service.ask("/health")

    assert told.status == 200
    assert told.headers["content-type"] == "application/json"
    content = told.content
    assert content["status"] == "ok"
    assert content["version"]
    assert set(content["parts"]) == {"process", *PARTS}
    assert content["parts"]["disk"] == {"status": "ok", "age_s": 3.0, "seen": "it works"}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "database"])
@pytest.mark.parametrize("status", ["degraded", "failed"])
def test_without_a_part_that_others_can_work_without_it_is_degraded(part: str, status: str) -> None:
    service = Service()
    service.sees[part] = Look(status, "no")  # type: ignore[arg-type]
    service.probes.run_once()

    told = service.ask("/health")

    assert (told.status, told.content["status"]) == (200, "degraded")
    assert told.content["parts"][part]["status"] == status
    assert service.ask("/health/ready").status == 200


def test_without_the_database_traffic_should_stop_and_come_again() -> None:
    service = Service()
    service.sees["database"] = FAILED
    service.probes.run_once()

    assert [service.ask(path).status for path in ("/health", "/health/ready", "/health/live", "/health/bybit")] == [
        503, 503, 200, 200,
    ]  # fmt: skip
    assert service.ask("/health").content["status"] == "failed"
    assert service.ask("/health/ready").content["parts"]["database"]["seen"] == "it does not answer"

    service.sees["database"] = Look("ok", "it answers")
    service.probes.run_once()
    assert service.ask("/health").status == service.ask("/health/ready").status == 200


def test_bybit_tells_each_series() -> None:
    service = Service(
        sees={
            **dict.fromkeys(PARTS, Look("ok", "it works")),
            "linear:BTCUSDT:1": Look("ok", "they came", {"last_price": "58295.10", "candles": 5}),
            "spot:NONEUSDT:1": FAILED,
        },
        series=("linear:BTCUSDT:1", "spot:NONEUSDT:1"),
    )

    told = service.ask("/health/bybit")

    assert (told.status, told.content["status"]) == (200, "degraded")
    assert told.content["series"]["linear:BTCUSDT:1"]["last_price"] == "58295.10"
    assert told.content["series"]["spot:NONEUSDT:1"]["status"] == "failed"


def test_head_and_other_methods_and_other_paths() -> None:
    service = Service()
    for path in ("/health", "/health/bybit", "/health/live", "/health/ready", "/metrics"):
        assert service.ask(path, "HEAD").status == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"):
            told = service.ask(path, method)
            assert (told.status, told.headers["allow"], told.content) == (405, "GET, HEAD", {"error": "use GET"})
    for path in ("/", "/health/", "/healthy", "/docs", "/openapi.json", "/metrics/x"):
        told = service.ask(path)
        assert (told.status, told.content) == (404, {"error": "there is no such page"})


def test_metrics_have_the_type_of_prometheus_and_are_made_once_a_second() -> None:
    made = []

    def metrics() -> bytes:
        made.append(threading.current_thread().name)
        return b"kline_exchange_up 1\n"

    service = Service(metrics=metrics)

    async def several() -> None:
        told = await asyncio.gather(*(asked(service.app, "/metrics") for _ in range(20)))
        assert {(one.status, one.body) for one in told} == {(200, b"kline_exchange_up 1\n")}
        assert told[0].headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    asyncio.run(several())
    assert made == ["metrics"]


def test_metrics_that_cannot_be_made_are_a_plain_sentence() -> None:
    def metrics() -> bytes:
        raise RuntimeError("postgresql://me:hush@host/db")

    told = Service(metrics=metrics).ask("/metrics")

    assert told.status == 503
    assert b"hush" not in told.body
    assert "/health" in told.content["error"]
