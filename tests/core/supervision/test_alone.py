"""The room stands alone: Trio, attrs and the standard library are all that it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import colony_core.supervision

CODE = """
import sys
import colony_core.supervision
ours = {name for name in sys.modules if name.startswith("colony_")}
assert ours == {"colony_core"} | {name for name in ours if name.startswith("colony_core.supervision")}, ours
assert not {"cattrs", "msgspec", "sqlalchemy", "quart", "httptools", "pyroute2", "asyncio"} & set(sys.modules)
"""


def test_importing_it_brings_nothing_else_of_colony():
    source = Path(colony_core.supervision.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=source, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_itself_says_that_it_brings_nothing_but_trio_attrs_and_what_these_import():
    def imported(what: str) -> set[str]:
        command = [sys.executable, "-X", "importtime", "-c", f"import {what}"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        return {line.rsplit("|", 1)[1].strip() for line in lines}

    brought = imported("colony_core.supervision") - imported("trio, attrs")
    assert {name for name in brought if name.split(".")[:2] != ["colony_core", "supervision"]} == {"colony_core"}


def test_its_files_import_only_trio_attrs_and_the_standard_library():
    allowed = {*sys.stdlib_module_names, "trio", "attrs"}
    for file in Path(colony_core.supervision.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {(node.module or "").split(".")[0]}
            else:
                continue
            assert names <= allowed, f"{file.name} imports {names - allowed}"


def test_the_decisions_need_no_trio():
    text = Path(colony_core.supervision.__file__).with_name("restart.py").read_text()
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) or node.names[0].name for node in imports} == {
        "enum", "random", "collections", "collections.abc", "typing", "spec",
    }  # fmt: skip


def test_every_public_name_is_there_and_documented():
    for name in colony_core.supervision.__all__:
        thing = getattr(colony_core.supervision, name)
        assert name in ("Hook", "ID") or thing.__doc__, name
