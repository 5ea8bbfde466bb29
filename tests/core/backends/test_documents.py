"""docs/agents.md is true: its part can be played, and its codes are those that the sources know."""

import ast
import re
from pathlib import Path

import trio.testing

from colony_core.backends import ApprovalAsked, Backend, Ended, Happening, Job, Run

from .contract import follow, make_programs

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/agents.md").read_text()
BACKENDS = ROOT / "src/colony_core/backends"


async def test_the_part_in_the_guide_is_played(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    names: dict[str, Backend] = {}
    exec(found[1], names)

    async def act(run: Run, happening: Happening) -> None:
        if isinstance(happening, ApprovalAsked):
            await run.answer(happening.id, allow=True)

    job = Job(colony="c", instruction="make it", workdir=tmp_path, start=make_programs(tmp_path).start)
    async with names["backend"].run(job) as run:
        end = (await follow(run, act))[-1]
    assert isinstance(end, Ended)
    assert end.text == "It is made."


def test_each_code_of_a_failure_stands_in_the_guide_and_in_the_sources() -> None:
    table = TEXT.split("| code of a failure |")[1].split("\n\n")[0]
    codes = {code for line in table.splitlines()[2:] for code in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    words = {
        node.value
        for path in BACKENDS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert codes <= words
    known = {
        "limit",
        "session-lost",
        "api-error",
        "not-logged-in",
        "max-turns",
        "budget",
        "refused",
        "agent-died",
        "exit-code",
    }
    assert known <= codes
