"""What `python -m benchmarks` says: one object or line for each figure, and its exit code. The figures are measured by `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

NAMES = ("agents", "house", "isolation", "load", "proxy", "supervision", "terminals", "web", "workspaces")
ROOT = Path(__file__).resolve().parents[2]
ONE_FIGURE = """
import sys
import benchmarks.__main__ as program
from benchmarks.metric import Metric
figure = Metric(metric="wait", value=1 / 3, unit="s", n=2, baseline="by hand: 1 s", ratio=1 / 3, better="lower", goal="< 1", ok={ok})
program.measured = lambda name, long: [figure]
sys.exit(program.main(sys.argv[1:]))
"""


def said(*command: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_figure_is_one_object_with_what_it_is_compared_with_and_its_goal() -> None:
    code, text = said("-c", ONE_FIGURE.format(ok=True), "house", "--json")
    assert code == 0
    assert json.loads(text) == {
        "metric": "wait", "value": 0.3333, "unit": "s", "n": 2, "baseline": "by hand: 1 s", "ratio": 0.3333,
        "better": "lower", "goal": "< 1", "ok": True,
    }  # fmt: skip


def test_a_missed_goal_is_marked_and_ends_with_1() -> None:
    code, text = said("-c", ONE_FIGURE.format(ok=False), "house")
    assert code == 1
    assert "✗ < 1" in text.splitlines()[-1]


def test_an_unknown_name_is_told_those_there_are_and_each_can_be_run() -> None:
    code, text = said("-m", "benchmarks", "nothing")
    assert code == 2
    assert f"python -m benchmarks {'|'.join(NAMES)}|all" in text
    loads = "".join(f"import benchmarks.{name} as last; last.run\n" for name in NAMES)
    assert said("-c", loads) == (0, "")


def test_the_page_of_figures_names_every_benchmark() -> None:
    page = (ROOT / "docs/figures.md").read_text()
    assert f"`python -m benchmarks {'|'.join(NAMES)}`" in page
