"""Every operation of the API has a call in the typed client, and every call a command; or there is a reason why not."""

import ast
import inspect
import re
from pathlib import Path

import attrs

import colony_cli
from colony_core import views
from colony_core.remote import Call, calls
from colony_web import openapi
from colony_web.app import ROUTES

CLI = Path(colony_cli.__file__).parent
STREAMING = {"follow_events", "run_command", "show_terminal"}
"""WebSockets: `colony_core.remote.streaming`."""
NO_COMMAND = {
    "approvals": "colony show has what is asked, in the agent's own view",
    "sessions": "colony ls shows each agent with its colony",
    "logout": "ends a browser's session, and a command has none",
    "follow_events": "a command asks for pages and waits, so that no event is lost between two daemons",
}
SAMPLES = {"verb": "start", "allow": True}


def every_call() -> dict[str, Call]:
    """Each function of `calls` that makes a Call, called with a word for whatever it must be given."""
    made: dict[str, Call] = {}
    for name, function in inspect.getmembers(calls, inspect.isfunction):
        if name.startswith("_") or function.__module__ != calls.__name__ or name == "next_call":
            continue
        needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
        positional = [SAMPLES.get(each.name, "x") for each in needed if each.kind is not each.KEYWORD_ONLY]
        named = {each.name: SAMPLES.get(each.name, "x") for each in needed if each.kind is each.KEYWORD_ONLY}
        answer = function(*positional, **named)
        if isinstance(answer, Call):
            made[name] = answer
    return made


def test_every_operation_has_a_call() -> None:
    asked = {(call.method, call.path) for call in every_call().values()}
    asked |= {("POST", calls.service("x", "x", verb).path) for verb in ("start", "stop", "restart")}
    asked.add(("POST", calls.instruct("x", "x", follow_up=True).path))
    missing = []
    for path, methods in openapi.document(ROUTES, version="0")["paths"].items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for method, operation in methods.items():
            known = any(verb == method.upper() and pattern.fullmatch(place) for verb, place in asked)
            if not known and operation["operationId"] not in STREAMING:
                missing.append(operation["operationId"])
    assert missing == []


def test_every_call_asks_for_an_operation_and_names_a_view() -> None:
    routes = [(route.method, re.compile(re.sub(r"<\w+>", "[^/]+", route.rule))) for route in ROUTES]
    for name, call in every_call().items():
        assert any(method == call.method and rule.fullmatch(call.path) for method, rule in routes), name
        assert call.reply is None or attrs.has(getattr(views, call.reply)), name


def test_every_call_is_used_by_the_command() -> None:
    used = {
        node.attr
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("calls")
    }
    assert every_call().keys() - used == NO_COMMAND.keys()
