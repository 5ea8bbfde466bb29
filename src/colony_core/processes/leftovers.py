"""Ending what a dead keeper has left behind, or whatever still lives in a namespace."""

import functools
from collections.abc import Collection

import trio

from .keeper.leftovers import kill_leftovers as kill_now


async def kill_leftovers(
    *,
    keeper: str | None = None,
    keys: Collection[str] = (),
    networks: Collection[int] = (),
    grace: float = 0.0,
    patience: float = 10.0,
) -> tuple[int, ...]:
    """Ends the trees of all processes that a keeper (its identity) or whoever it was started under `keys`, and all in `networks` (inodes).

    SIGTERM, `grace` seconds, then SIGKILL until nobody is found any more. Gives the pids that outlived even that for `patience`
    seconds. Never touches this process, its parent, nor, by namespace, who shares its own network. A cancellation waits for the end.
    """
    work = functools.partial(kill_now, keeper=keeper, keys=keys, networks=networks, grace=grace, patience=patience)
    return tuple(await trio.to_thread.run_sync(work))
