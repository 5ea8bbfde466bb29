"""Scenes of a machine that lacks something, that was rebooted, or on which a daemon was killed; see scenes.py."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from world import Shown, environment, until

from colony_core.isolation import dns

IDLE = '[services.idle]\ncommand = "exec sleep 5000"\n'
BOOT_ID = "/proc/sys/kernel/random/boot_id"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


class Machine:
    """A user's shell in a checkout, on a host of its own."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self.env = environment(made.parent / "home", COLONY_SERVER__PORT="0", COLONY_ROUTING__PORT="0")

    def colony(self, *words: str, code: int = 0, **more: str) -> str:
        """What a command says, on both streams; it must end with `code`."""
        done = subprocess.run(
            [".venv/bin/colony", *words], cwd=self.made, env=self.env | more, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def asked(self, *words: str) -> Any:
        """A command's answer in JSON."""
        return json.loads(self.colony(*words, "--json"))

    def serve(self) -> Shown:
        """A daemon that is ready."""
        served = Shown([".venv/bin/colony", "serve"], self.made, self.env)
        served.until("ready in")
        return served

    def spawn(self, name: str, manifest: str = IDLE) -> int:
        """A colony that is up; the process of its first service."""
        folder = self.made.parent / name
        folder.mkdir()
        (folder / "colony.toml").write_text(manifest)
        self.colony("spawn", name, "--from", str(folder))
        return self.pid(name)

    def pid(self, name: str) -> int:
        """The process of a colony's first service."""
        return int(self.asked("show", name)["services"][0]["pid"])

    def line(self, check: str, **more: str) -> tuple[str, str, str]:
        """State, finding and mend of one line of the doctor's; empty where there is no such line."""
        done = subprocess.run(
            [".venv/bin/colony", "doctor", "--json"],
            cwd=self.made,
            env=self.env | more,
            capture_output=True,
            text=True,
            check=False,
        )
        findings = json.loads(done.stdout)
        assert done.returncode == any(finding["state"] == "broken" for finding in findings), done
        for finding in findings:
            if finding["check"] == check:
                return finding["state"], finding["found"], finding["mend"]
        return "", "", ""


def doctor_lines(made: Path) -> None:
    """Each line of the doctor's, where all is well and where it is not."""
    machine = Machine(made)
    free = {"COLONY_SERVER__PORT": "8000", "COLONY_ROUTING__PORT": "8088"}
    assert machine.line("python")[0] == machine.line("kernel")[0] == "ok"
    assert machine.line("isolation: root") == ("ok", "works, in use", "")
    bounded = [
        "setpriv",
        "--bounding-set=-net_admin,-sys_admin",
        "--inh-caps=-net_admin,-sys_admin",
        ".venv/bin/colony",
    ]
    done = subprocess.run([*bounded, "doctor"], cwd=made, env=machine.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert re.search(r"broken isolation: root +.*not permitted", done.stdout), done.stdout

    assert machine.line("nft")[0] == "ok"
    with hidden_nft():
        assert machine.line("nft") == ("broken", "not found", "sudo apt install nftables")
        assert "nft is not installed" in machine.line("isolation: root")[1]

    assert machine.line("egress") == ("", "", "")
    run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
    state, found, mend = machine.line("egress")
    assert (state, "Docker" in found, "DOCKER-USER" in mend) == ("warn", True, True)
    run("nft", 'add rule ip filter FORWARD iifname "vc-*" accept')
    assert machine.line("egress") == ("", "", "")
    run("nft", "delete table ip filter")

    with replaced("/etc/resolv.conf", "nameserver 192.0.2.53\n"):
        assert machine.line("names") == ("ok", "192.0.2.53", "")
    with replaced("/etc/resolv.conf", "# nobody\n"):
        assert machine.line("names")[:2] == ("warn", "no nameserver")
    with replaced("/etc/nsswitch.conf", "# hosts: resolve\nhosts: files mdns4_minimal [NOTFOUND=return] dns resolve\n"):
        assert machine.line("names in colonies") == ("", "", "")
    with replaced("/etc/nsswitch.conf", "hosts: files resolve [!UNAVAIL=return] dns\n"):
        state, found, mend = machine.line("names in colonies")
        assert (state, found.startswith("programs ask resolve"), mend.endswith("hosts: files dns")) == (
            "warn",
            True,
            True,
        )
    Path("/run/nscd").mkdir()
    Path("/run/nscd/socket").touch()
    assert machine.line("names in colonies")[2] == "sudo systemctl disable --now nscd"
    shutil.rmtree("/run/nscd")

    small = made.parent / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small))
    state, found, mend = machine.line("state folder: room", COLONY_STATE=str(small / "state"))
    assert (state, found.endswith("MiB free"), mend.startswith("make room")) == ("warn", True, True)
    assert machine.line("state folder: room") == ("", "", "")
    assert machine.line("state folder")[0] == machine.line("run folder")[0] == "ok"
    run("mount", "-o", "remount,bind,ro", str(small))
    for folder in ("state folder", "run folder"):
        state, found, mend = machine.line(folder, COLONY_STATE=str(small / "state"))
        assert (state, found) == ("broken", f"{small} is not yours to write in")
        assert "COLONY_STATE" in mend

    assert machine.line("keeper")[1] == "none (no services run)"
    assert machine.line("daemon") == ("warn", "not running", "colony serve")
    assert machine.line("api port", **free) == ("ok", "127.0.0.1:8000 is free", "")
    assert machine.line("preview port", **free) == ("ok", "127.0.0.1:8088 is free", "")
    with socket.create_server(("127.0.0.1", 8000)), socket.create_server(("127.0.0.1", 8088)):
        assert machine.line("api port", **free)[:2] == ("broken", "127.0.0.1:8000 is taken")
        state, found, mend = machine.line("preview port", **free)
        assert (state, found, "routing.port" in mend) == ("broken", "127.0.0.1:8088 is taken", True)
    machine.serve()
    assert machine.line("daemon") == ("ok", "running", "")
    assert machine.line("keeper")[1] == f"alive, process {machine.asked('status')['keeper_pid']}"
    assert machine.line("api port", **free) == ("", "", "")


def doctor_fix(made: Path) -> None:
    """What a killed daemon left is removed where nobody uses it, and only there."""
    machine = Machine(made)
    FORWARD.write_text("0")
    assert machine.colony("doctor", "--fix").count("removing") == 0
    served = machine.serve()
    pids = [machine.spawn("used"), machine.spawn("unused")]
    assert f"by process {served.process.pid}" in machine.colony("doctor", "--fix", code=5)
    keeper = machine.asked("status")["keeper_pid"]
    served.kill()
    assert f"keeper (process {keeper})" in machine.colony("doctor", "--fix", code=5)
    assert os.path.exists("/run/colony/colony.sock")
    for pid in (keeper, pids[1]):
        os.kill(pid, signal.SIGKILL)
    # A keeper takes what it holds along; a program that got away from it lives on in its namespace.
    stray = subprocess.Popen(["ip", "netns", "exec", "ns-used", "sleep", "5000"])
    until(lambda: "ns-used" in run("ip", "netns", "identify", str(stray.pid)), "a stray in its namespace")
    until(lambda: not runs(keeper) and not runs(pids[1]), "keeper and service are gone")
    said = machine.colony("doctor", "--fix")
    removed = [line.split()[1:] for line in said.splitlines() if line.startswith("removing")]
    assert ["file", "/run/colony/colony.sock"] in removed, said
    assert ["namespace", "/run/netns/ns-unused"] in removed, said
    assert ["namespace", "/run/netns/ns-used"] not in removed, said
    assert stray.poll() is None
    assert run("ip", "netns").split()[0] == "ns-used"
    assert "colony_" in run("nft", "list", "tables"), "who still stands needs the firewall"
    stray.kill()
    stray.wait()
    for pid in pids:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(runs, pids)), "everything is gone")
    assert "removing namespace  /run/netns/ns-used" in machine.colony("doctor", "--fix")
    assert run("ip", "netns") == run("nft", "list", "tables") == ""
    until(lambda: "vc-" not in run("ip", "link"), "no link")
    assert FORWARD.read_text() == "0\n"
    machine.serve()
    until(lambda: [c["state"] for c in machine.asked("ls")] == ["running", "running"], "both are built anew")


def rebooted(made: Path) -> None:
    """After a reboot pids and the keeper's records mean nothing: who has those pids now is left alone."""
    _restarted_with_strangers(made, reboot=True)


def pids_reused(made: Path) -> None:
    """The same without a reboot, when everything of Colony was killed."""
    _restarted_with_strangers(made, reboot=False)


def _restarted_with_strangers(made: Path, *, reboot: bool) -> None:
    machine = Machine(made)
    served = machine.serve()
    service = machine.spawn("hello")
    before = machine.asked("show", "hello")
    keeper = machine.asked("status")["keeper_pid"]
    served.kill()
    for pid in (keeper, service):
        os.kill(pid, signal.SIGKILL)
        reap(pid)
    if reboot:
        run("umount", "/run/netns/ns-hello")
        run("umount", "-l", "/run")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
        replacement = made.parent / "boot_id"
        replacement.write_text("11111111-2222-3333-4444-555555555555\n")
        run("mount", "--bind", str(replacement), BOOT_ID)
    strangers = [stranger(pid) for pid in (keeper, service)]
    served = machine.serve()
    until(lambda: machine.asked("show", "hello")["services"][0]["state"] == "ready", "the service is back")
    after = machine.asked("show", "hello")
    assert after["id"] == before["id"]
    assert after["services"][0]["pid"] not in (service, keeper)
    assert machine.asked("status")["keeper_pid"] not in (service, keeper)
    machine.colony("rm", "hello", "--yes")
    machine.colony("shutdown", "--colonies")
    assert [one.poll() for one in strangers] == [None, None]


def no_nft(made: Path) -> None:
    """Without nft nothing starts, and nothing is half made."""
    machine = Machine(made)
    with hidden_nft():
        said = machine.colony("serve", code=1)
        assert "nft is not installed" in said
        assert "hint: sudo apt install nftables" in said
        demo = subprocess.run(["make", "demo"], cwd=made, env=machine.env, capture_output=True, text=True, check=False)
        assert demo.returncode != 0
        assert "nft is not installed" in demo.stderr
    assert run("ip", "netns") == run("nft", "list", "tables") == ""
    assert "vc-" not in run("ip", "link")


def exec_while_the_daemon_is_killed(made: Path) -> None:
    """A command's whole tree ends with the daemon that ran it, at the latest when the next one starts."""
    machine = Machine(made)
    served = machine.serve()
    machine.spawn("hello")
    command = "sleep 6001 & setsid sleep 6002 & (setsid sleep 6003 &) ; echo up; exec sleep 6004"
    shown = Shown([".venv/bin/colony", "exec", "hello", "--", "sh", "-c", command], made, machine.env)
    shown.until("up")
    until(lambda: len(sleepers()) == 4, "its tree is there")
    service = machine.pid("hello")
    served.kill()
    assert shown.process.wait(180) not in (0, None), shown.text
    machine.serve()
    until(lambda: sleepers() == [], "its tree is gone")
    until(lambda: machine.asked("show", "hello")["services"][0]["pid"] == service, "the service goes on")


def names_outlive_the_daemon(made: Path) -> None:
    """The names of the world resolve in a colony also when nobody answers inside; those of colonies need a daemon."""
    machine = Machine(made)
    run("ip", "addr", "add", "192.0.2.53/32", "dev", "lo")
    look = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"

    def found(name: str) -> str:
        inside = ["ip", "netns", "exec", "ns-hello", "python3", "-c", look, name]
        return subprocess.run(inside, capture_output=True, text=True, check=False).stdout.strip()

    with (
        replaced("/etc/resolv.conf", "nameserver 192.0.2.53\n"),
        replaced("/etc/nsswitch.conf", "hosts: files dns\n"),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
    ):
        resolver.bind(("192.0.2.53", 53))
        threading.Thread(target=resolve, args=[resolver], daemon=True).start()
        served = machine.serve()
        machine.spawn("hello")
        until(lambda: found("idle") == "127.0.0.1", "a sibling has a name")
        assert found("world.example") == "192.0.2.80"
        served.kill()
        until(lambda: found("world.example") == "192.0.2.80", "the kernel has taken the resolver's address back")
        assert found("idle") == ""
        machine.serve()
        until(lambda: found("idle") == "127.0.0.1", "the next daemon answers")
        machine.colony("shutdown")
        assert found("world.example") == "192.0.2.80"


def resolve(resolver: socket.socket) -> None:
    """A resolver that knows the world: one name."""
    while True:
        packet, asker = resolver.recvfrom(1000)
        question = dns.read_question(packet)
        assert question is not None
        known = question.name == "world.example"
        answer = (
            dns.answer(packet, question, ["192.0.2.80"]) if known else dns.decline(packet, question, dns.NO_SUCH_NAME)
        )
        resolver.sendto(answer, asker)


# ---- a machine's parts


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def replaced(path: str, text: str) -> Iterator[None]:
    """Another file in the place of one of the machine's."""
    file = Path(f"/run/replaced-{time.monotonic_ns()}")
    file.write_text(text)
    run("mount", "--bind", str(file), os.path.realpath(path))
    try:
        yield
    finally:
        run("umount", os.path.realpath(path))


def hidden_nft() -> Any:
    """A machine without nft(8): a file that cannot be run lies in its place."""
    return replaced("/usr/sbin/nft", "")


def stranger(pid: int) -> "subprocess.Popen[bytes]":
    """A process of somebody else's that is given this very pid."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        started = subprocess.Popen(["sleep", "7000"])
        if started.pid == pid:
            return started
        started.kill()
        started.wait()
    raise AssertionError(f"no process could be given the pid {pid}")


def reap(pid: int) -> None:
    """Waits until a process is gone. Orphans of this namespace are ours."""

    def gone() -> bool:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return not os.path.exists(f"/proc/{pid}")

    until(gone, f"{pid} is gone")


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sleepers() -> list[str]:
    """The commands that sleep for 6001 to 6004 seconds."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"sleep" and words[1].startswith(b"600"):
            found.append(words[1].decode())
    return found


SCENES: tuple[Callable[[Path], None], ...] = (
    doctor_lines, doctor_fix, rebooted, pids_reused, no_nft, exec_while_the_daemon_is_killed, names_outlive_the_daemon,
)  # fmt: skip
