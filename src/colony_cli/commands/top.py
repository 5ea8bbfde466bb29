"""What colonies use, live."""

import time
from collections.abc import Mapping
from typing import Any

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, TABLE, Duration, Nearest, command
from colony_cli.tables import Cell, Column
from colony_cli.words import clean, size
from colony_core import clock

SORTS = ("cpu", "memory", "received", "sent", "log", "name")
_COLUMNS = (
    Column("COLONY", whole=True),
    Column("STATE"),
    Column("CPU", right=True),
    Column("MEMORY", right=True),
    Column("PROCS", right=True),
    Column("RECEIVED", right=True),
    Column("SENT", right=True),
    Column("LOG", right=True),
)


@command(
    "top",
    takes=ASKS | TABLE,
    examples=("colony top", "colony top --sort memory", "colony top hello -n 1 --json"),
    see=("colony ls -w", "colony logs"),
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("-n", "--times", type=click.IntRange(1), metavar="N", help="only N times (default: until Ctrl-C)")
@click.option("--interval", type=Duration(), default="2s", metavar="T", help="over what time, and how often (2s)")
@click.option("--sort", type=Nearest(SORTS), default="cpu", metavar="S", help=f"by {', '.join(SORTS)}")
def top_command(run: Run, names: tuple[str, ...], *, times: int | None, interval: float, sort: str) -> None:
    """Show what colonies use, in rates over an interval: 100 % is one processor; traffic is what crosses their cables."""
    wanted = {run.named(name, lambda ref: run.ask(run.calls.colony(ref)))["id"] for name in names}
    clears = run.output.terminal and run.tells_steps and times != 1
    run.output.streams = True
    before = _sample(run, wanted)
    while times is None or times > 0:
        time.sleep(interval)
        now = _sample(run, wanted)
        rows = sorted((_rates(before.get(key), view) for key, view in now.items()), key=lambda row: row["colony"])
        if sort != "name":
            rows.sort(key=lambda row: row[_FIELDS[sort]], reverse=True)
        if clears:
            run.output.clear()
        _draw(run, rows)
        run.output.flush()
        before, times = now, None if times is None else times - 1


_FIELDS = {
    "cpu": "cpu_percent",
    "memory": "memory_bytes",
    "received": "received_per_second",
    "sent": "sent_per_second",
    "log": "log_per_second",
}


def _sample(run: Run, wanted: set[str]) -> dict[str, dict[str, Any]]:
    views = run.ask_all(run.calls.usage())
    return {view["colony_id"]: view for view in views if not wanted or view["colony_id"] in wanted}


def _rates(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """Never negative: counters begin anew with a colony's cell, and a process that ends takes its own along."""
    passed = clock.parse_rfc3339(now["at"]) - clock.parse_rfc3339(before["at"]) if before else 0.0

    def rate(field: str) -> float:
        if before is None or passed <= 0:
            return 0.0
        return max(0.0, float(now[field] - before[field])) / passed

    return {
        "colony": now["colony"],
        "colony_id": now["colony_id"],
        "state": now["state"],
        "at": now["at"],
        "cpu_percent": round(100 * rate("cpu_seconds"), 1),
        "memory_bytes": now["memory_bytes"],
        "processes": now["processes"],
        "received_per_second": round(rate("received_bytes")),
        "sent_per_second": round(rate("sent_bytes")),
        "log_per_second": round(rate("log_lines"), 1),
    }


def _draw(run: Run, rows: list[dict[str, Any]]) -> None:
    if run.output.json:
        for row in rows:
            run.output.item(row)
        return
    cells = [
        (
            Cell(clean(row["colony"])),
            run.output.state(row["state"]),
            Cell(f"{row['cpu_percent']:.1f} %"),
            Cell(size(row["memory_bytes"])),
            Cell(str(row["processes"])),
            Cell(f"{size(row['received_per_second'])}/s"),
            Cell(f"{size(row['sent_per_second'])}/s"),
            Cell(f"{row['log_per_second']:g}/s"),
        )
        for row in rows
    ]
    run.output.results(rows, lambda: run.output.table(_COLUMNS, cells), name="colony")
