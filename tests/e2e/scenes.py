"""What users do by the README, played by real programs and seen from outside."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import machine
from documents import ROOT, Block, blocks, script
from world import Shown, checkout, environment, make_a_host, play_as, until

NAMES = ("agent-alpha", "agent-beta", "agent-gamma")
ROW = r"(?m)^%s +● running +ns-%s +10\.\d+\.\d+\.\d+ +(\d+\.\d+ ms|–) +(\d+\.\d+ ms|–) +(\d+\.\d\d s|found)$"
ENDED = (0, -signal.SIGINT)
"""make passes its own Ctrl-C on when its recipe has ended."""
REFUSED = (
    "unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c",
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"', "sh",
)  # fmt: skip
"""Runs a command where no user namespace can be made: the limit is that of a user namespace around it, not the machine's."""
NPM = "#!/bin/sh\nexec python3 -m http.server 3000\n"
"""Stands for the user's own program: the README's shop has a web part that npm starts."""
HEALTH = """
import http.server, os
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("", int(os.environ["PORT"])), Health).serve_forever()
"""


def demo(made: Path) -> None:
    """`make demo`: a table, three addresses on one port, a service that comes back, Ctrl-C, and nothing left."""
    env = demo_environment(made)
    shown = Shown(["make", "demo"], made, env)
    shown.until("Ctrl-C stops everything")
    for name in NAMES:
        row = re.search(ROW % (name, name), shown.text)
        assert row, shown.text
        assert "–" not in row.groups(), "the first time every step is measured"
        assert "found" not in row.groups()
    assert asked(made, env, "status")["mode"] == ("root" if os.geteuid() == 0 else "rootless")  # type: ignore[index]
    urls = [colony["url"] for colony in colonies(made, env)]
    assert [name in said_at(url) for name, url in zip(NAMES, urls, strict=True)] == [True] * 3
    before = pids(made, env)
    os.kill(before["web.agent-alpha"], signal.SIGKILL)
    until(
        lambda: (now := pids(made, env)) and now.get("web.agent-alpha", -1) not in (-1, before["web.agent-alpha"]),
        "web is back",
    )
    assert {key: pid for key, pid in pids(made, env).items() if key != "web.agent-alpha"} == {
        key: pid for key, pid in before.items() if key != "web.agent-alpha"
    }
    assert shown.ctrl_c() in ENDED, shown.text
    assert shown.text.endswith("Stopping …\n"), shown.text
    nothing_left(made)


def demo_whose_daemon_is_killed(made: Path) -> None:
    """kill -9 of the daemon, then of the demo with its daemon: what runs goes on, and is found again."""
    env = demo_environment(made)
    shown = Shown(["make", "demo"], made, env)
    shown.until("Ctrl-C stops everything")
    before = pids(made, env)
    os.kill(daemon(made, env), signal.SIGKILL)
    seen = len(shown.text)
    shown.until("Found again: every service has kept its process", after=seen)
    assert pids(made, env) == before
    pid = daemon(made, env)
    shown.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not machine.runs(pid), "the daemon is gone")
    again = Shown(["make", "demo"], made, env)
    again.until("Ctrl-C stops everything")
    assert pids(made, env) == before
    for name in NAMES:
        assert re.search(ROW % (name, name), again.text), again.text
    assert again.ctrl_c() in ENDED, again.text
    nothing_left(made)


def demo_beside_a_daemon(made: Path) -> None:
    """Where a daemon runs the demo uses it, and leaves it running; a colony of a clone that is gone is made anew."""
    env = demo_environment(made)
    served = Shown([".venv/bin/colony", "serve"], made, env)
    served.until("ready in")
    gone = shutil.copytree(made / "examples/hello-colony", made.parent / "gone")
    subprocess.run([".venv/bin/colony", "spawn", NAMES[0], "--from", gone], cwd=made, env=env, check=True)
    shutil.rmtree(gone)
    shown = Shown(["make", "demo"], made, env)
    shown.until("Ctrl-C stops everything")
    assert "A daemon is running already" in shown.text
    assert shown.ctrl_c() in ENDED, shown.text
    until(lambda: {c["state"] for c in colonies(made, env)} == {"stopped"}, "the demo's colonies are stopped")
    assert served.process.poll() is None
    assert served.ctrl_c() == 0, served.text
    nothing_left(made)


def demo_where_it_is_refused(made: Path) -> None:
    """An ordinary user who can make no user namespace is told why and what to do; nothing is pretended."""
    env = demo_environment(made)
    for command, code in ((["make", "demo"], 2), ([".venv/bin/colony", "serve"], 1)):
        done = subprocess.run(
            [*REFUSED, *command], cwd=made, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (code, ""), done
        assert (
            "rootless: this machine lets you make no user namespace: none are left (user.max_user_namespaces)"
            in done.stderr
        )
        assert "hint: sudo sysctl -w user.max_user_namespaces=10000\n" in done.stderr
        nothing_left(made)


def readme(made: Path) -> None:
    """Every block of the README, in order, on the standard ports."""
    env = environment(made.parent / "home")
    told = {}
    for block in blocks(ROOT / "README.md"):
        told.setdefault(block.heading, []).append(block)
    shown = Shown(["make", "demo"], made, env)
    shown.until("Ctrl-C stops everything")
    seen = len(shown.text)
    said = typed(told["What to try while the demo runs"][0], made, env)
    assert "eth0" in said
    assert [f"This note lives in {name}" in said for name in ("agent-beta", "agent-gamma")] == [True, True], said
    shown.until("Found again: ", after=seen)
    assert shown.ctrl_c() in ENDED, shown.text
    manifest, *shop = told["A colony of your own"]
    folder = made.parent / "home/shop"
    folder.mkdir()
    (folder / "colony.toml").write_text(manifest.text)
    (folder / "api.py").write_text(HEALTH)
    tools = made.parent / "tools"
    tools.mkdir()
    (tools / "npm").write_text(NPM)
    (tools / "npm").chmod(0o755)
    env["PATH"] = f"{tools}:{env['PATH']}"
    said = "".join(typed(block, made, env) for block in shop)
    assert "shop is running   http://shop.colony.localhost:8088" in said
    said = "".join(typed(block, made, env) for block in told["The API"])
    assert said.count('"name":"shop"') == 2, said
    [example] = told["In your own program"]
    done = subprocess.run(
        [".venv/bin/python", "-c", example.text], cwd=made, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ---- what the scenes have in common


def typed(block: Block, made: Path, env: dict[str, str]) -> str:
    """What is shown when a block is typed into a shell."""
    done = subprocess.run(
        ["bash", "-c", script(block)], cwd=made, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"{block.heading}: {block.text}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def demo_environment(made: Path) -> dict[str, str]:
    """Folders and ports of the scene's own, so that it can be played on a host that others use."""
    return environment(
        made.parent / "home",
        COLONY_STATE=str(made.parent / "state"),
        COLONY_SERVER__PORT="0",
        COLONY_ROUTING__PORT="0",
        COLONY_ISOLATION__BASE="10.214.0.0/16",
    )


def asked(made: Path, env: dict[str, str], *words: str) -> object:
    """What a command says in JSON; None while no daemon answers."""
    done = subprocess.run(
        [".venv/bin/colony", *words, "--json"], cwd=made, env=env, capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def colonies(made: Path, env: dict[str, str]) -> list[dict[str, object]]:
    return asked(made, env, "ls", "-a") or []  # type: ignore[return-value]


def daemon(made: Path, env: dict[str, str]) -> int:
    return until(lambda: asked(made, env, "status"), "the daemon answers")["pid"]  # type: ignore[index]


def pids(made: Path, env: dict[str, str]) -> dict[str, int]:
    """The process of every service that is ready."""
    return {
        f"{s['name']}.{c['name']}": s["pid"]
        for c in colonies(made, env)
        for s in c["services"]
        if s["state"] == "ready"
    }  # type: ignore[attr-defined]


def said_at(url: str) -> str:
    """What a preview answers, asked by its address alone."""
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": f"{host}:{port}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def nothing_left(made: Path) -> None:
    """No process of the house, and in system mode no namespace, link or table."""
    state = f"COLONY_STATE={made.parent / 'state'}".encode()
    until(lambda: not running_with(state), "no process")
    if os.geteuid() == 0:
        until(lambda: not any("vc-" in line or "veth-" in line for line in said("ip", "link").splitlines()), "no link")
        assert said("ip", "netns") == ""
        assert said("nft", "list", "tables") == ""


def running_with(variable: bytes) -> list[str]:
    """Processes that have a variable, but for this one's children that end by themselves."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


SCENES: dict[str, Callable[[Path], None]] = {
    scene.__name__: scene
    for scene in (
        demo,
        demo_whose_daemon_is_killed,
        demo_beside_a_daemon,
        demo_where_it_is_refused,
        readme,
        *machine.SCENES,
    )
}

if __name__ == "__main__":
    if os.getpid() == 1:
        make_a_host()
    name, *user = sys.argv[1:]
    if user:
        play_as(int(user[0]), name)
    else:
        with checkout() as folder:
            SCENES[name](folder)
