"""What the cache stores: the names of entries and their bytes, checked when they are read; nothing is stored here.

An entry is one line that names the format, a sha256 over all that follows, a header in JSON (name, time written, facts)
and a body: the rows of a page as an Arrow stream with zstd, digits as served, or the bytes of a note.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from kline_pipeline.bybit.pages import Page
from kline_pipeline.errors import CorruptFile
from kline_pipeline.market.interval import INTERVAL_CODES
from kline_pipeline.market.schema import CANDLE_SCHEMA
from kline_pipeline.market.series import CATEGORIES, Series
from kline_pipeline.market.window import Window, iso

NOTES: Final = "notes"
_FORMAT: Final = b"kline-pipeline cache 1\n"  # another format is a corrupt entry: dropped, fetched again
_DIGEST: Final = hashlib.sha256().digest_size
_LENGTH: Final = 4
_ZSTD: Final = "zstd"
_ONE_THREAD: Final = pa.ipc.IpcReadOptions(use_threads=False)  # a page is too small for more
_NOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TIME: Final = r"\d{8}T\d{6}(\.\d{3})?Z"
_PAGE = re.compile(rf"[^/]+/(?P<category>[a-z]+)/(?P<interval>\w+)/(?P<symbol>[A-Z0-9-]+)/{_TIME}-{_TIME}\.page")


@dataclass(frozen=True, slots=True)
class Entry:
    """What was read back, whole and under its own name.

    Attributes:
        written_ms: when, by the writer's clock, UTC.
        facts: of a page; empty for a note.
        body: rows of a page, bytes of a note.
    """

    written_ms: int
    facts: Mapping[str, Any]
    body: memoryview


def page_name(venue: str, series: Series, window: Window) -> str:
    """Return the name of a page, a path readable for people: venue/linear/1/BTCUSDT/FROM-TO.page."""
    span = f"{_compact(window.start_ms)}-{_compact(window.end_ms)}"
    return f"{_folder(venue)}/{series.category}/{series.interval.code}/{series.symbol}/{span}.page"


def note_name(venue: str, key: str) -> str:
    """Return the name of a note such as lives/linear/BTCUSDT.

    Raises:
        ValueError: the key is no relative path of letters, digits, dots, dashes and underscores.
    """
    if not _NOTE.fullmatch(key):
        msg = f"{key!r} cannot be the key of a note"
        raise ValueError(msg)
    return f"{_folder(venue)}/{NOTES}/{key}.note"


def series_keys(name: str) -> list[str]:
    """Return the keys category:symbol:interval that an entry belongs to; a note to all intervals of its symbol.

    A note that names no symbol belongs to its own key. Empty means that the name is none of an entry.
    """
    if page := _PAGE.fullmatch(name):
        known = page["category"] in CATEGORIES and page["interval"] in INTERVAL_CODES
        return [f"{page['category']}:{page['symbol']}:{page['interval']}"] if known else []
    _, _, note = name.partition(f"/{NOTES}/")
    if not note.endswith(".note"):
        return []
    match note.removesuffix(".note").split("/"):
        case [_, category, symbol] if category in CATEGORIES:
            return [f"{category}:{symbol}:{code}" for code in INTERVAL_CODES]
        case parts:
            return ["/".join(parts)]


def pack(name: str, body: bytes, *, written_ms: int, facts: Mapping[str, Any]) -> bytes:
    """Return the bytes of an entry."""
    header = json.dumps({"name": name, "written_ms": written_ms, "facts": facts}, separators=(",", ":")).encode()
    rest = b"".join((len(header).to_bytes(_LENGTH, "big"), header, body))
    return b"".join((_FORMAT, hashlib.sha256(rest).digest(), rest))


def unpack(name: str, content: bytes) -> Entry:
    """Return the entry that stands under `name`.

    Raises:
        CorruptFile: it is cut, changed, of another format, or was stored under another name.
    """
    view = memoryview(content)
    begin = len(_FORMAT) + _DIGEST
    digest, rest = view[len(_FORMAT) : begin], view[begin:]
    if content[: len(_FORMAT)] != _FORMAT or hashlib.sha256(rest).digest() != digest:
        raise CorruptFile(f"the cached {name} is not what was written")
    length = int.from_bytes(rest[:_LENGTH], "big")
    try:
        header = json.loads(bytes(rest[_LENGTH : _LENGTH + length]))
        entry = Entry(int(header["written_ms"]), dict(header["facts"]), rest[_LENGTH + length :])
        stored = header["name"]
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptFile(f"the cached {name} has no readable header: {exc}") from exc
    if stored != name:
        raise CorruptFile(f"the cached {name} is that of {stored}")
    return entry


def pack_page(name: str, page: Page, *, written_ms: int) -> bytes:
    """Return the bytes of a page."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=_ZSTD)
    with pa.ipc.new_stream(sink, CANDLE_SCHEMA, options=options) as writer:
        writer.write_table(page.rows)
    facts = {
        "server_time_ms": page.server_time_ms,
        "receive_time_ms": page.receive_time_ms,
        "host": page.host,
        "clipped": page.clipped,
    }
    return pack(name, sink.getvalue().to_pybytes(), written_ms=written_ms, facts=facts)


def unpack_page(entry: Entry, series: Series, window: Window) -> Page:
    """Return the page of an entry, the rows exactly as they were stored.

    Raises:
        CorruptFile: the rows cannot be read as candles.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(entry.body), options=_ONE_THREAD) as reader:
            rows = reader.read_all()
        rows.validate(full=True)
        facts = entry.facts
        page = Page(
            series=series,
            window=window,
            server_time_ms=int(facts["server_time_ms"]),
            receive_time_ms=int(facts["receive_time_ms"]),
            host=str(facts["host"]),
            rows=rows,
            clipped=int(facts["clipped"]),
        )
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError) as exc:
        raise CorruptFile(f"the cached page of {series} at {window} cannot be read: {exc}") from exc
    if not rows.schema.equals(CANDLE_SCHEMA):
        raise CorruptFile(f"the cached page of {series} at {window} has other columns: {rows.schema.names}")
    return page


def _compact(time_ms: int) -> str:
    return iso(time_ms).replace("-", "").replace(":", "")


def _folder(venue: str) -> str:
    """Return the venue as one name of a folder: a simulator names itself, and must not name a folder elsewhere."""
    text = quote(venue, safe=":")
    return f"%2E{text[1:]}" if text.startswith(".") else text
