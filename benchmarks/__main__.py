"""`python -m benchmarks NAME [--json] [--long]`: one benchmark, or `all` of them; `--long` where one has a long form.

A line each, as a table or as one JSON object: `metric`, `value`, `unit`, `n`, `baseline` (what it is compared with in this run), `ratio`,
`better`, `goal`, `ok`. Ends with 1 if a goal was missed.
"""

import json
import os
import platform
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from benchmarks.metric import Metric

HERE = Path(__file__).parent
NAMES = sorted(
    path.stem
    for path in HERE.glob("*.py")
    if path.stem not in ("__init__", "__main__", "metric") and path.stem[0] != "_"
)


def main(arguments: list[str]) -> int:
    """Runs what is asked for and prints it."""
    as_json = "--json" in arguments
    long = "--long" in arguments
    names = [word for word in arguments if word not in ("--json", "--long")]
    if len(names) != 1 or names[0] not in (*NAMES, "all"):
        print(f"usage: python -m benchmarks {'|'.join([*NAMES, 'all'])} [--json] [--long]", file=sys.stderr)
        return 2
    missed = 0
    for name in NAMES if names == ["all"] else names:
        if not as_json:
            print(
                f"\n{name}: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
            )
            print(f"{'metric':<52} {'value':>12} {'unit':<8} {'n':>6}  {'ratio':>7}  {'goal':<24} baseline", flush=True)
        for metric in measured(name, long=long):
            missed += metric.ok is False
            print(json.dumps(plain(metric)) if as_json else row(metric), flush=True)
    return 1 if missed else 0


def measured(name: str, *, long: bool = False) -> Iterator[Metric]:
    """The figures of one benchmark, as they come; of its long form, if it has one and that is wanted."""
    benchmark = import_module(f"benchmarks.{name}")
    yield from getattr(benchmark, "run_long", benchmark.run)() if long else benchmark.run()


def plain(metric: Metric) -> dict[str, Any]:
    """One object for a line of JSON."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in attrs.asdict(metric).items()}


def row(metric: Metric) -> str:
    """One line of the table."""
    ratio = "" if metric.ratio is None else f"{metric.ratio:.2f}x"
    mark = {True: "✓ ", False: "✗ ", None: ""}[metric.ok]
    goal = f"{mark}{metric.goal}"
    return f"{metric.metric:<52} {metric.value:>12,.3f} {metric.unit:<8} {metric.n:>6}  {ratio:>7}  {goal:<24} {metric.baseline}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
