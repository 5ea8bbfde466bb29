"""Waits for a colony's agent to be done with what it was asked, and says how it is answered."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from colony_core.errors import Invalid, TooSlow, WrongState

from .context import Run
from .waiting import POLL_SECONDS, Goal, patient
from .words import clean, duration

BUSY = frozenset({"working", "waiting"})


def how_to_answer(colony: str, kind: str | None, given: Mapping[str, Any]) -> str:
    """The command that answers what an agent asks: a question with words, several with words for each, all else with yes or no."""
    if kind == "question" and len(names := question_names(given)) > 1:
        return f"colony answer {colony} " + " ".join(f"--to {number}=TEXT" for number in range(1, len(names) + 1))
    return (
        f"colony answer {colony} TEXT"
        if kind == "question"
        else f"colony approve {colony}, or: colony deny {colony} -m WHY"
    )


def question_names(given: Mapping[str, Any]) -> list[str]:
    """What the questions are called that an agent asks at once: by their headers, of which there may be none."""
    questions = given.get("questions")
    found = questions if isinstance(questions, list) else []
    return [str(each.get("header") or "").strip() for each in found if isinstance(each, dict)]


def answers_in_lines(given: Mapping[str, Any], answers: Sequence[str]) -> str:
    """`NAME=TEXT` for each question as the message that answers each by itself. Raises Invalid for a name that is none, or is missing."""
    names = question_names(given)
    numbers = {str(number): number for number in range(1, len(names) + 1)}
    known = {name.casefold(): number for number, name in reversed(list(enumerate(names, 1))) if name} | numbers
    found: dict[int, str] = {}
    for answer in answers:
        name, equals, text = answer.partition("=")
        number = known.get(name.strip().casefold())
        if not equals or number is None:
            hint = f"it asks {', '.join(f'{at} {clean(each)}' for at, each in enumerate(names, 1)) or 'one thing: leave --to away'}"
            raise Invalid("no-such-question", f"nothing is asked by the name {name!r}", hint)
        found[number] = " ".join(text.split())
    if missing := [str(number) for number in numbers.values() if number not in found]:
        raise Invalid("question-left", f"question {', '.join(missing)} has no answer", f"--to {missing[0]}=TEXT")
    return "\n".join(f"{number}: {text}" for number, text in sorted(found.items()))


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
                    hint = how_to_answer(colony, question["kind"], question["input"])
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
