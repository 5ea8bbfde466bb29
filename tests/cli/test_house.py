"""init, serve, shutdown, completion, doctor."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from colony_cli import complete, tree
from colony_core.config import SECTIONS, Config, config_file, load_config

from .conftest import Command
from .stand_in import StandIn


def test_init_writes_two_commented_files_and_ends_with_three_commands(colony: Command, tmp_path: Path) -> None:
    (tmp_path / "My Site").mkdir()
    done = colony("init", "My Site")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[-3:]] == ["colony"] * 3
    manifest = tomllib.loads((tmp_path / "My Site/colony.toml").read_text())
    assert manifest["colony"]["name"] == "my-site"
    assert manifest["services"]["web"]["port"] == 4001
    settings = config_file(colony.environ)
    assert set(tomllib.loads(settings.read_text())) == set(SECTIONS)


def test_the_manifest_of_init_is_one_with_every_comment_taken_away(colony: Command, tmp_path: Path) -> None:
    from colony_core.colonies import read_manifest

    assert colony("init").code == 0
    text = (tmp_path / "colony.toml").read_text()
    templates = {"web-app": ""}
    assert [service.name for service in read_manifest(text, templates=templates).services] == ["web"]
    lines = text.splitlines()[2:]
    full = "\n".join(line.removeprefix("# ") for line in lines).replace('depends_on = ["api"]', "depends_on = []")
    (service,) = read_manifest(full, templates=templates).services
    assert (service.env, service.cwd, service.grace, service.autostart) == ({"DEBUG": "1"}, "site", 10.0, True)


def test_the_settings_of_init_are_the_defaults_with_every_comment_taken_away(colony: Command) -> None:
    assert colony("init").code == 0
    file = config_file(colony.environ)
    settings = [
        line.removeprefix("# ") for line in file.read_text().splitlines() if "=" in line or line.startswith("[")
    ]
    file.write_text("\n".join(settings))
    loaded = load_config(colony.environ)
    assert loaded == Config(folders=loaded.folders)
    server = {"bind": "127.0.0.1", "port": 8000, "origins": [], "trusted_proxies": [], "connections": 512}
    assert tomllib.loads(file.read_text())["server"] == server


def test_init_overwrites_nothing(colony: Command, tmp_path: Path) -> None:
    (tmp_path / "colony.toml").write_text("mine")
    done = colony("init", "--json")
    assert (tmp_path / "colony.toml").read_text() == "mine"
    assert done.json["kept"] == [str(tmp_path / "colony.toml")]
    assert colony("init", "--json").json["written"] == []
    assert colony("init", "nowhere").code == 3


def test_shutdown_returns_when_the_daemon_is_gone(house: StandIn, colony: Command, socket_path: Path) -> None:
    done = colony("shutdown")
    assert (done.code, done.out) == (0, "the daemon has ended; colonies go on; colony serve finds them again\n")
    assert house.shutdown == {"colonies": False}
    assert not socket_path.exists()
    assert colony("ls").code == 6


def test_shutdown_waits_for_the_process_and_says_when_that_takes_too_long(house: StandIn, colony: Command) -> None:
    house.pid = os.getpid()
    done = colony("shutdown", "--colonies", "--timeout", "5s")
    assert done.code == 7
    assert f"(pid {os.getpid()}) still runs" in done.err
    assert house.shutdown == {"colonies": True}


def test_shutdown_may_not_wait(house: StandIn, colony: Command) -> None:
    house.pid = os.getpid()
    assert colony("shutdown", "--no-wait", "--json").json == {"pid": os.getpid(), "ended": False, "colonies": False}


@pytest.mark.parametrize(
    "words", [["--port", "70000"], ["--port", "x"], ["--preview-port", "-1"], ["--bind", "nowhere"], ["--mode", "rot"]]
)
def test_serve_refuses_settings_before_anything_is_begun(colony: Command, tmp_path: Path, words: list[str]) -> None:
    done = colony("serve", *words)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert not (tmp_path / "state").exists()


def test_a_mistake_in_the_settings_file_is_told_with_the_nearest_key(colony: Command) -> None:
    file = config_file(colony.environ)
    file.parent.mkdir(parents=True)
    file.write_text("[server]\nprot = 1\n")
    done = colony("serve")
    assert done.code == 2
    assert "unknown key 'prot'\n  did you mean port?" in done.err


@pytest.mark.parametrize("shell", tree.SHELLS)
def test_completion_scripts_are_good_shell(colony: Command, tmp_path: Path, shell: str) -> None:
    done = colony("completion", shell)
    assert done.code == 0
    assert "__complete" in done.out
    checker = shutil.which(shell)
    if checker:
        script = tmp_path / "script"
        script.write_text(done.out)
        subprocess.run([checker, "-n", str(script)], check=True, timeout=120)
    else:
        assert done.out.count("(") == done.out.count(")")
        assert done.out.count('"') % 2 == 0


def test_bash_completes_with_the_script(house: StandIn, colony: Command, tmp_path: Path) -> None:
    house.add("hello")
    house.add("help-desk")
    command = tmp_path / "colony"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m colony_cli "$@"\n')
    command.chmod(0o755)
    script = colony("completion", "bash").out + (
        '\nCOMP_WORDS=(colony show he); COMP_CWORD=2; _colony; echo "${COMPREPLY[@]}"'
        '\nCOMP_WORDS=(colony service re); COMP_CWORD=2; _colony; echo "${COMPREPLY[@]}"'
        '\nCOMP_WORDS=(colony spawn x --from ""); COMP_CWORD=4; _colony; echo "${#COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"

    def completed() -> list[str]:
        environ = colony.environ | {"PATH": path}
        done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, timeout=120, check=True)
        return done.stdout.decode().splitlines()

    house.until(
        lambda: completed() == ["hello help-desk", "restart", "0"]
    )  # at once, or nothing: one presses the key again


def test_names_commands_flags_and_values_are_offered(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.add("other")

    def offered(*words: str) -> list[str]:
        return colony("__complete", *words).out.split()

    def named(*words: str) -> list[str]:
        """What is offered of what the daemon knows: nothing, where it does not answer at once."""
        found: list[str] = []
        house.until(lambda: found.extend(offered(*words)) or bool(found))
        return found

    assert "spawn" in offered("")
    assert offered("sho") == ["show"]
    assert named("show", "") == ["hello", "other"]
    assert named("--json", "stop", "hello", "") == ["other"]
    assert offered("show", "hello", "") == []
    assert named("logs", "hello", "web", "") == ["api"]
    assert named("service", "stop", "hello", "w") == ["web"]
    assert offered("ls", "--st") == ["--state"]
    assert offered("ls", "--state", "stopp") == ["stopped", "stopping"] or offered("ls", "--state", "stopp") == [
        "stopped"
    ]
    assert offered("spawn", "x", "--from", "") == [":files"]
    assert offered("exec", "hello", "--", "l") == [":files"]
    assert offered("nonsense", "") == []


def test_templates_of_the_users_own_are_offered_too(colony: Command) -> None:
    folder = colony.home / "config/colony/templates"
    folder.mkdir(parents=True)
    (folder / "mine.toml").touch()
    (folder / "notes.txt").touch()
    offered = colony("__complete", "spawn", "x", "--template", "").out.split()
    assert offered == ["api-service", "full-stack", "mine", "web-app"]


def test_without_box_characters_the_tree_is_drawn_in_ascii(house: StandIn, colony: Command) -> None:
    assert colony("tree").out == "mycelium\n└─ colonies\n"
    assert colony("tree", COLONY_ASCII="1").out == "mycelium\n`- colonies\n"


def test_completion_offers_nothing_rather_than_wait(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.slow_seconds = 300.0
    done = colony("__complete", "show", "")
    assert (done.out, done.err) == ("", "")


def test_completion_without_a_daemon_is_silent(colony: Command) -> None:
    done = colony("__complete", "show", "")
    assert (done.out, done.err) == ("", "")


def test_every_word_of_the_table_can_be_completed() -> None:
    for entry in tree.ENTRIES:
        branch, _, verb = entry.name.rpartition(" ")
        assert verb in set(complete.candidates([*branch.split(), ""], {}))


def test_doctor_shows_findings_and_mends(colony: Command) -> None:
    done = colony("doctor", "--json")
    assert done.code in (0, 1)
    findings = done.json
    assert {"check", "state", "found", "mend"} == set(findings[0])
    assert (done.code == 1) == any(finding["state"] == "broken" for finding in findings)
    shown = colony("doctor")
    assert "python" in shown.out
    assert shown.code == done.code


@pytest.mark.caddy
def test_doctor_says_how_to_start_a_caddy_that_is_wanted(colony: Command, tmp_path: Path) -> None:
    def caddy(**settings: str) -> dict[str, str]:
        environ = {f"COLONY_CADDY__{key}": value for key, value in settings.items()}
        return next(finding for finding in colony("doctor", "--json", **environ).json if finding["check"] == "caddy")

    assert caddy()["state"] == "ok"
    admin = tmp_path / "admin.sock"
    found = caddy(ENABLED="true", ADMIN=str(admin))
    assert found["state"] == "broken"
    assert f"{{ admin unix/{admin} }}" in found["mend"]
    if os.getuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o000)
        closed = caddy(ENABLED="true", ADMIN=str(tmp_path / "closed/admin.sock"))
        assert closed["found"].endswith("is not yours to use")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(admin))
        listener.listen()
        assert caddy(ENABLED="true", ADMIN=str(admin))["found"] == f"answers at {admin}"


def test_an_interrupt_while_the_daemon_is_asked_is_130(house: StandIn, colony: Command) -> None:
    house.slow_seconds = 300.0
    process = colony.begin("ls")
    house.until(lambda: bool(house.asked))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, b"", b"")
