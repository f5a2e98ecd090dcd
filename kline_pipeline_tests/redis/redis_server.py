"""A real redis-server of the tests: on a free port of 127.0.0.1, with a password, its files in a folder of its own."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from kline_pipeline_tests.programs import free_port

PASSWORD = "s3cr3t-of-the-tests"
_START_S = 30.0


class RedisServer:
    """A server that can be stopped and started again on the same port.

    Attributes:
        url: with its password.
        redis: a client of it, for looking inside.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self._port}/0"
        self.redis: Any = Redis.from_url(self.url)

    def start(self) -> None:
        """Start it and wait until it answers."""
        listen = ("--bind", "127.0.0.1", "--port", str(self._port), "--requirepass", PASSWORD)
        memory_only = ("--save", "", "--appendonly", "no", "--dir", str(self._folder))
        self._process = subprocess.Popen(["redis-server", *listen, *memory_only], stdout=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            assert self._process.poll() is None, "redis-server ended by itself"
            try:
                self.redis.ping()
            except RedisError:
                continue
            return
        raise AssertionError("redis-server does not answer")

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Give a running server for the length of the block."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.redis.close()
        server.kill()
