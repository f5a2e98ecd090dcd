"""Prints how long the definitions take to load, in processes of their own: what ships, and 5 datasets of 500 symbols.

Run: python kline_pipeline_tests/benchmarks/definitions_load.py [--check]. CPU seconds, so that a busy machine does not
matter, with `import dagster` and without anything else; --check times `dg check defs` too.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TIMES = 3
DATASETS = (("linear", "1"), ("linear", "60"), ("linear", "D"), ("spot", "15"), ("inverse", "60"))
SYMBOLS = 500
LOAD = "from kline_pipeline.definitions import defs; defs.get_repository_def().load_all_definitions()"


def large() -> str:
    """The text of a datasets.toml with many symbols, which follow the exchange and are fetched often."""
    names = ", ".join(f'"S{number:03}USDT"' for number in range(SYMBOLS))
    keys = 'follow = { quote = "USDT" }\nschedule = { every_minutes = 5 }\n'
    return "".join(
        f'[[dataset]]\ncategory = "{category}"\ninterval = "{interval}"\ngrain = "year"\n{keys}symbols = [{names}]\n'
        for category, interval in DATASETS
    )


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """CPU seconds of a command that must succeed, with its children, the best of several."""
    found = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def main() -> None:
    """Print seconds."""
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "datasets.toml"
        many.write_text(large())
        plain = {**os.environ, "KLINE_HOME": f"{folder}/home"}
        print(f"import dagster alone         {seconds([sys.executable, '-c', 'import dagster'], plain):6.2f} s")
        for name, environment in (
            ("the packaged datasets        ", plain),
            (f"{len(DATASETS)} datasets of {SYMBOLS} symbols   ", {**plain, "KLINE_DATASETS_FILE": str(many)}),
        ):
            print(f"{name}{seconds([sys.executable, '-c', LOAD], environment):6.2f} s")
            if "--check" in sys.argv:
                command = [str(Path(sys.executable).parent / "dg"), "check", "defs"]
                print(f"  dg check defs              {seconds(command, environment):6.2f} s")


if __name__ == "__main__":
    main()
