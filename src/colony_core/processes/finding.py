"""Which process the keeper of a run folder is, asked of the kernel; blocking, at once."""

import os
import socket
import struct
from pathlib import Path

from .keeper.program import SOCKET_NAME

_CREDENTIALS = struct.Struct("3i")


def living_keeper(run_dir: Path) -> int | None:
    """The pid of the keeper that serves in `run_dir`, or None; pid files can lie, a listening socket cannot."""
    try:
        folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        except OSError:
            return None
        finally:
            os.close(folder)
        pid: int = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        return pid
