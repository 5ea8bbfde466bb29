"""What stands in the repository is true, complete, and speaks of Colony alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "build.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_hold_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--?(index|extra|find|trusted)", text, re.MULTILINE)
    pins = re.findall(r"^[A-Za-z0-9._-]+==\S+", text, re.MULTILINE)
    assert len(pins) >= 2
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_every_dependency_has_a_lower_bound_and_stands_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    locked = {
        name.lower()
        for name in re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    }
    for requirement in wanted:
        if requirement.startswith("colony["):
            continue
        assert ">=" in requirement, requirement
        assert re.split(r"[>=<\[]", requirement)[0].lower() in locked, requirement


def test_every_dependency_is_reasoned_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = (ROOT / "docs/dependencies.md").read_text()
    for requirement in [*project["dependencies"], *(d for e in project["optional-dependencies"].values() for d in e)]:
        name = re.split(r"[>=<\[]", requirement)[0]
        assert name == "colony" or f"`{name}`" in told, f"docs/dependencies.md does not say why {name}"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("colony_core", {"quart", "click", "hypercorn", "trio", "sqlalchemy", "pyroute2"}),
        ("colony_core.supervision", {"quart", "click", "cattrs", "msgspec", "sqlalchemy", "pyroute2"}),
        ("colony_core.mycelium", {"quart", "click", "hypercorn"}),
        ("colony_core.remote", {"trio", "quart", "click", "sqlalchemy", "pyroute2"}),
        ("colony_core.testing.plugin", {"quart", "click", "sqlalchemy", "pyroute2", "colony_core.mycelium"}),
        ("colony_cli.main", {"trio", "quart", "sqlalchemy", "pyroute2", "colony_core.mycelium"}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & forbidden


def test_continuous_integration_installs_what_each_mark_needs() -> None:
    """A mark says in brackets how its program is installed; kernel, root and slow need none."""
    run = (ROOT / ".ci/run").read_text()
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    for mark in markers:
        name, _, words = mark.partition(": ")
        found = re.search(r"\((apt install|npm install|scripts/\S+) ?([^)]*)\)", words)
        assert found or name in {"kernel", "root", "slow"}, f"{name} does not say how to install what it needs"
        for word in found[2].split() if found else []:
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", run), (
                f".ci/run does not install {word} for {name}"
            )
        if found and found[1].startswith("scripts/"):
            assert found[1] in run
            assert (ROOT / found[1]).exists()
