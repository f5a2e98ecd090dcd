"""Puts one-line defects into a copy of the tree, one at a time, and fails unless each turns the tests red.

    python .ci/defects.py            # all of them, some 15 minutes on two cores
    python .ci/defects.py 3 17       # these two

The first twelve are the ways in which other downloaders lose or spoil candles; the others are careless changes to the
client. Each is tried against the tests that should notice, the first of which to fail is printed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Defect(NamedTuple):
    """One careless change: where, what stands there, what instead, and the tests that must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: str


UNIT = "kline_pipeline_tests/unit"
FETCH = f"{UNIT}/test_direct_candles.py {UNIT}/test_direct_source.py"
DEFECTS = (
    Defect("a page step of 1000 inclusive", "bybit/client.py", '"end": str(interval.shift(window.end_ms, -1))', '"end": str(window.end_ms)', f"{UNIT}/test_bybit_client.py"),
    Defect("the oldest row is lost", "bybit/pages.py", "(times >= window.start_ms)", "(times > window.start_ms)", f"{UNIT}/test_bybit_client.py"),
    Defect("the last page is skipped", "direct/source.py", "while start_ms < window.end_ms:", "while interval.shift(start_ms, MAX_SLOTS) < window.end_ms:", FETCH),
    Defect("an unclosed candle is kept", "bybit/pages.py", "closed_end(self.server_time_ms, grace_ms)", "closed_end(self.server_time_ms + self.series.interval.typical_ms, grace_ms)", f"{UNIT}/test_bybit_pages.py"),
    Defect("rows of another symbol are accepted", "bybit/messages.py", "if result.symbol != symbol:", "if False:", f"{UNIT}/test_bybit_client.py {UNIT}/test_bybit_messages.py"),
    Defect("a duplicate is kept", "direct/proof.py", "return candles.filter(pa.array(~np.isin(np.arange(len(times)), again)))", "return candles", "kline_pipeline_tests/properties/test_fetch.py"),
    Defect("a gap is called good", "checks/no_gaps.py", "return absent_of(expected_ms, present_ms)", "return expected_ms[:0]", f"{UNIT}/test_checks.py"),
    Defect("quarantined rows are written", "stages/land.py", "if not verdict.quarantined or", "if True or", "kline_pipeline_tests/postgres/test_pipeline.py"),
    Defect("an old generation wins", "sinks/landing.py", "return known_generation is not None and Generation.parse(known_generation) > mine", "return False", "kline_pipeline_tests/postgres/test_sinks.py"),
    Defect("the ledger is trusted over the table", "sinks/candles_postgres.py", "if before.sha256 != partition.sha256:", "if known is None or known.postgres_sha256 != partition.sha256:", "kline_pipeline_tests/postgres/test_pipeline.py"),
    Defect("a price is a float", "market/schema.py", "return pc.cast(texts, DECIMAL)", "return pc.cast(pc.cast(texts, pa.float64()), DECIMAL)", f"{UNIT}/test_checks.py {UNIT}/test_schema.py"),
    Defect("local time stands for UTC", "market/window.py", "moment = datetime.fromtimestamp(time_ms // 1000, tz=UTC)", "moment = datetime.fromtimestamp(time_ms // 1000)", f"{UNIT}/test_bybit_connection.py {UNIT}/test_cli.py"),
    # Of the client.
    Defect("what is permanent is tried again", "bybit/retry.py", "return isinstance(error, KlineError) and error.retryable", "return isinstance(error, KlineError)", f"{UNIT}/test_bybit_retry.py"),
    Defect("waiting for a turn eats the deadline", "bybit/retry.py", "clock_s() - began_s - uncounted_s()", "clock_s() - began_s", f"{UNIT}/test_bybit_retry.py"),
    Defect("10016 is a bad symbol, as in many code tables", "bybit/refusals.py", "**dict.fromkeys((429, 5004, 10000, 10016,", "10016: (BadSymbol, _LATER),\n    **dict.fromkeys((429, 5004, 10000,", f"{UNIT}/test_bybit_messages.py"),
    Defect("every 403 is a rate limit", "bybit/refusals.py", "if _COUNTRY in text:", "if False:", f"{UNIT}/test_bybit_messages.py"),
    Defect("a gap is not asked for again", "direct/candles.py", "page, second = self._again(page)\n            proof = both(second, proof)", "pass", FETCH),
    Defect("a listing of last week is believed", "direct/candles.py", "self._source.listing(*self._names, again=True)", "self._source.listing(*self._names)", FETCH),
    Defect("missing and not listed are one", "direct/candles.py", "if len(missing):\n            raise", "if False:\n            raise", FETCH),
    Defect("the first of two contradicting rows wins", "direct/proof.py", "if not same:", "if False:", FETCH),
    Defect("the cache keeps what may still change", "direct/source.py", "page.window.end_ms <= page.server_time_ms - SETTLED_MS", "bool(page.rows.num_rows)", FETCH),
    Defect("--refetch reads the cache", "direct/source.py", "self._readable = None if refetch else cache", "self._readable = cache", FETCH),
    Defect("inverse takes linear candles", "direct/candles.py", 'if series.category == "inverse":', "if False:", FETCH),
    Defect("the last N are a shorter list", "direct/latest.py", "if len(candles) == count:", "if len(candles):", FETCH),
    Defect("a file stands there half written", "direct/output.py", 'path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")', "path", f"{UNIT}/test_direct_output.py"),
    Defect("the cool-down is heeded by nobody", "bybit/pace.py", "if self.cool_until_ms > now_ms:", "if False:", f"{UNIT}/test_bybit_ratelimit.py kline_pipeline_tests/postgres/test_rate_budget.py"),
    Defect("late answers are not heeded", "bybit/pace.py", "if lag_s < LAG_LEAST_S:", "if True:", "kline_pipeline_tests/postgres/test_rate_budget.py"),
    Defect("a cached entry is not checked", "bybit/cache/entries.py", "or hashlib.sha256(rest).digest() != digest", "", f"{UNIT}/test_bybit_cache.py"),
    Defect("the query is signed as parsed, not as sent", "bybit/auth.py", 'request.url.query.decode("ascii")', "str(sorted(request.url.params.items()))", f"{UNIT}/test_bybit_auth.py"),
    # Of what lives in Dagster.
    Defect("a coarser candle's volume is not looked at", "stages/confirm.py", "if theirs is not None and theirs > ours:", "if False:", "kline_pipeline_tests/postgres/test_known_gaps.py"),
    Defect("a closed month is not read once more", "stages/fill.py", "since_ms = max(since_ms if since_ms <= self.now_ms else 0, known.read_after_ms)", "since_ms = 0", "kline_pipeline_tests/postgres/test_unfinished.py"),
    Defect("batches go before the epoch is raised", "stages/prune.py", "        _raise_epoch(stores, dataset, cell)\n        for name in superfluous", "        for name in superfluous", "kline_pipeline_tests/postgres/test_pruning.py"),
    Defect("the chain ends at a partition's border", "checks/consistent.py", "pa.concat_tables([chain.before.slice(max(0, len(chain.before) - 1)), candles, chain.after.slice(0, 1)])", "candles", f"{UNIT}/test_consistent.py"),
    # Of the live pipeline.
    Defect("a fingerprint is believed unseen", "sinks/candles_postgres.py", "if row.fingerprint == known.postgres_fingerprint:", "if True:", "kline_pipeline_tests/postgres/test_sinks.py"),
    Defect("only the next coarser candle is asked", "stages/confirm.py", "left = left[[told[time_ms].says_nothing for time_ms in left.tolist()]]", "left = left[:0]", "kline_pipeline_tests/postgres/test_known_gaps.py"),
    Defect("a failed stage is passed over", "stages/flow.py", "        if self._error is not None:\n            raise self._error from unanswered\n", "", "kline_pipeline_tests/postgres/test_flow.py"),
)  # fmt: skip


def first_failure(defect: Defect, folder: Path) -> str:
    """Return the first test that a defect turns red; empty when none does."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", ".kline", ".hypothesis", "__pycache__"))
    file = tree / "kline_pipeline" / defect.file
    text = file.read_text()
    if text.count(defect.before) < 1:
        sys.exit(f"{defect.file} does not hold {defect.before!r}: mend the list of defects")
    file.write_text(text.replace(defect.before, defect.after, 1))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *defect.tests.split()],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if done.returncode == 1 and found else ""


def main() -> None:
    """Try the defects that were named, or all."""
    chosen = [int(number) for number in sys.argv[1:]] or range(1, len(DEFECTS) + 1)
    green = []
    with tempfile.TemporaryDirectory(prefix="kline-defects.") as folder:
        Path(folder).chmod(0o755)  # the embedded server runs as nobody when we are root
        for number in chosen:
            defect = DEFECTS[number - 1]
            failure = first_failure(defect, Path(folder))
            print(f"{number:2} {defect.name}: {failure or 'NOT NOTICED'}", flush=True)
            green += [] if failure else [number]
    if green:
        sys.exit(f"defects that no test noticed: {green}")


if __name__ == "__main__":
    main()
