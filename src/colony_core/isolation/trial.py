"""How the rights to networks are had on this machine: found out by trying the whole chain, in a process that is thrown away.

While this process has one thread the trial is a fork of it, which has everything imported already. Else it is a new interpreter, which
costs half a second of CPU time more.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import trio

from colony_core.errors import ColonyError, Missing, first_of

from . import syscalls
from .kernel import OWN_NAMESPACE
from .modes import SYSTEM_FOLDER, Mode, ModeReport
from .netlink import warm_up
from .opening import open_isolation
from .rootless import NEEDED, effective_capabilities, enter_rootless, is_rootless

TRY_SECONDS = 30.0
LONGEST_ANSWER_BYTES = 4096
"""What a pipe takes in one piece."""
INTERPRETED = "import sys; from colony_core.isolation.trial import tell; tell(sys.argv[1], sys.argv[2])"


def probe() -> tuple[ModeReport, ...]:
    """Tries every mode to the end: namespace, cable, addresses, firewall. Blocks for up to half a second each."""
    return tuple(try_mode(mode) for mode in Mode)


def choose_mode() -> Mode:
    """The first mode that works here. Raises Missing (`no-isolation`) with every mode's reason; there is no pretending."""
    reports = []
    for mode in Mode:
        report = try_mode(mode)
        if report.works:
            return mode
        reports.append(report)
    reasons = "; ".join(f"{report.mode.value}: {report.reason}" for report in reports)
    raise Missing(
        "no-isolation", f"this machine lets nobody make network namespaces here ({reasons})", _next_step(reports)
    )


def try_mode(mode: Mode) -> ModeReport:
    """Tries one mode to the end."""
    if mode is Mode.ROOT and os.geteuid() != 0:
        return ModeReport(mode, False, "this is not root", "sudo colony serve")
    if mode is Mode.AMBIENT and (os.geteuid() == 0 or effective_capabilities() & NEEDED != NEEDED or is_rootless()):
        hint = "AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN in a systemd unit"
        return ModeReport(mode, False, "CAP_NET_ADMIN and CAP_SYS_ADMIN are not held", hint)
    if mode is Mode.ROOTLESS and os.geteuid() == 0:
        return ModeReport(mode, False, "this is root", "")
    if mode is Mode.AMBIENT and not _writable(SYSTEM_FOLDER):
        mend = f"sudo install -d -o {os.geteuid()} {SYSTEM_FOLDER}"
        return ModeReport(mode, False, f"{SYSTEM_FOLDER} is not ours to write in", mend)
    with tempfile.TemporaryDirectory(prefix="colony-try-") as folder:
        alone = len(os.listdir("/proc/self/task")) == 1 and not trio.lowlevel.in_trio_run()
        said, complaint = _fork(mode, folder) if alone else _interpret(mode, folder)
    return _read(mode, said, complaint)


def tell(mode: str, folder: str) -> None:
    """For the new interpreter: prints what came of the trial."""
    sys.stdout.buffer.write(_try(Mode(mode), Path(folder)))


def _next_step(reports: list[ModeReport]) -> str:
    """Root's own trouble is told to root, and to everybody else the way that needs no root."""
    hints = [report.hint for report in reports if report.hint]
    return hints[0 if os.geteuid() == 0 else -1] if hints else "colony doctor"


def _fork(mode: Mode, folder: str) -> tuple[bytes, str]:
    warm_up()  # here: whoever asks for a mode builds cells next
    heard, says = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.write(says, _try(mode, Path(folder))[:LONGEST_ANSWER_BYTES])
        os._exit(0)
    os.close(says)
    try:
        if not select.select([heard], [], [], TRY_SECONDS)[0]:
            return b"", f"trying it took longer than {TRY_SECONDS:g} s"
        return os.read(heard, LONGEST_ANSWER_BYTES), "the trial died"
    finally:
        os.close(heard)
        os.kill(child, signal.SIGKILL)  # it is ours until it is waited for
        os.waitpid(child, 0)


def _interpret(mode: Mode, folder: str) -> tuple[bytes, str]:
    command = [sys.executable, "-P", "-c", INTERPRETED, mode.value, folder]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRY_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return b"", f"trying it took longer than {TRY_SECONDS:g} s"
    return done.stdout, (done.stderr.decode(errors="replace").strip().splitlines() or ["the trial died"])[-1]


def _try(mode: Mode, folder: Path) -> bytes:
    told = {"works": True, "reason": "", "hint": ""}
    try:
        if mode is Mode.ROOTLESS:
            enter_rootless()
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_mounts_follow()
        trio.run(_one_cell, mode, folder)
    except* ColonyError as group:
        error = first_of(group)
        told = {"works": False, "reason": error.message[:1000], "hint": error.hint[:1000]}
    except* OSError as group:
        told = {"works": False, "reason": str(group.exceptions[0])[:1000], "hint": "colony doctor"}
    return json.dumps(told).encode()


async def _one_cell(mode: Mode, folder: Path) -> None:
    async with open_isolation(run_dir=folder, mode=mode, private=True) as walls, walls.open_cell("trial"):
        name = folder / "name"
        name.touch()
        syscalls.bind_mount(OWN_NAMESPACE, str(name))
        syscalls.unmount(str(name))


def _writable(folder: Path) -> bool:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(nearest, os.W_OK | os.X_OK)


def _read(mode: Mode, said: bytes, complaint: str) -> ModeReport:
    try:
        told = json.loads(said)
        return ModeReport(mode, told["works"], told["reason"], told["hint"])
    except (ValueError, KeyError, TypeError):
        return ModeReport(mode, False, complaint, "colony doctor")
