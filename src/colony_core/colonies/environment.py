"""The environment of a colony: the variables that its processes get, and the tools that it requires of the machine."""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from colony_core.errors import Invalid, Missing, NotFound
from colony_core.naming import COLONY_DOMAIN, service_variable

from .files import open_ordinary
from .manifest import Manifest, Service
from .reading import TOOLS, Mistake, a_text, find_version, satisfies, variable_name, wanted_tools

INHERITED = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TERM", "SHELL"})
"""What processes get from the daemon's own environment, besides LC_*; everything else may be a secret and stays behind."""
PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "no_proxy"})
"""Which programs read in small letters, in capitals, or in both; curl reads `http_proxy` in small letters only."""
PATH = "/usr/local/bin:/usr/bin:/bin"
VERSION_SECONDS = 30.0
MOST_ENV_FILE_BYTES = 2**20
_MOST_OUTPUT_BYTES = 2**16

_ASSIGNMENT = re.compile(r"(?:export\s+)?([^\s=]+)\s*=\s*(.*)")
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What is passed on of the daemon's environment; PATH is always there."""
    passed = {name: value for name, value in environ.items() if name in INHERITED or name.startswith("LC_")}
    return {"PATH": PATH} | passed


def overlaid(*layers: Mapping[str, str]) -> dict[str, str]:
    """All variables; later wins. Where programs are told of a proxy, in small letters or in capitals, earlier words on it are forgotten."""
    found: dict[str, str] = {}
    for layer in layers:
        said = {name.lower() for name in layer} & PROXY_VARIABLES
        found = {name: value for name, value in found.items() if name.lower() not in said} | dict(layer)
    return found


def way_out_environment(
    proxy: str | None, *, manifest: Manifest, colony: str, networks: Iterable[str]
) -> dict[str, str]:
    """How programs are told that `proxy` is their way out, and what they reach without it; nothing where there is no proxy."""
    if proxy is None:
        return {}
    names = [colony, *(service.name for service in manifest.services), *(link.colony for link in manifest.links)]
    without = ["localhost", ".localhost", "127.0.0.0/8", "127.0.0.1", "::1", f".{COLONY_DOMAIN}", *networks]
    told = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": ",".join(dict.fromkeys([*without, *names]))}
    return told | {name.upper(): value for name, value in told.items()} | {"NODE_USE_ENV_PROXY": "1"}


def service_environment(
    *,
    base: Mapping[str, str],
    manifest: Manifest,
    service: Service,
    colony: str,
    url: str | None = None,
    env_file: Mapping[str, str] | None = None,
    way_out: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables of a service.

    Later wins: `base`, its way out, the colony's, the env files', the service's, and what Colony says itself.
    """
    told = _told(manifest, colony, url, apart=service.name) | {"COLONY_SERVICE": service.name}
    if service.port is not None:
        told["PORT"] = str(service.port)
    inherited = base_environment(base) | dict(way_out or {})
    return overlaid(inherited, manifest.environment, env_file or {}, service.env, told)


def setup_environment(
    *,
    base: Mapping[str, str],
    manifest: Manifest,
    colony: str,
    url: str | None = None,
    way_out: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of setup commands, and of commands that people run in the colony."""
    return overlaid(base_environment(base) | dict(way_out or {}), manifest.environment, _told(manifest, colony, url))


def read_env_file(text: str, *, where: str = "env file") -> dict[str, str]:
    """Variables from lines `NAME=value`: comments, quotes and `export` as in a shell, but nothing is expanded and no value has two lines.

    Raises Invalid naming the line, never the value.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            assignment = _ASSIGNMENT.fullmatch(line)
            if assignment is None:
                raise Mistake(
                    "expected NAME=value", "a value that goes over several lines belongs into a file of its own"
                )
            found[variable_name(assignment[1])] = a_text(_unquoted(assignment[2]))
        except Mistake as mistake:
            message = f"{where}:{number}: {mistake.message}"
            details = {"path": where, "line": number}
            raise Invalid("invalid-env-file", message, mistake.hint, details=details) from None
    return found


def read_env_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The variables of several files inside a colony's folder; later files win. Blocks: for a thread. Raises NotFound, Invalid."""
    found: dict[str, str] = {}
    for name in names:
        try:
            text = _bytes_inside(folder, name).decode()
        except UnicodeDecodeError:
            raise Invalid("invalid-env-file", f"{name} is not UTF-8", "save the file as UTF-8") from None
        found |= read_env_file(text, where=name)
    return found


def path_inside(folder: Path, name: str) -> Path:
    """`name` below `folder`, links followed; raises Invalid where they lead out of it."""
    path = Path(folder, name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Invalid("path-outside", f"{name} leads out of {folder}", "keep it inside the colony's folder")
    return path


async def check_requirements(
    requirements: Mapping[str, str],
    *,
    path: str | None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    uid: int | None = None,
    gid: int | None = None,
) -> None:
    """Returns if this machine has every required tool in a fitting version; raises Missing that names each one with what was found.

    Tools are looked for in `path` and asked all at once, each for at most 10 s, in `folder` (where version managers look for their files),
    with `environment`, and in the name of `uid` and `gid` where they are given. Cancellation kills those that are still thinking.
    """
    wanted = tuple(wanted_tools(requirements))
    complaints = [""] * len(wanted)
    asking = {"LC_ALL": "C", **(environment or {})} | ({"PATH": path} if path is not None else {})
    changes = uid not in (None, os.geteuid())  # else nothing is to be changed, which a user namespace might refuse
    identity: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": ()} if changes else {}

    async def check(number: int, name: str, version: str) -> None:
        complaints[number] = await _complaint(name, version, asking, folder=folder, identity=identity)

    async with trio.open_nursery() as nursery:
        for number, (name, version) in enumerate(wanted):
            nursery.start_soon(check, number, name, version)
    missing = [name for (name, _), complaint in zip(wanted, complaints, strict=True) if complaint]
    if missing:
        hint = f"install {', '.join(missing)}, or change [colony.environment]; the search path was {asking.get('PATH', PATH)}"
        raise Missing("requirement-missing", "; ".join(filter(None, complaints)), hint, details={"missing": missing})


async def _complaint(
    name: str, wanted: str, environment: Mapping[str, str], *, folder: Path | None, identity: Mapping[str, Any]
) -> str:
    """What is wrong with a tool, or nothing."""
    tool = TOOLS[name]
    shown = name if wanted == "*" else f"{name} {wanted}"
    search = environment.get("PATH", PATH)
    program = next(filter(None, (shutil.which(each, path=search) for each in tool.programs)), None)
    if program is None:
        return f"{shown} is required, but there is no {' or '.join(tool.programs)} here"
    output = await _ask((program, *tool.ask), environment, folder=folder, identity=identity, on_stderr=tool.on_stderr)
    if output is None:
        return f"{shown} is required, but {program} did not tell its version within {VERSION_SECONDS:g} s"
    version = find_version(output)
    if version is None:
        return f"{shown} is required, but {program} did not tell its version"
    if not satisfies(version, wanted):
        return f"{shown} is required, but {program} is {'.'.join(map(str, version))}"
    return ""


async def _ask(
    command: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    folder: Path | None,
    identity: Mapping[str, Any],
    on_stderr: bool,
) -> str | None:
    """What a program says to its question; None where it thinks too long, nothing where it cannot be run."""
    captured: dict[str, Any] = {"capture_stdout": True, "stderr": subprocess.DEVNULL}
    if on_stderr:
        captured = {"capture_stderr": True, "stdout": subprocess.DEVNULL}
    with trio.move_on_after(VERSION_SECONDS) as scope:
        try:
            done = await trio.run_process(
                command,
                check=False,
                **captured,
                deliver_cancel=_kill,
                env=dict(environment),
                cwd=folder or "/",
                start_new_session=True,
                **identity,
            )
        except OSError:
            return ""
    if scope.cancelled_caught:
        return None
    said: bytes = done.stderr if on_stderr else done.stdout
    return said[:_MOST_OUTPUT_BYTES].decode(errors="replace") if done.returncode == 0 else ""


async def _kill(process: trio.Process) -> None:
    """Ends a program with all it has started: one that left a child behind would keep our pipe open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _unquoted(value: str) -> str:
    if value.startswith("'"):
        found = _SINGLE.fullmatch(value)
        if found is None:
            raise Mistake("the quote is not closed in its line", "values of several lines are not supported")
        return found[1]
    if value.startswith('"'):
        found = _DOUBLE.fullmatch(value)
        if found is None:
            raise Mistake("the quote is not closed in its line", "values of several lines are not supported")
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), found[1])
    return "" if value.startswith("#") else re.split(r"\s#", value, maxsplit=1)[0].rstrip()


def _bytes_inside(folder: Path, name: str) -> bytes:
    """The content of a file inside `folder`.

    The daemon may be root while the folder is not root's: so it is the opened file that is judged, not its name, by where it lies and
    by whether the folder's owner could read it.
    """
    hint = f"make {name} an ordinary file in the colony's folder, or remove it from env_file"
    try:
        with open_ordinary(folder / name) as file:
            found, owner = os.fstat(file.fileno()), folder.stat()
            real = Path(f"/proc/self/fd/{file.fileno()}").readlink()
            data = file.read(MOST_ENV_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("env-file-not-found", f"there is no env file {name}", hint) from None
    except OSError as error:
        raise Invalid("invalid-env-file", f"{name}: {error.strerror}", hint) from None
    if not real.is_relative_to(folder.resolve()) or not _readable_by_owner(found, owner):
        raise Invalid("path-outside", f"{name} is not a file of the colony's folder and its owner", hint)
    if len(data) > MOST_ENV_FILE_BYTES:
        raise Invalid("invalid-env-file", f"{name} is larger than {MOST_ENV_FILE_BYTES} bytes", hint)
    return data


def _readable_by_owner(file: os.stat_result, folder: os.stat_result) -> bool:
    return (
        folder.st_uid in (0, file.st_uid)
        or bool(file.st_mode & stat.S_IROTH)
        or (file.st_gid == folder.st_gid and bool(file.st_mode & stat.S_IRGRP))
    )


def _told(manifest: Manifest, colony: str, url: str | None, *, apart: str = "") -> dict[str, str]:
    """What Colony itself says: whose process this is, and where the services (but for `apart`) are found from inside the colony."""
    told = {"COLONY_NAME": colony}
    if url:
        told["COLONY_URL"] = url
    for service in manifest.services:
        if service.port is not None and service.name != apart:
            stem = service_variable(service.name)
            told[f"{stem}_URL"] = f"http://127.0.0.1:{service.port}"
            told[f"{stem}_HOST"] = "127.0.0.1"
            told[f"{stem}_PORT"] = str(service.port)
    return told
