"""`kline-pipeline simulate`: the fake exchange on a loopback port, synthetic or replaying files.

What it serves and how it answers is the business of simulator; here are only its options.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kline_pipeline.simulator.exchange import Exchange
    from kline_pipeline.simulator.history import History


def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Which synthetic market; default 7.")] = None,
    now: Annotated[
        str,
        typer.Option(help="Server time at the start: ISO (UTC) or ms. It runs on from there."),
    ] = "",
    faults: Annotated[
        str,
        typer.Option(help="Fault plan, the JSON of POST /_sim/faults: a file, or the plan itself ([...] or {...})."),
    ] = "",
    requests_per_5s: Annotated[
        int,
        typer.Option("--requests-per-5s", min=1, help="Beyond that the answer is HTTP 403."),
    ] = 600,
    latency_ms: Annotated[int, typer.Option(min=0, max=60_000, help="Added to every market answer.")] = 0,
    symbols: Annotated[
        int, typer.Option(min=0, max=999, help="So many linear symbols more: SYM001USDT, ..., listed since 2021.")
    ] = 0,
    data: Annotated[
        Path | None,
        typer.Option(help="Replay: folder of recorded files SYMBOL_INTERVAL.csv[.gz] and so on."),
    ] = None,
    category: Annotated[str, typer.Option(help="Replay: linear, inverse or spot; needed with --data.")] = "",
    intervals: Annotated[
        str, typer.Option(help="Replay: the intervals served, such as 1,5,60; default all found.")
    ] = "",
    keep_last: Annotated[bool, typer.Option(help="Replay: serve the last row of each file too (it was open).")] = False,
) -> None:
    """Serve a Bybit look-alike on 127.0.0.1 until Ctrl-C.

    Example: kline-pipeline simulate --port 8090 --seed 7 --now 2024-03-01
    """
    from kline_pipeline.simulator.fault_plan import FaultPlanError
    from kline_pipeline.simulator.history import HistoryError
    from kline_pipeline.simulator.server import serve

    if data is None and (category or intervals or keep_last):
        _refuse("--category, --intervals and --keep-last belong to a replay: give --data too.")
    if data is not None and not category:
        _refuse("--data needs --category linear, inverse or spot: files do not say it.")
    if data is not None and symbols:
        _refuse("--symbols adds to a synthetic market and --data replays a recorded one: give one.")
    if data is not None and seed is not None:
        _refuse("--seed draws a synthetic market and --data replays a recorded one: give one.")
    try:
        exchange = _exchange(
            _history(
                data,
                category=category,
                intervals=intervals,
                keep_last=keep_last,
                seed=7 if seed is None else seed,
                now=now,
                symbols=symbols,
            ),
            _clock(now),
            requests_per_5s,
            latency_ms,
            faults,
        )
        serve(exchange, port=port)
    except (HistoryError, FaultPlanError) as error:
        _refuse(str(error))


def _history(
    data: Path | None, *, category: str, intervals: str, keep_last: bool, seed: int, now: str, symbols: int
) -> "History":
    from kline_pipeline.simulator.market import SyntheticHistory
    from kline_pipeline.simulator.replay import ReplayHistory

    if data is None:
        return SyntheticHistory(seed, now_ms=_clock(now)(), numbered=symbols)
    wanted = [part.strip() for part in intervals.split(",")] if intervals else None
    return ReplayHistory(data, category, wanted, keep_last)


def _exchange(
    history: "History",
    clock: "Callable[[], int]",
    requests_per_5s: int,
    latency_ms: int,
    faults: str,
) -> "Exchange":
    from kline_pipeline.simulator.control import change_faults
    from kline_pipeline.simulator.exchange import Exchange

    exchange = Exchange(history, clock=clock, requests_per_5s=requests_per_5s, latency_ms=latency_ms)
    if faults:
        change_faults(exchange, _plan(faults))
    return exchange


def _plan(faults: str) -> bytes:
    if faults.lstrip().startswith(("[", "{")):
        return faults.encode()
    try:
        return Path(faults).read_bytes()
    except OSError as error:
        _refuse(f"The fault plan {faults} cannot be read: {error.strerror}.")


def _clock(now: str) -> "Callable[[], int]":
    import time

    from kline_pipeline.simulator.grid import parse_time_ms

    if not now:
        return lambda: time.time_ns() // 1_000_000
    try:
        start_ms = parse_time_ms(now)
    except ValueError:
        _refuse(f"--now {now!r} is no time: give 2024-03-01, 2024-03-01T12:00 or milliseconds.")
    began = time.monotonic_ns()
    return lambda: start_ms + (time.monotonic_ns() - began) // 1_000_000


def _refuse(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)
