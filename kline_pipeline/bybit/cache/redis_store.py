"""The store of the cache in a Redis, whose time-to-live removes old entries; what a store can do is in stores.

Everything lies under the prefix kline-pipeline: so that a Redis may be shared with others; the index of entries is a
sorted set by the time written, and no command touches any other key.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry

from kline_pipeline.bybit.cache.stores import Stored
from kline_pipeline.errors import ConfigError, StorageError

_PREFIX: Final = "kline-pipeline:"
_INDEX: Final = f"{_PREFIX}index"
_VENUE: Final = f"{_PREFIX}venue"
_COUNTS: Final = f"{_PREFIX}counts"
_TIMEOUT_S: Final = 1.0  # a page is fetched from the exchange in less
_CHUNK: Final = 1000  # names per command, so that others are served in between
_PLAIN_OPTIONS: Final = {"host", "port", "db", "username", "password", "connection_class"}


class RedisStore:
    """Entries as strings that expire; no connection is made before the first command.

    Args:
        url: redis:// or rediss://, with a password or not, and ssl_... options after a question mark.
        ttl_ms: time to live of an entry.

    Raises:
        ConfigError: the URL is none of a Redis.
    """

    def __init__(self, url: str, ttl_ms: int) -> None:
        options = _options(url)
        scheme, host = url.split(":", 1)[0], options["host"]
        name = f"[{host}]" if ":" in host else host
        self.location = f"{scheme}://{name}:{options.get('port', 6379)}/{options.get('db', 0)}"
        self._ttl_ms = max(1, ttl_ms)
        # The pool itself replaces a connection that the server has closed; any other failure is a miss, not a wait.
        ours: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "decode_responses": False, "protocol": 2}
        timeouts = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
        # Each release of redis-py types its answers in another way.
        self._redis: Any = Redis(connection_pool=ConnectionPool(**(options | ours | timeouts)))

    def read(self, name: str) -> bytes | None:
        """Return the value, None when there is none or it has expired."""
        with self._translated("read"):
            content: bytes | None = self._redis.get(_key(name))
            return content

    def write(self, name: str, content: bytes, written_ms: int) -> None:
        """Set value and index in one transaction."""
        with self._translated("write"), self._redis.pipeline(transaction=True) as commands:
            commands.set(_key(name), content, px=self._ttl_ms)
            commands.zadd(_INDEX, {name: written_ms})
            commands.execute()

    def remove(self, names: Iterable[str]) -> int:
        """Delete values with their place in the index."""
        removed = 0
        for some in _chunks(names):
            with self._translated("remove from"), self._redis.pipeline(transaction=True) as commands:
                commands.delete(*map(_key, some))
                commands.zrem(_INDEX, *some)
                removed += commands.execute()[0]
        return removed

    def entries(self) -> list[Stored]:
        """Return what the index names and Redis still has; what has expired or was evicted leaves the index.

        One that another process writes again in that moment may stay without its place in the index: it expires.
        """
        found = []
        with self._translated("list"):
            for some in _chunks(self._redis.zrange(_INDEX, 0, -1, withscores=True)):
                with self._redis.pipeline(transaction=False) as commands:
                    for name, _ in some:
                        commands.strlen(_key(name.decode()))
                    sizes = commands.execute()
                sized = [(name, written_ms, size) for (name, written_ms), size in zip(some, sizes, strict=True)]
                found += [Stored(int(written_ms), name.decode(), size) for name, written_ms, size in sized if size]
                if gone := [name for name, _, size in sized if not size]:
                    self._redis.zrem(_INDEX, *gone)
        return found

    def owner(self) -> str | None:
        """Return the recorded exchange."""
        with self._translated("read"):
            recorded: bytes | None = self._redis.get(_VENUE)
        return recorded.decode(errors="replace") if recorded is not None else None

    def claim(self, venue: str) -> str:
        """Record the exchange unless another was faster."""
        with self._translated("write"):
            self._redis.set(_VENUE, venue, nx=True)
        return self.owner() or venue

    def disown(self) -> None:
        """Forget the exchange."""
        with self._translated("write"):
            self._redis.delete(_VENUE)

    def counts(self) -> tuple[int, int]:
        """Return hits and misses."""
        with self._translated("read"):
            hits, misses = self._redis.hmget(_COUNTS, ["hits", "misses"])
        return int(hits or 0), int(misses or 0)

    def count(self, hits: int, misses: int) -> None:
        """Add to them on the server."""
        with self._translated("write"), self._redis.pipeline(transaction=True) as commands:
            commands.hincrby(_COUNTS, "hits", hits)
            commands.hincrby(_COUNTS, "misses", misses)
            commands.execute()

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as exc:
            told = str(exc).rstrip(".")
            msg = (
                f"could not {verb} the cache {self.location}: {told}; start that Redis, or set another BYBIT_CACHE_URL"
            )
            raise StorageError(msg) from exc


def _options(url: str) -> dict[str, Any]:
    """Return what the URL says; no message and no cause repeats any of it, as it may hold a password."""
    try:
        after = urlsplit(url)
        unquoted = "@" in f"{after.path}{after.query}{after.fragment}"
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:
        unquoted, options = True, {}
    unknown = {name for name in options if name not in _PLAIN_OPTIONS and not name.startswith("ssl_")}
    if unquoted or unknown or not options.get("host"):
        raise ConfigError(
            "BYBIT_CACHE_URL is not the URL of a Redis: write redis://HOST:PORT/N or redis://:PASSWORD@HOST:PORT/N, "
            "special characters of the password as %XX"
        )
    return options


def _key(name: str) -> str:
    return f"{_PREFIX}entry:{name}"


def _chunks(items: Iterable[Any]) -> Iterator[Sequence[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _CHUNK)):
        yield some
