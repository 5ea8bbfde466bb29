"""What lies between the walls and the services: is everything there that the manifest requires, and do its setup commands succeed."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from colony_core.errors import Broken, TooSlow
from colony_core.processes import KeeperLost

from .environment import check_requirements, setup_environment
from .manifest import SetupCommand
from .state import ColonyState

if TYPE_CHECKING:
    from .colony import Colony

SETUP_GRACE_SECONDS = 5.0


async def build(colony: "Colony", *, adopting: bool) -> None:
    """Provisioning and building. A colony that was up before its daemon was killed is not built again.

    Raises Missing, Broken (`setup-failed`) or TooSlow (`setup-too-slow`); a cancelled setup command is stopped with its whole tree.
    """
    colony.enter(ColonyState.PROVISIONING)
    if adopting:
        return
    base, user = colony.base_environment(), colony.user
    await check_requirements(
        colony.manifest.requirements,
        path=base.get("PATH"),
        environment=base,
        folder=Path(colony.source),
        uid=user.uid if user else None,
        gid=user.gid if user else None,
    )
    if colony.manifest.setup:
        for number, command in enumerate(colony.manifest.setup, 1):
            colony.enter(ColonyState.BUILDING, f"{number} of {len(colony.manifest.setup)}: {command.command_text}")
            await _run(colony, command)


async def _run(colony: "Colony", command: SetupCommand) -> None:
    environment = setup_environment(
        base=colony.base_environment(), manifest=colony.manifest, colony=colony.name, url=colony.view().url
    )
    keeper = await colony.means.keeper.get()
    process = await keeper.start(
        colony.launch(
            label="setup", argv=command.command, environment=environment, cwd=None, key=f"setup.{secrets.token_hex(4)}"
        )
    )
    exited = None
    try:
        with trio.move_on_after(command.timeout):
            exited = await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            try:
                if exited is None:
                    await process.stop(grace=SETUP_GRACE_SECONDS)
                await keeper.forget(process.key)
            except KeeperLost:
                pass  # its leftovers are killed before a new keeper takes over
    hint = f"colony logs {colony.name} setup"
    if exited is None:
        raise TooSlow("setup-too-slow", f"setup took longer than {command.timeout:g} s: {command.command_text}", hint)
    if exited.code != 0:
        raise Broken("setup-failed", f"setup failed ({exited.reason}): {command.command_text}", hint)
