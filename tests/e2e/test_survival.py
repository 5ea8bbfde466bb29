"""Crash-only: whatever is killed, and whenever, the next daemon finds every colony, loses nothing, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from colony_core.remote import calls

from .driver import COLONY, PATIENCE_SECONDS, Daemon, alive, kill, log_numbers

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

COUNTER = """
[services.count]
command = ["python3", "-u", "count.py"]
port = 7000
"""
COUNT = """
import itertools, select, socket, time
listener = socket.create_server(("0.0.0.0", 7000))
clients = [listener]
for number in itertools.count(1):
    print(number)
    for client in select.select(clients, [], [], 0.02)[0]:
        if client is listener:
            clients.append(listener.accept()[0])
        else:
            client.sendall(client.recv(100))
"""
IDLE = """
[services.idle]
command = ["python3", "-c", "import time; time.sleep(600)"]
"""

DEAF = '[services.deaf]\ncommand = "trap true TERM; echo deaf; while :; do sleep 0.1; done"\nready = { log = "deaf" }\n'
"""What would end it is nothing to it, once it is ready."""

HIDES = """
import os, socket, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        listener = socket.create_server(("127.0.0.1", 7000))
        os.set_inheritable(listener.fileno(), True)
        print("hidden", os.getpid(), flush=True)
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
time.sleep(600)
"""
"""A child in another session, without parents and environment: nothing but its network tells whose it is."""


def test_a_killed_daemon_costs_no_process_no_connection_and_no_line(daemon: Daemon) -> None:
    daemon.spawn("count", COUNTER, count_py=COUNT)
    before = daemon.until_ready("count")
    pid = before["services"][0]["pid"]
    daemon.kill()
    at_kill = daemon.process
    assert alive(pid)
    daemon.start()
    assert daemon.process is not at_kill
    after = daemon.until_ready("count")
    assert (after["id"], after["address"], after["services"][0]["pid"]) == (before["id"], before["address"], pid)
    seen = log_numbers(daemon, "count", "count")
    daemon.until(lambda: len(log_numbers(daemon, "count", "count")) > len(seen) + 5, "further lines")
    numbers = log_numbers(daemon, "count", "count")
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.root  # the host has no way to the address of an ordinary user's cell
def test_a_connection_of_a_service_stays_open_while_its_daemon_is_killed(daemon: Daemon) -> None:
    daemon.spawn("count", COUNTER, count_py=COUNT)
    view = daemon.until_ready("count")
    with socket.create_connection((view["address"], 7000), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        daemon.kill()
        connection.sendall(b"without")
        assert connection.recv(100) == b"without"
        daemon.start()
        daemon.until_ready("count")
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"


def test_an_end_that_no_daemon_saw_still_decides_the_restart(daemon: Daemon) -> None:
    daemon.spawn("idle", IDLE)
    pid = daemon.until_ready("idle")["services"][0]["pid"]
    daemon.kill()
    kill(pid)
    daemon.start()
    back = daemon.until(
        lambda: (s := daemon.service("idle", "idle"))["state"] == "ready" and s["pid"] not in (pid, None) and s,
        "a restart",
    )
    assert back["last_exit"] == "killed by SIGKILL"
    assert back["restarts"] == 1


def test_a_one_shot_that_ended_while_no_daemon_ran_is_not_run_again(daemon: Daemon) -> None:
    once = '[services.once]\ncommand = "echo ran; until [ -e go ]; do sleep 0.02; done"\nrestart = "never"\n'
    daemon.spawn("once", once)
    pid = daemon.until(lambda: daemon.service("once", "once")["pid"], "it runs")
    daemon.kill()
    (daemon.folder / "app-once/go").touch()
    daemon.until(lambda: not alive(pid), "it ends")
    daemon.start()
    daemon.until(lambda: daemon.service("once", "once")["state"] == "finished", "it finishes")
    daemon.kill()
    daemon.start()
    daemon.until(lambda: daemon.service("once", "once")["state"] == "finished", "it stays finished")
    lines = daemon.send(calls.logs("once", services=["once"]))["lines"]
    assert [line["text"] for line in lines if line["stream"] == "out"] == ["ran"]


def test_an_apply_is_carried_out_though_the_daemon_is_killed_before_its_restarts(daemon: Daemon) -> None:
    deaf = (
        '[services.{name}]\ncommand = "trap true TERM; echo {said}; while :; do sleep 0.1; done"\ngrace = "{grace}"\n'
        'ready = {{ log = "{said}" }}\n'
    )
    daemon.spawn("shop", deaf.format(name="web", said="old", grace="1h") + IDLE)
    before = {s["name"]: s["pid"] for s in daemon.until_ready("shop")["services"]}
    folder = daemon.folder / "app-shop"
    (folder / "colony.toml").write_text(deaf.format(name="web", said="new", grace="100ms") + IDLE)
    assert daemon.send(calls.apply("shop"))["restarted"] == ["web"]
    daemon.kill()
    assert alive(before["web"])
    daemon.start()
    after = {s["name"]: s["pid"] for s in daemon.until_ready("shop")["services"]}
    assert after["idle"] == before["idle"]
    assert after["web"] != before["web"]
    assert not alive(before["web"])
    lines = daemon.send(calls.logs("shop", services=["web"]))["lines"]
    assert [line["text"] for line in lines if line["stream"] == "out"] == ["old", "new"]


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("restart", "ready")])
def test_what_was_asked_of_a_service_is_done_though_the_daemon_is_killed_meanwhile(
    daemon: Daemon, verb: str, state: str
) -> None:
    daemon.environment["COLONY_PROCESSES__GRACE"] = "1h"
    daemon.restart()
    daemon.spawn("shop", DEAF + IDLE)
    before = {s["name"]: s["pid"] for s in daemon.until_ready("shop")["services"]}
    daemon.send(calls.service("shop", "deaf", verb))
    daemon.kill()
    assert alive(before["deaf"])
    daemon.environment["COLONY_PROCESSES__GRACE"] = "100ms"
    daemon.start()
    daemon.until(lambda: not alive(before["deaf"]), "the old process is gone")
    view = daemon.until(lambda: (s := daemon.service("shop", "deaf"))["state"] == state and s, f"it is {state}")
    assert view["pid"] != before["deaf"]
    daemon.until(lambda: daemon.service("shop", "idle")["state"] == "ready", "the other is found")
    assert daemon.service("shop", "idle")["pid"] == before["idle"]


def test_a_service_that_is_not_ready_yet_is_not_ready_for_the_next_daemon_either(daemon: Daemon) -> None:
    says = (
        '[services.{name}]\ncommand = "{before}while ! test -e go; do sleep 0.05; done; echo I am up; exec sleep 600"\n'
        'ready = {{ log = "am up" }}\n'
    )
    daemon.spawn("shop", says.format(name="late", before="") + says.format(name="early", before="echo I am up;"))
    daemon.until(lambda: daemon.service("shop", "early")["state"] == "ready", "one is ready")
    daemon.until(lambda: daemon.service("shop", "late")["pid"], "the other runs")
    pids = {name: daemon.service("shop", name)["pid"] for name in ("late", "early")}
    daemon.kill()
    daemon.start()
    daemon.until(lambda: daemon.service("shop", "early")["state"] == "ready", "it is found ready")
    daemon.until(lambda: daemon.service("shop", "late")["pid"] == pids["late"], "the other is found")
    assert daemon.service("shop", "late")["state"] == "starting"
    (daemon.folder / "app-shop" / "go").touch()
    daemon.until_ready("shop")
    assert {name: daemon.service("shop", name)["pid"] for name in pids} == pids


def test_a_daemon_killed_while_it_builds_leaves_a_colony_that_the_next_one_finishes(daemon: Daemon) -> None:
    manifest = '[setup]\ncommands = ["until [ -e go ]; do sleep 0.02; done"]\n' + IDLE
    daemon.spawn("slow", manifest)
    daemon.until(lambda: daemon.colony("slow")["state"] == "building", "it builds")
    daemon.kill()
    (daemon.folder / "app-slow/go").touch()
    daemon.start()
    assert daemon.until_ready("slow")["state"] == "running"


def test_a_daemon_killed_while_it_stops_a_colony_has_the_next_one_finish_it(daemon: Daemon) -> None:
    daemon.environment["COLONY_PROCESSES__GRACE"] = "1h"
    daemon.restart()
    daemon.spawn("deaf", DEAF)
    pid = daemon.until_ready("deaf")["services"][0]["pid"]
    daemon.send(calls.stop("deaf"))
    daemon.until(lambda: daemon.colony("deaf")["state"] == "stopping", "it stops")
    daemon.kill()
    daemon.environment["COLONY_PROCESSES__GRACE"] = "100ms"
    daemon.start()
    daemon.until(lambda: daemon.colony("deaf")["state"] == "stopped" and not alive(pid), "it is stopped")


def test_a_killed_keeper_is_replaced_and_its_services_restart_once_each(daemon: Daemon) -> None:
    daemon.spawn("count", COUNTER, count_py=COUNT)
    pid = daemon.until_ready("count")["services"][0]["pid"]
    keeper = daemon.send(calls.system())["keeper_pid"]
    kill(keeper)
    daemon.until(
        lambda: (s := daemon.service("count", "count"))["state"] == "ready" and s["pid"] not in (pid, None), "a restart"
    )
    assert not alive(pid)
    assert daemon.send(calls.system())["keeper_pid"] not in (keeper, None)
    assert daemon.process is not None
    assert daemon.process.poll() is None


def test_with_daemon_and_keeper_killed_nothing_runs_twice(daemon: Daemon) -> None:
    daemon.spawn("count", COUNTER, count_py=COUNT)
    pid = daemon.until_ready("count")["services"][0]["pid"]
    keeper = daemon.send(calls.system())["keeper_pid"]
    daemon.kill()
    kill(keeper)
    daemon.start()
    daemon.until(
        lambda: (s := daemon.service("count", "count"))["state"] == "ready" and s["pid"] not in (pid, None), "a restart"
    )
    assert not alive(pid)


# Where both die, the next daemon of an ordinary user builds new cells, and knows nothing of who hides in an old one.
@pytest.mark.parametrize("daemon_too", [False, pytest.param(True, marks=pytest.mark.root)])
def test_what_hides_in_a_cell_does_not_outlive_its_keeper(daemon: Daemon, *, daemon_too: bool) -> None:
    def hidden() -> list[int]:
        lines = daemon.send(calls.logs("sly", services=["sly"]))["lines"]
        return [int(line["text"].split()[1]) for line in lines if line["text"].startswith("hidden")]

    daemon.spawn("sly", '[services.sly]\ncommand = ["python3", "sly.py"]\nready = { log = "hidden" }\n', sly_py=HIDES)
    daemon.until_ready("sly")
    (first,) = hidden()
    keeper = daemon.send(calls.system())["keeper_pid"]
    if daemon_too:
        daemon.kill()
    kill(keeper)
    if daemon_too:
        daemon.start()
    daemon.until(lambda: len(hidden()) > 1, "its next one has the port")
    daemon.until(lambda: not alive(first), "who held it is gone")  # what dies lets go of its sockets a moment before
    daemon.until_ready("sly")


def test_sigterm_leaves_colonies_running_and_sigint_does_not(daemon: Daemon) -> None:
    daemon.spawn("idle", IDLE)
    pid = daemon.until_ready("idle")["services"][0]["pid"]
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(PATIENCE_SECONDS)
    assert alive(pid)
    daemon.start()
    assert daemon.until_ready("idle")["services"][0]["pid"] == pid
    daemon.process.send_signal(signal.SIGINT)
    daemon.process.wait(PATIENCE_SECONDS)
    assert not alive(pid)
    daemon.start()
    assert daemon.until_ready("idle")["services"][0]["pid"] != pid


@pytest.mark.root  # it looks into /run/netns, where an ordinary user's cells have no name
def test_after_a_shutdown_with_colonies_nothing_is_left_of_them(daemon: Daemon) -> None:
    daemon.spawn("idle", IDLE)
    view = daemon.until_ready("idle")
    assert Path("/run/netns/ns-idle").exists()
    keeper = daemon.send(calls.system())["keeper_pid"]
    daemon.cli("shutdown", "--colonies")
    assert daemon.process is not None
    daemon.process.wait(PATIENCE_SECONDS)
    assert not alive(view["services"][0]["pid"])
    assert not alive(keeper)
    assert not Path("/run/netns/ns-idle").exists()
    daemon.until(
        lambda: (
            "veth-idle-host" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
        ),
        "no link",
    )
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "10_213" not in tables


def test_the_shutdown_of_an_empty_house_is_answered(daemon: Daemon) -> None:
    for _ in range(3):
        assert "the daemon has ended" in daemon.cli("shutdown", "--colonies").stdout
        assert daemon.process is not None
        daemon.process.wait(PATIENCE_SECONDS)
        daemon.start()


def test_events_are_numbered_on_across_a_kill(daemon: Daemon) -> None:
    daemon.spawn("idle", IDLE)
    daemon.until_ready("idle")
    last = daemon.send(calls.system())["last_event"]
    assert last > 0
    daemon.kill()
    daemon.start()
    daemon.until_ready("idle")
    assert daemon.send(calls.system())["last_event"] > last


def test_a_second_daemon_says_who_runs(daemon: Daemon) -> None:
    done = daemon.cli("serve", check=5)
    assert daemon.process is not None
    assert f"process {daemon.process.pid}" in done.stderr
    assert "hint:" in done.stderr


@pytest.mark.parametrize(("section", "what"), [("SERVER", "API"), ("ROUTING", "previews")])
def test_a_taken_port_is_named_with_its_holder(tmp_path: Path, section: str, what: str) -> None:
    daemon = Daemon(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environment = daemon.environment | {f"COLONY_{section}__PORT": str(port)}
        done = subprocess.run(
            [*COLONY, "serve"], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    assert done.returncode == 5
    assert str(port) in done.stderr
    # Out of its user namespace a daemon does not see what others hold.
    assert (f"process {os.getpid()}" if os.geteuid() == 0 else "another process holds the port") in done.stderr
    assert f"{section.lower()}.port" in done.stderr
    assert not [line for line in processes() if str(tmp_path) in line], "a keeper that keeps nothing stays"


def processes() -> list[str]:
    """The command lines of this machine."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_settings_are_read_again_and_wrong_ones_are_refused_whole(daemon: Daemon) -> None:
    assert daemon.process is not None
    file = daemon.folder / "none.toml"
    daemon.environment.pop("COLONY_PROCESSES__GRACE")
    file.write_text('[processes]\ngrace = "1h"\n')
    daemon.restart()
    daemon.spawn("shop", DEAF)
    daemon.until_ready("shop")
    file.write_text('[processes]\ngrace = "soon"\n')
    refused = daemon.cli("reload", check=None)
    assert (refused.returncode, "processes.grace" in refused.stderr) == (2, True)
    file.write_text('[processes]\ngrace = "100ms"\n[isolation]\negress = true\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: "reloaded" in daemon.cli("events").stdout, "the settings are read again")
    assert daemon.cli("reload").stdout == "nothing changed\n"
    daemon.cli("stop", "shop")
    assert daemon.colony("shop")["state"] == "stopped"


def test_a_service_manager_hears_when_the_daemon_serves_lives_and_ends(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        daemon.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        daemon.spawn(
            "idle",
            IDLE + '[services.env]\ncommand = "env; echo that is all; sleep 600"\nready = { log = "that is all" }\n',
        )
        daemon.restart()
        words = [manager.recv(4096).decode().splitlines()[0] for _ in range(5)]
        assert words.count("READY=1") == 1
        assert words.count("WATCHDOG=1") == 4
        daemon.until_ready("idle")
        lines = daemon.send(calls.logs("idle", services=["env"]))["lines"]
        assert not [line["text"] for line in lines if "NOTIFY_SOCKET" in line["text"]]
        assert daemon.process is not None
        daemon.process.terminate()
        while manager.recv(4096).decode().splitlines()[0] != "STOPPING=1":
            pass
        daemon.process.wait(PATIENCE_SECONDS)
