"""What the services of a colony say."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import click

from colony_cli.context import Run
from colony_cli.forms import Moment, colony_argument, command
from colony_cli.output import Output
from colony_cli.words import clean, clean_log
from colony_core import clock
from colony_core.errors import Invalid, NotFound, did_you_mean

PAGE_LINES = 5000
MOST_TAIL = 10_000
_COLOURS = ("blue", "green", "amber")


@command(
    "logs",
    takes=frozenset({"server", "json"}),
    examples=("colony logs hello -f", "colony logs hello web --tail 20 -t", "colony logs hello --since 5m --json"),
    see=("colony events",),
)
@colony_argument
@click.argument("services", metavar="[SERVICE...]", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="go on as lines are written")
@click.option("-n", "--tail", type=click.IntRange(0, MOST_TAIL), metavar="N", help="only the last N lines")
@click.option("--since", type=Moment(), metavar="T", help="lines from T on: RFC 3339, or 5m for five minutes ago")
@click.option("--until", type=Moment(), metavar="T", help="lines up to T")
@click.option("-t", "--timestamps", is_flag=True, help="the moment before each line")
@click.option("--raw", is_flag=True, help="the text as it was written, with every escape sequence")
def logs_command(
    run: Run, name: str | None, services: tuple[str, ...], *, follow: bool, tail: int | None,
    since: float | None, until: float | None, timestamps: bool, raw: bool,
) -> None:  # fmt: skip
    """Print a colony's log: all of it, the last lines, or as it grows. Escape sequences are made visible."""
    if follow and until is not None:
        raise Invalid("wrong-use", "--until has an end and -f has none", "give one of them")
    view = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
    _check(view, services)
    show = _shower(run.output, view, services, timestamps=timestamps, raw=raw)
    last = 0
    for line in _pages(run, view["id"], services, tail=tail, since=since, until=until):
        show(line)
        last = line.get("seq", last)
    run.output.flush()
    if follow:
        _follow(run, view["id"], services, after=last or None, show=show)


def _check(view: Mapping[str, Any], services: tuple[str, ...]) -> None:
    known = [service["name"] for service in view["services"]] + ["colony", "setup"]
    for service in services:
        if service not in known:
            nearest = did_you_mean(service, known)
            hint = f"did you mean {nearest}?" if nearest else f"colony service ls {view['name']}"
            raise NotFound("service-not-found", f"colony “{view['name']}” has no service “{service}”", hint)


def _pages(
    run: Run, ref: str, services: tuple[str, ...], *, tail: int | None, since: float | None, until: float | None
) -> Iterator[dict[str, Any]]:
    """The lines that are kept: the last ones at once, all of them page by page."""
    asked = partial(run.calls.logs, ref, services=services, since=_time(since), until=_time(until))
    if tail == 0:
        return
    if tail is not None:
        yield from run.ask(asked(tail=tail))["lines"]
        return
    after, newest = 0, None
    while newest is None or after < newest:
        page = run.ask(asked(after=after, limit=PAGE_LINES))
        if page["missed"] and after:
            yield {"missed": page["missed"]}
        yield from page["lines"]
        if not page["lines"]:
            return
        after = page["lines"][-1]["seq"]
        newest = page["last"] if newest is None else newest  # what is written meanwhile is not waited for


def _time(moment: float | None) -> str | None:
    return None if moment is None else clock.rfc3339(moment)


def _follow(
    run: Run, ref: str, services: tuple[str, ...], *, after: int | None, show: Callable[[Mapping[str, Any]], None]
) -> None:
    """Goes on behind `after`, across restarts of the daemon."""
    call = run.calls.follow_logs(ref, after=after, services=services)
    for event in run.client(patience=None).stream_lines(call, reconnect=True, last_id=str(after or "")):
        value = json.loads(event.data)
        if event.event == "missed":
            show({"missed": value["last"] - value["first"] + 1, **value})
        elif event.event == "line":
            show(value)
        run.output.flush()


def _shower(
    output: Output, view: Mapping[str, Any], services: tuple[str, ...], *, timestamps: bool, raw: bool
) -> Callable[[Mapping[str, Any]], None]:
    names = [service["name"] for service in view["services"]]
    size = max((len(name) for name in (*names, "colony")), default=0) if output.terminal else 0
    alone = len(services) == 1

    def show(line: Mapping[str, Any]) -> None:
        if output.json:
            output.item(line)
            return
        if "missed" in line:
            output.note(f"… {line['missed']} lines are no longer kept", "grey")
            return
        service = clean(line["service"])
        text = line["text"] if raw else clean_log(line["text"], colour=output.colour)
        if line["stream"] == "note":
            text = output.paint(text, "grey")
        colour = _COLOURS[names.index(service) % len(_COLOURS)] if service in names else "grey"
        head = "" if alone else output.paint(service.ljust(size), colour) + " | "
        at = output.paint(clean(line["at"]), "grey") + " " if timestamps else ""
        output.line(f"{at}{head}{text}")

    return show
