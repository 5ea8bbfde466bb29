"""What lies between the walls and the services: is everything there that the manifest requires, and do its setup commands succeed."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from colony_core.errors import Broken, TooSlow
from colony_core.processes import Exited, KeeperLost

from .environment import check_requirements, setup_environment
from .launching import inherited_environment, launch, user_of, way_out
from .manifest import SetupCommand

if TYPE_CHECKING:
    from .colony import Colony

SETUP_GRACE_SECONDS = 5.0


async def build(colony: "Colony", *, adopting: bool) -> None:
    """Provisioning and building. A colony that was up before its daemon was killed is not built again.

    Raises Missing, Broken (`setup-failed`) or TooSlow (`setup-too-slow`); a cancelled setup command is stopped with its whole tree.
    """
    await colony.provision()
    if adopting:
        return
    manifest = colony.manifest
    user, base = user_of(colony.source), inherited_environment(colony)
    await check_requirements(
        manifest.requirements,
        path=base.get("PATH"),
        environment=base,
        folder=Path(colony.source),
        uid=user.uid if user else None,
        gid=user.gid if user else None,
    )
    for number, command in enumerate(manifest.setup, 1):
        await colony.run_setup(f"{number} of {len(manifest.setup)}: {command.command_text}")
        environment = setup_environment(
            base=base, manifest=manifest, colony=colony.name, url=colony.url, way_out=way_out(colony)
        )
        with colony.span("setup", within=colony.trace, command=command.command_text) as span:
            if span.traceparent:
                environment["TRACEPARENT"] = span.traceparent
            while not await _run(colony, command, environment):
                pass  # its keeper died; it runs again with the next one


async def _run(colony: "Colony", command: SetupCommand, environment: Mapping[str, str]) -> bool:
    """Runs one command to its end; False where its keeper was lost before."""
    try:
        exited = await _exit_of(colony, command, environment)
    except KeeperLost:
        return False
    hint = f"colony logs {colony.name} setup"
    if exited is None:
        raise TooSlow("setup-too-slow", f"setup took longer than {command.timeout:g} s: {command.command_text}", hint)
    if exited.code != 0:
        raise Broken("setup-failed", f"setup failed ({exited.reason}): {command.command_text}", hint)
    return True


async def _exit_of(colony: "Colony", command: SetupCommand, environment: Mapping[str, str]) -> Exited | None:
    """How it ended; None where it took too long, in which case it is stopped."""
    keeper = await colony.means.keeper.get()
    process = await keeper.start(
        launch(
            colony,
            label="setup",
            argv=command.command,
            environment=environment,
            cwd=None,
            key=f"_setup.{secrets.token_hex(4)}",
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
    return exited
