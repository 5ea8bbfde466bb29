"""Killed with -9 in the middle of a storm: every event that a reader saw is there afterwards, under the same number."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

STORM = """
import sys, trio
from contextlib import aclosing
from functools import partial
from pathlib import Path
from colony_core.events import HouseEvent
from colony_core.journal import open_journal
from colony_core.store import open_store
from colony_core.supervision import ChildSpec, open_supervisor

async def blow(log, run):
    number = 0
    while True:
        for _ in range(200):
            number += 1
            log.bus.publish(HouseEvent(what="storm", message=f"{run}-{number}"))
        await trio.lowlevel.checkpoint()
        while log.last < log.bus.last_seq - 5000:  # the bus holds 10,000: a storm, but none that nobody can keep
            await trio.sleep(0.001)

async def main(folder, run, after):
    async with open_store(folder / "s.db") as store, open_journal(store, folder / "events.ceiling", keep=10**9) as log:
        async with open_supervisor([ChildSpec(id="journal", run=log.run)]), trio.open_nursery() as nursery:
            nursery.start_soon(blow, log, run)
            async with aclosing(log.listen(after)) as batches:
                async for batch in batches:
                    for entry in batch:
                        print(entry.text, flush=False)
                    sys.stdout.flush()

trio.run(partial(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""
RUNS = 4
SEEN_PER_RUN = 3000


@pytest.mark.slow
def test_what_a_reader_saw_is_there_after_kill_9_and_it_goes_on_exactly_behind_it(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    for run in range(RUNS):
        after = seen[-1]["seq"] if seen else 0
        command = [sys.executable, "-c", STORM, str(tmp_path), str(run), str(after)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            own = 0  # what earlier ones kept, and nobody saw, comes first
            while own < SEEN_PER_RUN + 777 * run:
                seen.append(json.loads(daemon.stdout.readline()))
                own += str(seen[-1]["message"]).startswith(f"{run}-")
            os.kill(daemon.pid, signal.SIGKILL)
            # What was told before the kill and still lies in the pipe was seen as well; a torn last line was not.
            seen += [json.loads(line) for line in daemon.stdout if line.endswith("\n")]
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert {event["type"] for event in seen} == {"house"}
    messages = [str(event["message"]) for event in seen]
    assert len(set(messages)) == len(messages)
    assert {message.partition("-")[0] for message in messages} == {str(run) for run in range(RUNS)}
    again = subprocess.Popen(
        [sys.executable, "-c", STORM, str(tmp_path), "last", "0"], stdout=subprocess.PIPE, text=True
    )
    with again:
        assert again.stdout is not None
        assert [json.loads(again.stdout.readline()) for _ in seen] == seen
        again.kill()


FULL = """
import sys, trio
from contextlib import aclosing
from functools import partial
from pathlib import Path
from colony_core.events import HouseEvent
from colony_core.journal import open_journal
from colony_core.store import open_store
from colony_core.supervision import ChildSpec, open_supervisor

async def main(folder, what):
    ballast = folder / "ballast"
    async with open_store(folder / "s.db") as store, open_journal(store, folder / "events.ceiling", keep=10**9) as log:
        async with open_supervisor([ChildSpec(id="journal", run=log.run)]), aclosing(log.listen(0)) as batches:
            if what == "fill":
                try:
                    with ballast.open("wb", buffering=0) as file:
                        while file.write(bytes(4096)) == 4096: pass
                except OSError:
                    pass
            elif what == "room":
                ballast.unlink()
            for number in range(40):
                log.bus.publish(HouseEvent(what=what, message=f"{number} " + "x" * 20_000))
            heard = 0
            while heard < log.bus.last_seq:
                for entry in await anext(batches):
                    print(entry.first, entry.seq, entry.kind)
                    heard = entry.seq
            if what == "fill":
                sys.stdout.flush()
                import os; os.kill(os.getpid(), 9)

trio.run(partial(main, Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.root
def test_on_a_full_disk_events_are_told_and_after_kill_9_their_numbers_stand_as_a_hole(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=3m none "$1"; for what in some fill room; do "$2" -c "$3" "$1" $what; echo; done'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    runs = [
        [(int(first), int(last), kind) for first, last, kind in map(str.split, run.splitlines())]
        for run in done.stdout.strip().split("\n\n")
    ]
    assert len(runs) == 3, done.stderr
    some, fill, room = runs
    assert [last for _, last, _ in some] == list(range(1, 41)), done.stderr
    assert [last for _, last, _ in fill][:80] == list(range(1, 81)), done.stderr
    # Whatever of the full run the disk had taken is told again; the rest is a hole; every new number is beyond all that were told.
    told = [number for first, last, _ in room for number in range(first, last + 1)]
    assert told == list(range(1, told[-1] + 1))
    [hole] = [(first, last) for first, last, kind in room if kind == "missed"]
    assert hole[1] >= 80
    assert [last for _, last, _ in room][-40:] == list(range(hole[1] + 1, hole[1] + 41))
