"""What colonies use of the machine."""

from collections.abc import Iterable

import trio

from colony_core import clock
from colony_core.isolation import Cell, Processes, Traffic, processes_in
from colony_core.views import UsageView

from .colony import Colony
from .state import ServiceState


async def usage_of(colonies: Iterable[Colony]) -> tuple[UsageView, ...]:
    """One view for each, in their order. Those that are down use nothing."""
    asked = list(colonies)
    cells = {colony.id: colony.cell for colony in asked if colony.cell is not None}
    inodes = {cell.inode for cell in cells.values()}
    processes = await trio.to_thread.run_sync(processes_in, inodes) if inodes else {}
    traffic = {colony_id: await _traffic(cell) for colony_id, cell in cells.items()}
    at = clock.rfc3339(clock.unix_now())
    return tuple(
        _view(
            colony,
            at,
            processes.get(cells[colony.id].inode, Processes()) if colony.id in cells else Processes(),
            traffic.get(colony.id, Traffic()),
        )
        for colony in asked
    )


async def _traffic(cell: Cell) -> Traffic:
    try:
        return await cell.traffic()
    except OSError:  # it was taken down meanwhile
        return Traffic()


def _view(colony: Colony, at: str, processes: Processes, traffic: Traffic) -> UsageView:
    return UsageView(
        colony=colony.name,
        colony_id=colony.id,
        state=colony.state.value,
        at=at,
        services=sum(service.state is ServiceState.READY for service in colony.services.values()),
        processes=processes.count,
        cpu_seconds=processes.cpu_seconds,
        memory_bytes=processes.memory_bytes,
        received_bytes=traffic.received,
        sent_bytes=traffic.sent,
        log_lines=colony.means.log_lines(colony.id),
    )
