"""The public face is a promise: names, parameters, defaults and ancestors stay as they are."""

import enum
import inspect
from math import inf

import attrs
import pytest
import trio

import colony_core.supervision as room

ENUMS = {
    "Restart": ["PERMANENT", "TRANSIENT", "TEMPORARY"],
    "Strategy": ["ONE_FOR_ONE", "ONE_FOR_ALL", "REST_FOR_ONE"],
    "AutoShutdown": ["NEVER", "ANY_SIGNIFICANT", "ALL_SIGNIFICANT"],
    "Overflow": ["BLOCK", "REJECT", "DROP_OLDEST", "DROP_NEWEST"],
    "State": ["STARTING", "UP", "STOPPING", "RESTARTING", "DOWN"],
}

CALLS = {
    "Status.started": "(self, value=None)",
    "Status.cleanup": "(self)",
    "Child.wait_up": "async (self)",
    "Child.wait_exit": "async (self)",
    "Child.linked": "(self)",
    "Supervisor.start_child": "async (self, spec)",
    "Supervisor.stop_child": "async (self, id)",
    "Supervisor.restart_child": "async (self, id)",
    "Supervisor.delete_child": "async (self, id)",
    "Supervisor.children": "(self)",
    "Supervisor.stop": "(self)",
    "Supervisor.wait": "async (self)",
    "DynamicSupervisor.spawn": "async (self, *args)",
    "DynamicSupervisor.run": "async (self, fn, *args)",
    "DynamicSupervisor.start_child": "async (self, spec)",
    "DynamicSupervisor.stop_child": "async (self, id)",
    "DynamicSupervisor.restart_child": "async (self, id)",
    "DynamicSupervisor.delete_child": "async (self, id)",
    "Ref.call": "async (self, msg, *, timeout=5.0)",
    "Ref.cast": "(self, msg)",
    "Ref.send": "async (self, msg)",
}

KEYWORDS = {
    "open_supervisor": {
        "specs": (), "name": "", "strategy": room.Strategy.ONE_FOR_ONE, "limit": room.Limit(3, 5.0),
        "auto_shutdown": room.AutoShutdown.NEVER, "on_event": None,
    },
    "supervisor_spec": {"grace": inf, "strategy": room.Strategy.ONE_FOR_ONE, "limit": room.Limit(3, 5.0)},
    "open_dynamic_supervisor": {"restart": room.Restart.TRANSIENT, "most": inf, "limit": room.Limit(3, 5.0)},
    "actor_spec": {"capacity": inf, "overflow": room.Overflow.BLOCK},
}  # fmt: skip

FIELDS = {
    "Limit": {"count": 3, "period": 5.0},
    "Backoff": {"first": 0.1, "factor": 2.0, "most": 30.0, "jitter": 0.1, "reset": 60.0},
    "ChildSpec": {
        "id": attrs.NOTHING, "run": attrs.NOTHING, "args": (), "restart": room.Restart.PERMANENT, "grace": 5.0,
        "significant": False, "backoff": None,
    },
    "Exit": {"kind": attrs.NOTHING, "error": attrs.NOTHING, "at": attrs.NOTHING, "incarnation": attrs.NOTHING},
}  # fmt: skip

ERRORS = {
    "PlannedStop": Exception, "Ignore": Exception, "ChildStartError": Exception, "RestartLimit": ExceptionGroup,
    "ActorDied": Exception, "NotRunning": Exception, "MailboxFull": Exception, "TooSlow": Exception, "SelfCall": Exception,
    "NoSuchChild": Exception, "AlreadyStarted": Exception, "AlreadyPresent": Exception, "ChildRunning": Exception,
    "ChildRestarting": Exception, "TooManyChildren": Exception, "NotForDynamic": Exception,
}  # fmt: skip


def shape(function):
    """The parameters with their defaults, without types."""
    words = []
    for parameter in inspect.signature(function).parameters.values():
        words.append(str(parameter.replace(annotation=inspect.Parameter.empty)).replace(" ", ""))
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.insert(-1, "*")
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    return f"{prefix}({', '.join(words)})"


@pytest.mark.parametrize("name", ENUMS)
def test_choices_are_numbered_words(name):
    kind = getattr(room, name)
    assert issubclass(kind, enum.Enum)
    assert {member.name: member.value for member in kind} == {word: at for at, word in enumerate(ENUMS[name], 1)}


@pytest.mark.parametrize("name", CALLS)
def test_calls_have_the_promised_parameters(name):
    owner, method = name.split(".")
    assert shape(getattr(getattr(room, owner), method)) == CALLS[name]


@pytest.mark.parametrize("name", KEYWORDS)
def test_openers_and_specs_have_the_promised_defaults(name):
    parameters = inspect.signature(getattr(room, name)).parameters
    for word, default in KEYWORDS[name].items():
        assert parameters[word].default == default, word
        assert word == "specs" or parameters[word].kind is inspect.Parameter.KEYWORD_ONLY, word


@pytest.mark.parametrize("name", FIELDS)
def test_values_are_frozen_and_have_the_promised_fields_in_order(name):
    kind = getattr(room, name)
    fields = {field.name: field.default for field in attrs.fields(kind)}
    assert dict(list(fields.items())[: len(FIELDS[name])]) == FIELDS[name]
    assert list(fields)[: len(FIELDS[name])] == list(FIELDS[name])
    assert "__attrs_attrs__" in vars(kind)
    assert kind.__setattr__ is not object.__setattr__


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_the_promised_ancestors(name):
    assert issubclass(getattr(room, name), ERRORS[name])


def test_the_rest_of_the_face():
    assert trio.TaskStatus in room.Status.__mro__
    assert isinstance(room.Status.stopping, property)
    assert issubclass(room.DynamicSupervisor, room.Supervisor)
    assert room.Ask[int]
    assert room.ChildStartError("x").child == "x"
    assert {"id", "spec", "state", "incarnation", "value", "last_exit"} <= set(room.Child.__slots__)
    assert room.ID.__module__.startswith("collections")


async def test_requests_take_the_id_by_name(autojump_clock, stage):
    async with room.open_supervisor([stage.spec("a")], on_event=stage.on_event) as supervisor:
        assert (await supervisor.stop_child(id="a")).kind is room.ExitKind.SHUTDOWN
        assert (await supervisor.restart_child(id="a")).state is room.State.UP
        await supervisor.stop_child(id="a")
        await supervisor.delete_child(id="a")
        assert supervisor.children() == ()


async def test_an_actors_spec_takes_every_field_of_a_child(autojump_clock):
    class Idle(room.Actor):
        pass

    spec = room.actor_spec(
        "a", Idle, capacity=3, overflow=room.Overflow.REJECT, restart=room.Restart.TRANSIENT, grace=1
    )
    assert (spec.id, spec.restart, spec.grace) == ("a", room.Restart.TRANSIENT, 1)
    async with room.open_supervisor([spec]) as supervisor:
        assert isinstance(supervisor.children()[0].value, room.Ref)
