"""`make demo`: three colonies made from one example, on the same ports, each in a network namespace of its own.

Starts the daemon as a user would (`colony serve`), or finds the one that runs; spawns what is not there; shows it; then follows the logs.
Ctrl-C stops everything that it started. If the daemon dies under it, it says so, starts the next one, and shows that nothing else died.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from colony_core.errors import AlreadyExists, ColonyError, Unreachable
from colony_core.remote import Client, calls, discover

EXAMPLE = Path(__file__).resolve().parent / "hello-colony"
NAMES = ("agent-alpha", "agent-beta", "agent-gamma")
NAME_WIDTH = max(len(name) for name in NAMES)
COLONY = [sys.executable, "-m", "colony_cli"]
START_SECONDS = 60.0
SHOWN_LINES = 3


def main() -> int:
    """Runs the demo; 0 when Ctrl-C ended it, 1 when it could not begin."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    daemon: subprocess.Popen[bytes] | None = None
    try:
        daemon = ensure_daemon()
        spawn_missing()
        show(wait_ready())
        while True:
            follow(daemon)
            gone_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            print("\nThe daemon is gone; what it watched over goes on. Starting the next one.\n", flush=True)
            daemon = ensure_daemon()
            show(found := wait_ready())
            print(f"Found again: {survivors(found, gone_at)}.\n", flush=True)
    except KeyboardInterrupt:
        print("\nStopping …", flush=True)
        end(daemon)
        return 0
    except ColonyError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        if daemon is not None:
            end(daemon)
        return 1


def client() -> Client:
    """Talks to the daemon of this user."""
    return Client(discover())


def ensure_daemon() -> subprocess.Popen[bytes] | None:
    """The daemon, as a process of ours; None when one was running already."""
    with contextlib.suppress(Unreachable):
        client().send_raw(calls.system())
        print("A daemon is running already; this demo uses it.", flush=True)
        return None
    # A session of its own, so that Ctrl-C reaches this program alone, which then asks the daemon to end.
    daemon = subprocess.Popen([*COLONY, "serve", "--quiet"], start_new_session=True, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise ColonyError("no-daemon", "the daemon did not start; its reason stands above", "colony doctor")
        with contextlib.suppress(Unreachable):
            client().send_raw(calls.system())
            return daemon
        time.sleep(0.05)
    raise ColonyError("no-daemon", f"the daemon does not answer after {START_SECONDS:g} s", "colony doctor")


def spawn_missing() -> None:
    """Asks for each colony; those that exist are started if they are down, and made anew where their folder, of another clone, is gone."""
    for name in NAMES:
        try:
            client().send_raw(calls.spawn(name, str(EXAMPLE)))
        except AlreadyExists:
            if Path(client().send_raw(calls.colony(name))["source"]).exists():
                client().send_raw(calls.start(name))
            else:
                client().send_raw(calls.remove(name))
                client().send_raw(calls.spawn(name, str(EXAMPLE)))


def colonies() -> list[dict[str, Any]]:
    """The demo's colonies, as the API shows them."""
    return [client().send_raw(calls.colony(name)) for name in NAMES]


def wait_ready() -> list[dict[str, Any]]:
    """The colonies once all their services are ready; raises where one fails."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = colonies()
        if all(c["state"] == "running" and all(s["state"] == "ready" for s in c["services"]) for c in found):
            return found
        failed = [c for c in found if c["state"] == "failed" or any(s["state"] == "failed" for s in c["services"])]
        if failed or time.monotonic() > deadline:
            colony = (failed or found)[0]
            raise ColonyError(
                "demo-failed",
                f"{colony['name']} is {colony['state']}: {colony['reason']}",
                f"colony logs {colony['name']}",
            )
        time.sleep(0.02)


def survivors(found: list[dict[str, Any]], gone_at: float) -> str:
    """Whose processes are older than the moment when the daemon was gone."""
    newer = [f"{s['name']} of {c['name']}" for c in found for s in c["services"] if born_at(s["pid"]) > gone_at]
    return f"{', '.join(newer)} began anew, the others go on" if newer else "every service has kept its process"


def born_at(pid: int) -> float:
    """When a process was started, in seconds since the machine was. What follows one that is gone is yet to come."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return math.inf
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def show(found: list[dict[str, Any]]) -> None:
    """The table: state, address, how long the walls took, and where to look."""
    rows = [("COLONY", "STATE", "NAMESPACE", "ADDRESS", "NETNS", "VETH", "READY IN")]
    for colony in found:
        step = {s["name"]: f"{s['seconds'] * 1000:.2f} ms" for s in colony["steps"]}
        took = f"{colony['start_seconds']:.2f} s" if colony["start_seconds"] is not None else "found"
        state = f"● {colony['state']}"
        row = (
            colony["name"],
            state,
            colony["namespace"],
            colony["address"],
            step.get("namespace", "–"),
            step.get("veth", "–"),
            took,
        )
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for colony in found:
        services = "  ".join("{name} :{port} pid {pid}".format(**service) for service in colony["services"])
        print(f"  {colony['url']:<46} {services}")
    first = found[0]
    pid = first["services"][0]["pid"]
    print(
        f"\nAll three serve on the same ports. Try, in another terminal:\n"
        f"  curl {first['url']}\n"
        f"  kill -9 {pid}            # its owner brings {first['services'][0]['name']} back\n"
        f"  kill -9 {client().send_raw(calls.system())['pid']}            # the daemon; the services go on\n"
        f"  .venv/bin/colony ls\n"
        f"Ctrl-C stops everything.\n",
        flush=True,
    )


def follow(daemon: subprocess.Popen[bytes] | None) -> None:
    """Prints the logs of all three until the daemon is gone."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    for name in NAMES:
        threading.Thread(target=_read, args=(name, lines), daemon=True).start()
    for line in _until_none(lines):
        print(line, flush=True)
    if daemon is not None:
        daemon.wait()


def _read(name: str, lines: "SimpleQueue[str | None]") -> None:
    with contextlib.suppress(ColonyError):
        for event in client().stream_lines(calls.follow_logs(name, tail=SHOWN_LINES)):
            if event.event == "line":
                said = json.loads(event.data)
                lines.put(f"{name:<{NAME_WIDTH}} {said['service']:<5} {said['text']}")
    lines.put(None)


def _until_none(lines: "SimpleQueue[str | None]") -> Iterator[str]:
    while (line := lines.get()) is not None:
        yield line


def end(daemon: subprocess.Popen[bytes] | None) -> None:
    """Stops what this demo started: with its own daemon everything, with somebody else's only the colonies. Another Ctrl-C hurries it."""
    signal.signal(signal.SIGINT, lambda *_: daemon.send_signal(signal.SIGINT) if daemon is not None else None)
    with contextlib.suppress(ColonyError):
        if daemon is None:
            for name in NAMES:
                client().send_raw(calls.stop(name))
        else:
            client().send_raw(calls.shutdown(colonies=True))
    if daemon is not None:
        daemon.wait()


if __name__ == "__main__":
    sys.exit(main())
