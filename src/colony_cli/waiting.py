"""Follows a colony until it is where it should be: events, no busy asking; steps for people on the way.

The first Ctrl-C says that the work goes on without us, and how to stop it; the second one leaves.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from colony_core.errors import Broken, ColonyError, NotFound, TooSlow

from .context import Run
from .words import clean, duration

POLL_SECONDS = 5.0
"""The longest that one question for events is left open."""
SILENT_SECONDS = 0.3
"""So long nothing but steps is drawn."""
UNSETTLED = frozenset({"waiting", "starting", "restarting", "stopping"})

Verdict = str
"""What a look at a colony says: `reached`, `failed`, or nothing yet (empty)."""


class Goal(NamedTuple):
    """What is waited for: in words, and how a look (view, states it went through since) is judged."""

    words: str
    judge: Callable[[Mapping[str, Any], list[str]], Verdict]
    undo: str = ""
    """The command that stops the work, where there is one."""
    instead: type[ColonyError] = Broken
    """What it is that the colony failed instead."""


def settled(view: Mapping[str, Any]) -> bool:
    """Whether no service is on its way any more: one that waits for a failed or stopped one will wait for ever."""
    states = {service["name"]: service["state"] for service in view["services"]}
    ended = {name for name, state in states.items() if state in ("failed", "stopped")}
    blocked = [s["name"] for s in view["services"] if s["state"] == "waiting"]
    # Through chains too: every round takes out those that wait for what was taken out before.
    for _ in blocked:
        ended |= {s["name"] for s in view["services"] if s["name"] in blocked and ended.intersection(s["depends_on"])}
    moving = [name for name, state in states.items() if state in UNSETTLED and name not in ended]
    # "starting" alone: its services are still to be begun; "starting web, api" names those on their way.
    verb, _, named = view["reason"].partition(" ")
    about_to = verb == "starting" and not (named and ended.issuperset(named.split(", ")))
    return not moving and not about_to


def up(view: Mapping[str, Any], passed: list[str]) -> Verdict:
    """Running, and every service has come to rest. A failure counts if it is news."""
    if view["state"] == "running" and settled(view):
        return "reached"
    return "failed" if view["state"] == "failed" and passed else ""


def up_again(view: Mapping[str, Any], passed: list[str]) -> Verdict:
    """As `up`, after it was down."""
    return up(view, passed) if any(state != "running" for state in passed) else ""


def down(view: Mapping[str, Any], passed: list[str]) -> Verdict:
    """Stopped."""
    if view["state"] == "stopped":
        return "reached"
    return "failed" if view["state"] == "failed" and passed else ""


def applied(follower: "Follower", told: Mapping[str, Any]) -> Goal:
    """The end of an apply: every service that it restarts was seen to begin anew, and all have come to rest."""

    def judge(view: Mapping[str, Any], _passed: list[str]) -> Verdict:
        begun = follower.lost or follower.started.issuperset(told["restarted"])
        if view["state"] == "failed":
            return "failed"
        return "reached" if begun and view["state"] == "running" and settled(view) else ""

    return Goal("up again", judge)


class Follower:
    """Looks at one colony again whenever something happened to it."""

    def __init__(self, run: Run, colony_id: str, *, after: int) -> None:
        self.run = run
        self.colony_id = colony_id
        self.after = after
        self.passed: list[str] = []
        self.started: set[str] = set()
        self.lost = False
        self.began: dict[str, str] = {}
        self.took: dict[str, float] = {}

    def look(self) -> dict[str, Any]:
        """The colony now; raises NotFound once it is gone."""
        view: dict[str, Any] = self.run.ask(self.run.calls.colony(self.colony_id))
        return view

    def listen(self, seconds: float) -> None:
        """Returns when something happened to the colony, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._heard(left):
                return

    def catch_up(self) -> None:
        """Takes in what has happened already: a look may be newer than the last event that was heard."""
        self._heard(0.0)

    def _heard(self, seconds: float) -> bool:
        events = self.run.news(self.after, seconds=seconds)
        ours = [event for event in events if self._ours(event)]
        if events:
            self.after = events[-1]["seq"]
        for event in ours:
            self._take(event)
        return bool(ours)

    def _ours(self, event: Mapping[str, Any]) -> bool:
        return event["type"] == "missed" or event.get("colony_id") == self.colony_id

    def _take(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "colony_state":
            self.passed.append(event["state"])
        elif event["type"] == "missed":
            self.passed.append("")
            self.lost = True
        elif event["type"] == "service_state":
            self._measure(event)

    def _measure(self, event: Mapping[str, Any]) -> None:
        name = event["service"]
        if event["state"] == "starting":
            self.began[name] = event["at"]
            self.started.add(name)
        elif event["state"] == "ready" and name in self.began:
            from colony_core.clock import parse_rfc3339

            self.took[name] = parse_rfc3339(event["at"]) - parse_rfc3339(self.began.pop(name))


def follow(run: Run, goal: Goal, follower: Follower, *, steps: bool, restarts: bool = False) -> dict[str, Any]:
    """Waits until `goal` is judged, and returns the colony as it is then.

    Raises TooSlow at the run's deadline, and `colony-failed` when the colony failed instead. With `steps` people see them; `restarts`: of
    services only, the colony itself stays up.
    """
    began = time.monotonic()
    shown = Steps(run, follower, restarts=restarts) if steps else None
    with patient(run, goal):
        while True:
            view = follower.look()
            # Judged before it is drawn: drawing takes in events that may be newer than this look.
            verdict = goal.judge(view, follower.passed)
            if shown:
                shown.draw(view, waited=time.monotonic() - began)
            if verdict:
                break
            left = POLL_SECONDS
            if run.timeout is not None:
                left = min(left, began + run.timeout - time.monotonic())
                if left <= 0:
                    raise too_slow(run, view, goal)
            follower.listen(min(left, SILENT_SECONDS) if shown and not shown.waited else left)
    if shown:
        shown.finish()
    if verdict == "failed":
        name = view["name"]
        raise goal.instead("colony-failed", f"colony “{name}” failed: {view['reason']}", f"colony logs {name}")
    return view


def too_slow(run: Run, view: Mapping[str, Any], goal: Goal) -> TooSlow:
    """The deadline of this run passed."""
    name, state = view["name"], view["state"] + (f" ({view['reason']})" if view["reason"] else "")
    return TooSlow(
        "wait-too-long",
        f"colony “{name}” is {state}, not {goal.words}, after {duration(run.timeout or 0)}; it goes on",
        f"colony show {name}",
    )


class Steps:
    """Draws the steps of a start as they are done, each once, and what is being waited for."""

    def __init__(self, run: Run, follower: Follower, *, restarts: bool) -> None:
        self.output = run.output
        self.follower = follower
        self.restarts = restarts
        self.waited = False
        self._told: set[tuple[str, str]] = set()

    def draw(self, view: Mapping[str, Any], *, waited: float) -> None:
        """Draws what is new."""
        if view["state"] in ("provisioning", "building", "running", "failed"):
            self.follower.catch_up()
            # A colony shows the steps of its last start; they are news where it was seen to start.
            for step in view["steps"] if self._starts else ():
                self._tell("step", "done", step["name"], step["detail"], duration(step["seconds"]))
        services = view["services"] if view["state"] == "running" else ()
        rested = [s for s in services if s["state"] in ("ready", "finished", "failed") and self._is_news(s["name"])]
        if any(("service", service["name"]) not in self._told for service in rested):
            self.follower.catch_up()
        for service in rested:
            self._tell("service", service["state"], service["name"], *self._of_service(service))
        if waited >= SILENT_SECONDS:
            self.waited = True
            moving = [service["name"] for service in view["services"] if service["state"] in UNSETTLED]
            what = f"waiting for {', '.join(moving)}" if moving and view["state"] == "running" else view["state"]
            self.output.transient(f"  {self.output.mark('starting')} {clean(what)}  {duration(waited)}")

    def finish(self) -> None:
        """Takes the line away that says what is being waited for."""
        if self.waited:
            self.output.transient("")

    @property
    def _starts(self) -> bool:
        """Whether the colony itself was seen to start."""
        return not self.restarts and any(state != "running" for state in self.follower.passed)

    def _is_news(self, service: str) -> bool:
        return self._starts or self.follower.lost or service in self.follower.started

    def _tell(self, kind: str, state: str, name: str, detail: str, took: str) -> None:
        if (kind, name) not in self._told:
            self._told.add((kind, name))
            self.finish()
            self.output.step(state, name, detail, took)

    def _of_service(self, service: Mapping[str, Any]) -> tuple[str, str]:
        port = f":{service['port']} " if service["port"] else ""
        took = self.follower.took.get(service["name"])
        detail = f"{port}{service['state']}" + (f", {service['reason']}" if service["state"] == "failed" else "")
        return detail, duration(took) if took is not None else ""


@contextmanager
def patient(run: Run, goal: Goal) -> Iterator[None]:
    """The first Ctrl-C in this block tells that the work goes on; the second leaves."""
    import signal

    def told(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop = f"`{goal.undo}` stops it; " if goal.undo else ""
        run.output.urgent(f"\nit goes on without this command; {stop}Ctrl-C again leaves")

    before = signal.signal(signal.SIGINT, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def each(run: Run, names: tuple[str, ...], act: Callable[[str], dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Does `act` for every name, also after one failed; returns what came of it and the exit code of the first failure."""
    from .exits import exit_code

    done: list[dict[str, Any]] = []
    code = 0
    for name in names:
        try:
            done.append(act(name))
        except ColonyError as error:
            if len(names) == 1:
                raise
            run.output.error(error)
            code = code or exit_code(error)
    return done, code


def gone(error: NotFound) -> bool:
    """Whether an error says that the colony is not there."""
    return error.code == "colony-not-found"


def broken(view: Mapping[str, Any]) -> Broken | None:
    """The failed services of a running colony as an error, or None."""
    names = [service["name"] for service in view["services"] if service["state"] == "failed"]
    if not names:
        return None
    return Broken(
        "service-failed",
        f"colony “{view['name']}” runs, but {', '.join(names)} failed",
        f"colony logs {view['name']} {names[0]}",
    )
