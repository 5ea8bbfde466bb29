"""What processes of a colony are told, and what a colony requires of its machine."""

import os
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from colony_core.colonies import environment as room
from colony_core.colonies.environment import (
    base_environment,
    check_requirements,
    path_inside,
    read_env_file,
    read_env_files,
    service_environment,
    setup_environment,
)
from colony_core.colonies.manifest import Manifest, read_manifest
from colony_core.colonies.reading.requirements import TOOLS, find_version, parse_versions, satisfies
from colony_core.errors import Invalid, Missing, NotFound

MANIFEST = """
[colony.environment]
SHARED = "colony"
TZ = "colony"
[services.web]
command = "x"
port = 80
env = { SHARED = "service" }
[services.my-api]
command = "x"
port = 81
[services.worker]
command = "x"
"""


def manifest() -> Manifest:
    return read_manifest(MANIFEST, templates={})


def environment_of(name: str, *, url: str | None = None, env_file: dict[str, str] | None = None) -> dict[str, str]:
    service = next(s for s in manifest().services if s.name == name)
    base = {"PATH": "/bin", "TZ": "base", "API_KEY": "secret"}
    return service_environment(
        base=base, manifest=manifest(), service=service, colony="shop", url=url, env_file=env_file
    )


# ---- variables


def test_only_harmless_variables_of_the_daemon_are_passed_on() -> None:
    mine = {"PATH": "/p", "HOME": "/h", "LC_ALL": "C", "LANG": "C", "TERM": "xterm", "SHELL": "/bin/sh"}
    others = {"ANTHROPIC_KEY": "s", "LD_PRELOAD": "x", "COLONY_TOKEN": "s", "SSH_AUTH_SOCK": "x", "PYTHONPATH": "x"}
    assert base_environment(mine | others) == mine


def test_there_is_always_a_path() -> None:
    assert "/usr/bin" in base_environment({})["PATH"].split(":")


def test_a_service_gets_its_own_port_and_the_addresses_of_the_others() -> None:
    assert environment_of("web", url="http://web.shop.colony.localhost/") == {
        "PATH": "/bin",
        "TZ": "colony",
        "SHARED": "service",
        "PORT": "80",
        "COLONY_NAME": "shop",
        "COLONY_SERVICE": "web",
        "COLONY_URL": "http://web.shop.colony.localhost/",
        "COLONY_SERVICE_MY_API_URL": "http://127.0.0.1:81",
        "COLONY_SERVICE_MY_API_HOST": "127.0.0.1",
        "COLONY_SERVICE_MY_API_PORT": "81",
    }
    worker = environment_of("worker")
    assert "PORT" not in worker
    assert "COLONY_URL" not in worker
    assert worker["COLONY_SERVICE_WEB_URL"] == "http://127.0.0.1:80"


def test_an_env_file_stands_between_the_colony_and_the_service() -> None:
    told = {"SHARED": "file", "TZ": "file", "PORT": "9", "MORE": "file"}
    web, worker = environment_of("web", env_file=told), environment_of("worker", env_file=told)
    assert (web["SHARED"], web["TZ"], web["MORE"], web["PORT"]) == ("service", "file", "file", "80")
    assert (worker["SHARED"], worker["PORT"]) == ("file", "9")


def test_setup_commands_get_the_colonys_variables_and_all_addresses() -> None:
    told = setup_environment(base={"PATH": "/bin", "X": "y"}, manifest=manifest(), colony="shop")
    assert told["COLONY_NAME"] == "shop"
    assert told["SHARED"] == "colony"
    assert told["COLONY_SERVICE_WEB_PORT"] == "80"
    assert not {"X", "PORT", "COLONY_SERVICE", "COLONY_URL"} & told.keys()


# ---- env files


def test_an_env_file_is_read_as_people_write_them() -> None:
    text = (
        "\ufeff# comment\r\n\n  export A=1\nB = two words  # why\nC='single # $X \\n'  # why\n"
        'D="line\\n\\"tab\\t\\" \\$X \\q"\nE=\nF=#none\nG=a#b\nH=""\nA=2\n'
    )
    assert read_env_file(text) == {
        "A": "2",
        "B": "two words",
        "C": "single # $X \\n",
        "D": 'line\n"tab\t" $X \\q',
        "E": "",
        "F": "",
        "G": "a#b",
        "H": "",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A", 1),
        ("\n=hunter2", 2),
        ("A=1\n1B=hunter2", 2),
        ("A='hunter2\nhunter2'", 1),
        ('A="hunter2\nhunter2"', 1),
        ('A="hunter2" hunter2', 1),
        ("A-B=hunter2", 1),
        ("A=hunter2\0", 1),
        ("COLONY_NAME=hunter2", 1),
        ("hunter2 hunter2=1", 1),
    ],
)
def test_a_mistake_in_an_env_file_names_its_line_and_no_value(text: str, line: int) -> None:
    with pytest.raises(Invalid) as caught:
        read_env_file(text, where=".env")
    assert caught.value.code == "invalid-env-file"
    assert caught.value.message.startswith(f".env:{line}: ")
    assert caught.value.details["line"] == line
    assert "hunter2" not in repr((caught.value.message, caught.value.hint))


@given(st.text())
def test_any_env_file_is_read_or_refused_as_invalid(text: str) -> None:
    try:
        found = read_env_file(text)
    except Invalid:
        return
    assert all("=" not in name and "\0" not in name + value for name, value in found.items())


def test_env_files_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A=1\nB=1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("B=2")
    (tmp_path / "link").symlink_to("sub/b")
    assert read_env_files(tmp_path, ("a", "sub/b")) == {"A": "1", "B": "2"}
    assert read_env_files(tmp_path, ("link",)) == {"B": "2"}, "links inside the folder are fine"


def test_env_files_outside_the_folder_are_refused_whatever_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "colony"
    folder.mkdir()
    (tmp_path / "secret").write_text("A=hunter2")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    for name in ("link", "up/secret", "../secret", str(tmp_path / "secret")):
        with pytest.raises(Invalid) as caught:
            read_env_files(folder, (name,))
        assert caught.value.code == "path-outside"


@pytest.mark.root
def test_an_env_file_that_the_folders_owner_cannot_read_is_not_read_for_him(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=hunter2")
    (tmp_path / ".env").chmod(0o600)
    os.chown(tmp_path, 4711, 4711)
    with pytest.raises(Invalid, match="its owner"):
        read_env_files(tmp_path, (".env",))
    os.chown(tmp_path / ".env", 4711, 4711)
    assert read_env_files(tmp_path, (".env",)) == {"A": "hunter2"}


def test_env_files_that_are_not_there_or_no_files_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"A=\xff")
    (tmp_path / "huge").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(NotFound, match="no env file none"):
        read_env_files(tmp_path, ("none",))
    for name in ("pipe", ".", "latin", "huge"):
        with pytest.raises(Invalid):
            read_env_files(tmp_path, (name,))


def test_paths_are_followed_before_they_are_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "colony"
    (folder / "sub").mkdir(parents=True)
    (folder / "inner").symlink_to("sub")
    (folder / "outer").symlink_to(tmp_path)
    assert path_inside(folder, "sub") == folder / "sub"
    assert path_inside(folder, "inner") == folder / "sub"
    assert path_inside(folder, ".") == folder
    for name in ("outer", "..", "outer/colony-not", "/etc"):
        with pytest.raises(Invalid, match="leads out"):
            path_inside(folder, name)


# ---- requirements


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [
        ("20", ["20", "20.0.0", "20.11"], ["2", "21.0", "200"]),
        ("20.11", ["20.11.1"], ["20.1", "20.110"]),
        ("20.x", ["20.1"], ["21"]),
        ("v20", ["20.1"], ["19"]),
        ("*", ["0.0.1", "99"], []),
        (">=3.11", ["3.11", "3.12.1", "4"], ["3.9", "3.10.99"]),
        (">=3.11,<4", ["3.13"], ["4.0", "3.10"]),
        ("> 3.11 , != 3.13.0", ["3.11.1", "3.13.1"], ["3.11", "3.11.0", "3.13"]),
        ("<=1.2", ["1.2.0", "1.1.9"], ["1.2.1"]),
        ("==1.2", ["1.2", "1.2.0"], ["1.2.1"]),
        ("^1.2.3", ["1.2.3", "1.9"], ["1.2.2", "2.0"]),
        ("^0.2.3", ["0.2.9"], ["0.3.0", "1.0"]),
        ("~1.2.3", ["1.2.9"], ["1.3.0", "1.2.2"]),
        ("~1", ["1.0", "1.9"], ["2.0"]),
    ],
)
def test_versions_are_compared_number_by_number(wanted: str, yes: list[str], no: list[str]) -> None:
    for version, holds in [(v, True) for v in yes] + [(v, False) for v in no]:
        assert satisfies(tuple(map(int, version.split("."))), wanted) is holds, version


@pytest.mark.parametrize("text", ["", "new", ">=", "1..2", "^1.x", "1,", "1.2.3.4.5", ">=1 <2", "1" * 101, "١"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a version"):
        parse_versions(text)


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("v20.11.1\n", (20, 11, 1)),
        ("Python 3.11.7", (3, 11, 7)),
        ("go version go1.21.5 linux/amd64", (1, 21, 5)),
        ("git version 2.39.2", (2, 39, 2)),
        ("GNU Make 4.3\nBuilt for x86_64-pc-linux-gnu", (4, 3)),
        ('openjdk version "17.0.9" 2023-10-17', (17, 0, 9)),
        ("rustc 1.76.0 (07dca489a 2024-02-04)", (1, 76, 0)),
        ("Poetry (version 1.8.2)", (1, 8, 2)),
        ("pip 23.0.1 from /usr/lib/python3/dist-packages/pip (python 3.11)", (23, 0, 1)),
        ("deno 1.40.0 (release, x86_64-unknown-linux-gnu)", (1, 40, 0)),
        ("ruby 3.1.2p20 (2022-04-12 revision 4491bb740a)", (3, 1, 2)),
        ("jj 0.38.0-abc", (0, 38, 0)),
        ("7", (7,)),
        ("no version", None),
        ("", None),
    ],
)
def test_a_version_is_found_in_the_words_of_a_tool(output: str, version: tuple[int, ...] | None) -> None:
    assert find_version(output) == version


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


async def test_tools_that_are_there_in_a_fitting_version_pass(tmp_path: Path) -> None:
    tool(tmp_path, "nodejs", "echo v20.11.1")
    tool(tmp_path, "pnpm", "echo 9.1.0")
    tool(tmp_path, "java", "echo 'openjdk version \"17.0.9\"' >&2")
    wanted = {"node": "20", "package_manager": "pnpm@9", "java": ">=17"}
    await check_requirements(wanted, path=str(tmp_path))
    await check_requirements({}, path="")


async def test_everything_that_is_missing_is_named_with_what_was_found(tmp_path: Path) -> None:
    tool(tmp_path, "node", "echo v18.3.0")
    tool(tmp_path, "python3", "exit 1")
    tool(tmp_path, "npm", "echo soon")
    wanted = {"node": ">=20", "python": ">=3.11", "npm": "*", "go": "1.21", "package_manager": "yarn"}
    with pytest.raises(Missing) as caught:
        await check_requirements(wanted, path=str(tmp_path))
    error = caught.value
    assert error.code == "requirement-missing"
    assert error.message.split("; ") == [
        f"node >=20 is required, but {tmp_path}/node is 18.3.0",
        f"python >=3.11 is required, but {tmp_path}/python3 did not tell its version",
        f"npm is required, but {tmp_path}/npm did not tell its version",
        "go 1.21 is required, but there is no go here",
        "yarn is required, but there is no yarn here",
    ]
    assert error.details["missing"] == ["node", "python", "npm", "go", "yarn"]
    assert str(tmp_path) in error.hint


async def test_a_tool_that_thinks_too_long_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "VERSION_SECONDS", 0.3)
    tool(tmp_path, "node", f"/bin/sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(Missing, match=r"did not tell its version within 0\.3 s"):
        await check_requirements({"node": "20"}, path=str(tmp_path))
    if (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text().strip()):
        with trio.fail_after(30):
            while _alive(pid):
                await trio.sleep(0.01)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_package_manager_and_its_namesake_are_both_checked(tmp_path: Path) -> None:
    tool(tmp_path, "pnpm", "echo 9.1.0")
    with pytest.raises(Missing, match=r"pnpm 8 is required, but .* is 9\.1\.0"):
        await check_requirements({"pnpm": "8", "package_manager": "pnpm"}, path=str(tmp_path))


async def test_tools_are_asked_in_the_given_folder_and_with_the_given_variables_only(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("20.1\n")
    tool(tmp_path, "node", '[ -z "$HOME" ] && [ "$MINE" = yes ] && read found < version && echo "$found"')
    await check_requirements({"node": "20.1"}, path=str(tmp_path), environment={"MINE": "yes"}, folder=tmp_path)


@pytest.mark.root
async def test_tools_are_asked_in_the_name_of_the_colonys_user() -> None:
    folder = Path("/tmp")
    with trio.fail_after(60):
        import tempfile

        with tempfile.TemporaryDirectory(dir=folder) as name:
            Path(name).chmod(0o755)
            tool(Path(name), "node", "echo $(/usr/bin/id -u).$(/usr/bin/id -g)")
            await check_requirements({"node": "4711.4712"}, path=name, uid=4711, gid=4712)


async def test_this_machines_python_passes() -> None:
    await check_requirements({"python": ">=3"}, path=os.environ.get("PATH"), environment=dict(os.environ))


def test_every_tool_that_can_be_required_has_a_program_and_a_question() -> None:
    assert all(tool.programs and tool.ask for tool in TOOLS.values())
