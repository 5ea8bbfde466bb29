"""Every example in the guides runs, and asserts what it says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs/supervision").glob("*.md"))
BLOCK = re.compile(r"^```python *([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples():
    for page in PAGES:
        text = page.read_text()
        for place, found in enumerate(BLOCK.finditer(text), 1):
            title = re.findall(r"^#+ (.*)$", text[: found.start()], re.MULTILINE)[-1]
            yield pytest.param(page, *found.groups(), id=f"{page.stem}-{place} {title}")


@pytest.mark.parametrize(("page", "how", "code"), list(examples()))
def test_the_example_runs(page, how, code, tmp_path):
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))), "it asserts nothing"
    if how == "pytest":
        file = tmp_path / "test_example.py"
        file.write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", str(file)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return
    world = {"__name__": "example"}
    exec(compile(code, str(page), "exec"), world)
    trio.run(world["main"], clock=None if how == "real-clock" else MockClock(autojump_threshold=0))


def test_every_kind_of_block_is_known_and_every_wish_has_a_recipe():
    for page in PAGES:
        assert {how for how, _ in BLOCK.findall(page.read_text())} <= {"", "real-clock", "pytest"}
    recipes = (ROOT / "docs/supervision/recipes.md").read_text()
    assert [int(number) for number in re.findall(r"^## (\d+) ", recipes, re.MULTILINE)] == list(range(1, 11))
    assert all(BLOCK.search(part) for part in recipes.split("\n## ")[1:])


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "ARCHITECTURE.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose):
        assert (page.parent / target).exists(), target
