"""What this machine has and lacks. Changes nothing."""

import grp
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import attrs

from colony_core import isolation, processes
from colony_core.config import Config
from colony_core.errors import ColonyError
from colony_core.remote import Client, Target, calls
from colony_core.workspaces import find_tools, shown_version

State = Literal["ok", "warn", "broken"]
RESOLV_CONF = Path("/etc/resolv.conf")
NSSWITCH = Path("/etc/nsswitch.conf")
NSCD = Path("/run/nscd/socket")
FEW_BYTES = 2**30


@attrs.frozen
class Finding:
    """One check: `state` is ok, warn (works, could be better) or broken; `mend` is the next thing to type, if there is one."""

    check: str
    state: State
    found: str
    mend: str = ""


def examine(config: Config) -> tuple[Finding, ...]:
    """Every check of this machine, in the order in which things would fail. Takes about a second: rights are tried, not guessed."""
    return tuple(finding for check in _CHECKS for finding in check(config))


def _system(_: Config) -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if ok else "broken", platform.python_version(), "" if ok else "install Python 3.11 or newer"
    )
    linux = sys.platform == "linux"
    mend = "" if linux else "run Colony on Linux, or in a Linux machine"
    yield Finding("kernel", "ok" if linux else "broken", f"{platform.system()} {platform.release()}", mend)


def _isolation(config: Config) -> Iterator[Finding]:
    reports = isolation.probe()
    wanted = config.isolation.mode
    works = [report for report in reports if report.works and wanted in ("auto", report.mode.value)]
    for report in reports:
        chosen = bool(works) and report is works[0]
        found = "works" + (", in use" if chosen else "") if report.works else report.reason
        state: State = "ok" if report.works else ("warn" if works else "broken")
        if report.works or not works:
            yield Finding(f"isolation: {report.mode.value}", state, found, "" if report.works else report.hint)
    if works and works[0].mode is isolation.Mode.ROOTLESS and config.isolation.egress:
        yield Finding("egress", "ok", isolation.PROXIED)


def _firewall(_: Config) -> Iterator[Finding]:
    path = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    yield Finding("nft", "ok" if path else "broken", path or "not found", "" if path else "sudo apt install nftables")
    if isolation.docker_blocks_forwarding():
        mend = "sudo iptables -I DOCKER-USER -i 'vc-+' -j ACCEPT && sudo iptables -I DOCKER-USER -o 'vc-+' -j ACCEPT"
        yield Finding("egress", "warn", "Docker drops what it does not know: colonies will not reach the outside", mend)


def _names(_: Config) -> Iterator[Finding]:
    servers = isolation.host_nameservers(RESOLV_CONF)
    found = ", ".join(servers) if servers else "no nameserver"
    mend = "" if servers else f"name a nameserver in {RESOLV_CONF}"
    yield Finding("names", "ok" if servers else "warn", found, mend)
    if (by := _passes_by_dns()) is not None:
        what = f"programs ask {by} of the host, not DNS: in colonies they find no siblings and no linked colonies"
        mend = f"in {NSSWITCH}: hosts: files dns" if by == "resolve" else "sudo systemctl disable --now nscd"
        yield Finding("names in colonies", "warn", what, mend)


def _passes_by_dns() -> str | None:
    """Who looks names up for the C library without asking at the addresses of resolv.conf (nsswitch.conf(5), nscd(8)); None: nobody."""
    if NSCD.exists():
        return "nscd"
    try:
        lines = NSSWITCH.read_text(errors="replace").splitlines()
    except OSError:
        return None
    words = next((line.partition("#")[0].split()[1:] for line in lines if line.split()[:1] == ["hosts:"]), [])
    services = [word for word in words if word in ("resolve", "dns")]
    return "resolve" if services[:1] == ["resolve"] else None


def _links(config: Config) -> Iterator[Finding]:
    if not _answers(config.folders.socket):
        return
    try:
        views = Client(Target(socket=str(config.folders.socket)), answer_seconds=5.0).send_raw(calls.colonies())
    except ColonyError as error:
        yield Finding("links", "warn", f"the daemon does not say: {error.message}", "colony status")
        return
    links = [(view["name"], link) for view in views if view["state"] == "running" for link in view.get("links", ())]
    for name, link in links:
        if not link["works"]:
            yield Finding("links", "warn", f"{name} to {link['to']}: {link['reason']}", f"colony show {name}")
    if links and all(link["works"] for _, link in links):
        yield Finding("links", "ok", f"{len(links)} between colonies")


def _folders(config: Config) -> Iterator[Finding]:
    for name, path in (("state folder", config.folders.state), ("run folder", config.folders.run)):
        at = next(p for p in (path, *path.parents) if p.exists())
        usable = os.access(at, os.W_OK | os.X_OK)
        mend = "" if usable else "set COLONY_STATE and COLONY_RUN to folders that you own"
        yield Finding(
            name, "ok" if usable else "broken", str(path) if usable else f"{at} is not yours to write in", mend
        )
        free = shutil.disk_usage(at).free
        if free < FEW_BYTES:
            yield Finding(
                f"{name}: room", "warn", f"{free // 2**20} MiB free", "make room: a full disk drops log lines"
            )


def _daemon(config: Config) -> Iterator[Finding]:
    keeper = processes.living_keeper(config.folders.run)
    yield Finding("keeper", "ok", f"alive, process {keeper}" if keeper else "none (no services run)")
    running = _answers(config.folders.socket)
    yield Finding(
        "daemon",
        "ok" if running else "warn",
        "running" if running else "not running",
        "" if running else "colony serve",
    )
    if not running:
        for what, bind, port in (
            ("api port", config.server.bind, config.server.port),
            ("preview port", config.routing.bind, config.routing.port),
        ):
            taken = not _free(bind, port)
            mend = f"stop what listens there, or set {'server' if what == 'api port' else 'routing'}.port"
            yield Finding(
                what,
                "broken" if taken else "ok",
                f"{bind}:{port} is {'taken' if taken else 'free'}",
                mend if taken else "",
            )


def _workspaces(config: Config) -> Iterator[Finding]:
    tools = find_tools(os.environ.get("PATH"))
    version = shown_version(tools.git_version)
    mend = "" if tools.git else "sudo apt install git"
    yield Finding("git", "ok" if tools.git else "broken", version or "not found", mend)
    wanted = config.workspaces.kind
    if tools.jj is None:
        found = f"{shown_version(tools.jj_version)} is too old" if tools.jj_version else "not found"
        state: State = "broken" if wanted == "jj" else "warn"
        yield Finding("jj", state, f"{found}: workspaces are worktrees of git", "install jj: https://docs.jj-vcs.dev")
    elif tools.colocates:
        yield Finding("jj", "ok", f"{shown_version(tools.jj_version)}; git works in its workspaces too")
    else:
        found = f"{shown_version(tools.jj_version)}; {tools.why_not_colocated}"
        yield Finding("jj", "warn", found, "install git 2.48 or newer")


def _caddy(config: Config) -> Iterator[Finding]:
    caddy = config.caddy
    admin = Path(caddy.admin)
    if not caddy.enabled:
        yield Finding("caddy", "ok", "not used (caddy.enabled): previews are plain HTTP")
    elif _answers(admin):
        owner = admin.stat()
        if owner.st_uid not in (0, os.getuid()) and not caddy.group:
            mend = f'set caddy.group = "{_group_name(owner.st_gid)}"'
            yield Finding("caddy", "broken", "it runs as another user and cannot reach the previews", mend)
        else:
            yield Finding("caddy", "ok", f"answers at {admin}")
    elif shutil.which("caddy") is None:
        yield Finding("caddy", "broken", "not installed", "sudo apt install caddy")
    elif _is_closed(admin):
        yield Finding("caddy", "broken", f"{admin} is not yours to use", "run Caddy as your user, or Colony as root")
    else:
        mend = f"begin /etc/caddy/Caddyfile with {{ admin unix/{admin} }} in three lines, then sudo systemctl restart caddy"
        yield Finding("caddy", "broken", f"nothing answers at {admin}", mend)


def _is_closed(path: Path) -> bool:
    """Whether it is there, or in a folder that is, and not ours to use."""
    try:
        return path.exists() and not os.access(path, os.W_OK)
    except PermissionError:
        return True


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _free(bind: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError:
            return False
        return True


_CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _system,
    _isolation,
    _firewall,
    _names,
    _folders,
    _daemon,
    _links,
    _workspaces,
    _caddy,
)
