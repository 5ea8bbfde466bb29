"""Waits for a colony's agent to be done with what it was asked."""

import time
from typing import Any

from colony_core.errors import TooSlow, WrongState

from .context import Run
from .waiting import POLL_SECONDS, Goal, patient
from .words import clean, duration

BUSY = frozenset({"working", "waiting"})


def how_to_answer(colony: str, kind: str | None) -> str:
    """The command that answers what an agent asks: a question with words, all else with yes or no."""
    return (
        f"colony answer {colony} TEXT"
        if kind == "question"
        else f"colony approve {colony}, or: colony deny {colony} -m WHY"
    )


def until_done(run: Run, name: str | None) -> dict[str, Any]:
    """The agent, once it is done; one that is already is at once.

    Raises WrongState where it failed, or was interrupted meanwhile, and TooSlow at the run's deadline.
    """
    after = run.last_event()
    view: dict[str, Any] = run.named(name, lambda ref: run.ask(run.calls.agent(ref)))
    colony, began, passed = view["colony"], time.monotonic(), {view["state"]}
    told: set[str] = set()
    with patient(run, Goal("done", lambda _view, _passed: "", f"colony interrupt {colony}")):
        while view["state"] != "done":
            if view["state"] == "failed" or (view["state"] == "idle" and passed & BUSY):
                what = f"the agent of “{colony}” is {view['state']}, not done: {view['reason']}"
                raise WrongState(view["code"] or "agent-not-done", what, f"colony why {colony}")
            for question in view["approvals"]:
                if question["id"] not in told:
                    told.add(question["id"])
                    hint = how_to_answer(colony, question["kind"])
                    run.output.note(f"it asks: {clean(question['summary'])}   {hint}", "amber")
            left = POLL_SECONDS
            if run.timeout is not None:
                left = min(left, began + run.timeout - time.monotonic())
                if left <= 0:
                    took = duration(run.timeout or 0)
                    what = f"the agent of “{colony}” is {view['state']}, not done, after {took}; it goes on"
                    raise TooSlow("wait-too-long", what, f"colony why {colony}")
            events = run.news(after, seconds=left, colonies=[colony], kinds=["agent_state"])
            after = events[-1]["seq"] if events else after
            view = run.ask(run.calls.agent(view["colony_id"]))
            passed |= {view["state"], *(event["state"] for event in events if event["type"] == "agent_state")}
    return view
