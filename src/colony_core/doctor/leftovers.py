"""What a killed daemon left behind and nobody uses: sockets, a firewall, namespaces without a process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from colony_core import isolation, processes
from colony_core.config import Config
from colony_core.errors import Missing, WrongState
from colony_core.houselock import hold_lock
from colony_core.naming import namespace_name

FILES = ("colony.sock", "keeper.sock", "previews.sock", "token")
"""Every daemon and keeper makes them anew."""


@attrs.frozen
class Leftover:
    """Something that nobody uses: what it is, and where."""

    what: str
    where: str


def clear_leftovers(config: Config, *, tell: Callable[[Leftover], None]) -> None:
    """Removes what a killed daemon left and nobody uses; each is told before it goes. Blocks.

    A namespace in which something runs is left alone: it is the next daemon's, as everything is while a daemon or a keeper lives. Raises
    AlreadyExists (`already-running`), WrongState (`keeper-alive`), Broken.
    """
    folders = config.folders
    if not folders.state.exists():
        return
    with hold_lock(folders.state):
        keeper = processes.living_keeper(folders.run)
        if keeper is not None:
            raise WrongState(
                "keeper-alive", f"services go on under the keeper (process {keeper})", "colony serve takes them over"
            )
        for file in _files(folders.run):
            tell(Leftover("file", str(file)))
            file.unlink(missing_ok=True)
        try:
            mode = isolation.Mode(config.isolation.mode) if config.isolation.mode != "auto" else isolation.choose_mode()
        except Missing:
            return
        if mode is not isolation.Mode.ROOTLESS:  # there the kernel has cleared everything with its last process
            trio.run(_clear_walls, config, mode, tell)


def _files(run: Path) -> Iterator[Path]:
    return (run / name for name in FILES if (run / name).exists())


async def _clear_walls(config: Config, mode: isolation.Mode, tell: Callable[[Leftover], None]) -> None:
    plan = isolation.AddressPlan(config.isolation.base)
    if isolation.firewall_stands(config.folders.run):
        tell(Leftover("firewall", "its table in nft, unless a namespace stays"))
    # Whoever leaves the walls takes the firewall and the forwarding with the last cell.
    async with isolation.open_isolation(run_dir=config.folders.run, mode=mode, plan=plan, egress=False) as walls:
        for name in await walls.found():
            assert walls.netns_dir is not None, "what is found is bound somewhere"
            bound = walls.netns_dir / namespace_name(name)
            if not isolation.pids_in(bound.stat().st_ino):
                tell(Leftover("namespace", str(bound)))
                await walls.clear(name)
