"""The service on a real port: garbage, slow clients and many of them; what a connection may cost is bounded."""

import logging
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kline_pipeline.errors import UsageError
from kline_pipeline.service.server import Bounded, OpsServer, bound, is_loopback
from kline_pipeline_tests.service.asking import Service
from kline_pipeline_tests.service.raw_http import malformed, sent, statuses

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Hasty(Bounded):
    """A protocol that cuts off soon."""

    head_s = 0.2
    answer_s = 0.2


@contextmanager
def served(service: Service, protocol: type[Bounded] = Bounded) -> Iterator[str]:
    with OpsServer(service.app, bound("127.0.0.1", 0), protocol=protocol) as server:
        yield server.url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Service(variables={"ops_requests_per_minute": 10**6})) as url:
        yield url


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_malformed_requests_are_no_error_of_ours(url: str, seed: int) -> None:
    source = random.Random(seed)
    seen: list[int] = []
    for _ in range(100):
        data = malformed(source)
        answer = sent(url, data)
        seen += statuses(answer)
        assert not [status for status in statuses(answer) if status >= 500], data
        for secret in (b"Traceback", b"site-packages", b"kline_pipeline/"):
            assert secret not in answer

    assert set(seen) & {400, 404, 405, 413, 414}
    assert statuses(sent(url, GET)) == [200]


def test_a_stop_that_came_before_it_listened_is_heeded() -> None:
    told: list[str] = []
    service = Service()

    OpsServer(service.app, bound("127.0.0.1", 0), announce=told.append, ended=lambda: True).run()

    assert len(told) == 1


def test_no_answer_names_the_server(url: str) -> None:
    answer = sent(url, GET).lower()

    assert b"server:" not in answer
    assert b"uvicorn" not in answer


def test_a_head_that_is_too_large_is_refused(url: str) -> None:
    assert statuses(sent(url, GET[:-2] + b"X: " + b"y" * 70_000 + b"\r\n\r\n")) in ([400], [431], [])
    endless = b"".join(b"X%d: y\r\n" % number for number in range(20_000))
    assert statuses(sent(url, GET[:-2] + endless)) in ([400], [])
    assert statuses(sent(url, GET)) == [200]


def test_a_body_is_refused_without_being_read(url: str) -> None:
    head = b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    assert statuses(sent(url, head + b"x" * 1000)) == [413]


def test_a_body_that_breaks_off_is_no_error_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(sent(url, head + b"ZZZZ\r\n")) in ([400], [413])
    assert statuses(sent(url, GET)) == [200]
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_several_requests_on_one_connection_are_answered_in_order(url: str) -> None:
    last = GET[:-2] + b"Connection: close\r\n\r\n"
    answer = sent(url, GET + GET.replace(b"/health", b"/nowhere") + last, half_close=False)

    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


def told(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("begun", [b"", b"GET /health HT", GET + b"GET /hea"])
def test_who_does_not_go_on_is_cut_off(begun: bytes) -> None:
    with served(Service(), Hasty) as url, socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as slow:
        slow.sendall(begun)
        if begun.startswith(GET):
            assert statuses(told(slow)) == [200]
        assert told(slow) == b""


def test_one_byte_at_a_time_does_not_keep_a_connection() -> None:
    with served(Service(), Hasty) as url, socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as slow:
        slow.settimeout(20)
        ended = threading.Event()

        def trickle() -> None:
            try:
                while not ended.wait(0.02):
                    slow.sendall(b"x")
            except OSError:
                pass

        thread = threading.Thread(target=trickle)
        thread.start()
        assert told(slow) == b""
        ended.set()
        thread.join()


def test_an_answer_that_takes_too_long_is_cut_off() -> None:
    release = threading.Event()

    def metrics() -> bytes:
        release.wait()
        return b""

    with served(Service(metrics=metrics), Hasty) as url:
        assert statuses(sent(url, GET.replace(b"/health", b"/metrics"))) == []
        assert statuses(sent(url, GET)) == [200]
        release.set()


def test_idle_connections_beyond_the_limit_end_and_others_are_answered_again() -> None:
    with served(Service(), Hasty) as url:
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        crowd = [socket.create_connection(address) for _ in range(300)]
        assert set(statuses(sent(url, GET))) <= {200, 503}
        for one in crowd:
            assert told(one) == b""
            one.close()
        assert statuses(sent(url, GET)) == [200]


def test_the_count_goes_by_the_real_peer_whatever_it_writes() -> None:
    with served(Service(variables={"ops_requests_per_minute": 3})) as url:
        answers = [
            statuses(sent(url, GET[:-2] + b"X-Forwarded-For: 203.0.113.%d\r\n\r\n" % number)) for number in range(5)
        ]

    assert answers == [[200]] * 3 + [[429]] * 2


def test_a_port_in_use_and_a_host_of_others_are_one_sentence() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}"):
            bound("127.0.0.1", port)
    with pytest.raises(UsageError, match="--host"):
        bound("192.0.2.1", 0)
    with pytest.raises(UsageError, match="--host"):
        bound("no-such-host.invalid", 0)


def test_only_loopback_is_loopback() -> None:
    for host, loopback in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with bound(host, 0) as taken:
            assert is_loopback(taken) == loopback
