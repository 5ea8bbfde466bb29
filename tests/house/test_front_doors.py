"""Rooms are entered by their front door, and every package of the house is really used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
ROOMS = {path.parent.name for path in (ROOT / "src/colony_core").glob("*/__init__.py")}
SIDE_DOORS = {"colony_core.remote.streaming"}
"""Bring Trio along, which the rest of their room does without."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nobody_reaches_past_a_front_door(path: Path) -> None:
    own = path.relative_to(ROOT / "src").parts
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "colony_core" and len(parts) > 2 and parts[1] in ROOMS and own[:2] != ("colony_core", parts[1]):
            assert module in SIDE_DOORS, f"{path} imports {module}; use colony_core.{parts[1]}"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py" and "versions" not in p.parts], ids=str)
def test_every_room_opens_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize(
    ("package", "where"),
    [
        ("trio", "src/colony_core/supervision"),
        ("trio_websocket", "src/colony_core/remote/streaming.py"),
        ("hypercorn", "src/colony_web"),
        ("quart_trio", "src/colony_web"),
        ("pyroute2", "src/colony_core/isolation"),
        ("attrs", "src/colony_core/views.py"),
        ("cattrs", "src/colony_core/wire.py"),
        ("pytest_trio", "src/colony_core/testing/plugin.py"),
    ],
)
def test_each_package_of_the_house_is_imported_where_it_belongs(package: str, where: str) -> None:
    place = ROOT / where
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert any(module.split(".")[0] == package for path in files for module in imports(path))


def test_no_package_of_ours_uses_asyncio() -> None:
    users = [str(path) for path in SOURCES if any(module.split(".")[0] == "asyncio" for module in imports(path))]
    assert users == []
