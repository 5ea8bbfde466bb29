"""How the rights to networks are had on this machine: found out by trying the whole chain, in a process that is thrown away."""

import enum
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

from colony_core.errors import Missing

from .rootless import NEEDED, effective_capabilities, is_rootless

SYSTEM_FOLDER = Path("/run/netns")
"""Where ip-netns(8) looks for names."""
TRY_SECONDS = 60.0


class Mode(enum.Enum):
    """`root`: this is root. `ambient`: a system service with two capabilities. `rootless`: a user namespace of our own."""

    ROOT = "root"
    AMBIENT = "ambient"
    ROOTLESS = "rootless"


@attrs.frozen
class ModeReport:
    """Whether a mode works here; if not, why, and the next thing to type."""

    mode: Mode
    works: bool
    reason: str = ""
    hint: str = ""


def probe() -> tuple[ModeReport, ...]:
    """Tries every mode to the end: namespace, cable, addresses, firewall. Blocks for about half a second each."""
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
    last = reports[-1]
    raise Missing(
        "no-isolation",
        f"this machine lets nobody make network namespaces here ({reasons})",
        last.hint or "colony doctor",
    )


def try_mode(mode: Mode) -> ModeReport:
    """Tries one mode to the end."""
    if mode is Mode.ROOT and os.geteuid() != 0:
        return ModeReport(mode, False, "this is not root", "sudo")
    if mode is Mode.AMBIENT and (os.geteuid() == 0 or effective_capabilities() & NEEDED != NEEDED or is_rootless()):
        hint = "AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN in a systemd unit"
        return ModeReport(mode, False, "CAP_NET_ADMIN and CAP_SYS_ADMIN are not held", hint)
    if mode is Mode.ROOTLESS and os.geteuid() == 0:
        return ModeReport(mode, False, "this is root", "")
    if mode is Mode.AMBIENT and not _writable(SYSTEM_FOLDER):
        mend = f"sudo install -d -o {os.geteuid()} {SYSTEM_FOLDER}"
        return ModeReport(mode, False, f"{SYSTEM_FOLDER} is not ours to write in", mend)
    with tempfile.TemporaryDirectory(prefix="colony-try-") as folder:
        command = [sys.executable, "-m", "colony_core.isolation.trial", mode.value, folder]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TRY_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return ModeReport(mode, False, f"trying it took longer than {TRY_SECONDS:g} s", "colony doctor")
    return _read(mode, done.stdout, done.stderr)


def _writable(folder: Path) -> bool:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(nearest, os.W_OK | os.X_OK)


def _read(mode: Mode, said: str, complaint: str) -> ModeReport:
    try:
        told = json.loads(said)
        return ModeReport(mode, told["works"], told["reason"], told["hint"])
    except (ValueError, KeyError, TypeError):
        return ModeReport(mode, False, (complaint.strip().splitlines() or ["the trial died"])[-1], "colony doctor")
