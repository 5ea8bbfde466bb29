"""One cell, built and ended, in a process that is thrown away: what `modes` runs to find out what works here."""

import json
import sys
from pathlib import Path

import trio

from colony_core.errors import ColonyError

from .modes import Mode
from .rootless import enter_rootless
from .walls import open_isolation


def main(mode: Mode, folder: Path) -> None:
    """Prints `{"works": ..., "reason": ..., "hint": ...}`."""
    told = {"works": True, "reason": "", "hint": ""}
    try:
        if mode is Mode.ROOTLESS:
            enter_rootless()
        trio.run(_one_cell, mode, folder)
    except* ColonyError as group:
        error = _first(group)
        told = {"works": False, "reason": error.message, "hint": error.hint}
    except* OSError as group:
        told = {"works": False, "reason": str(group.exceptions[0]), "hint": "colony doctor"}
    print(json.dumps(told))


async def _one_cell(mode: Mode, folder: Path) -> None:
    async with open_isolation(run_dir=folder, mode=mode, private=True) as walls, walls.open_cell("trial"):
        pass


def _first(group: BaseExceptionGroup[ColonyError]) -> ColonyError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, ColonyError)
    return found


if __name__ == "__main__":
    main(Mode(sys.argv[1]), Path(sys.argv[2]))
