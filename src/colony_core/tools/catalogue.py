"""The tools: what they are called, what they take, and what an agent reads about them. Pure."""

from collections.abc import Mapping
from typing import Any

import attrs

from colony_core.errors import Invalid, NotAllowed, did_you_mean

MOST_LINES = 500
MOST_TEXT = 16 * 1024
SERVICE = {"type": "string", "description": "the service's name, as `services` tells it", "maxLength": 64}
OTHERS = ("colony", "colony_id", "agent")
"""Arguments by which somebody could try to speak for another colony; the only one that they may name is their own."""
ABOUT = (
    "You work in a colony: a network and a folder of your own. Its services listen on localhost at the ports that `services` tells; "
    "start, stop and restart them with these tools rather than by hand, so that they are watched over. After editing colony.toml, call "
    "`apply`. Tell people how far you are with `report`; use `ask` and `request_approval` only for what you cannot settle yourself: a "
    "person has to answer."
)


@attrs.frozen(kw_only=True)
class Tool:
    """One tool. `changes`: each call is written into the audit log; `paced`: an agent may call it only so often."""

    name: str
    description: str
    properties: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    required: tuple[str, ...] = ()
    changes: bool = False
    paced: bool = False

    def described(self) -> dict[str, Any]:
        """As `tools/list` tells it."""
        schema = {
            "type": "object",
            "properties": {name: dict(each) for name, each in self.properties.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }
        hints = {"readOnlyHint": not (self.changes or self.paced), "openWorldHint": False}
        return {"name": self.name, "description": self.description, "inputSchema": schema, "annotations": hints}

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, as they shall be. Raises Invalid (`invalid-argument`) naming what is wrong."""
        for name in given:
            if name not in self.properties:
                nearest = did_you_mean(name, tuple(self.properties))
                hint = f"did you mean {nearest}?" if nearest else f"it takes: {', '.join(self.properties) or 'nothing'}"
                raise Invalid("invalid-argument", f"{self.name} takes no {name[:40]!r}", hint)
        for name in self.required:
            if name not in given:
                raise Invalid(
                    "invalid-argument", f"{self.name} needs {name!r}", str(self.properties[name]["description"])
                )
        for name, value in given.items():
            _check(name, value, self.properties[name])
        return dict(given)


def _check(name: str, value: Any, schema: Mapping[str, Any]) -> None:
    if schema["type"] == "integer":
        low, high = schema["minimum"], schema["maximum"]
        if type(value) is not int or not low <= value <= high:
            raise Invalid("invalid-argument", f"{name}: expected a whole number from {low} to {high}", "")
        return
    longest = schema["maxLength"]
    if not isinstance(value, str) or not value.strip() or len(value) > longest or "\0" in value:
        raise Invalid("invalid-argument", f"{name}: expected text of 1 to {longest} characters", "")
    if "enum" in schema and value not in schema["enum"]:
        raise Invalid("invalid-argument", f"{name}: {value[:40]!r} is none of {', '.join(schema['enum'])}", "")


def without_others(given: Mapping[str, Any], *, own: tuple[str, ...]) -> dict[str, Any]:
    """The arguments without those that name the caller's own colony. Raises NotAllowed (`not-your-colony`) for any other."""
    for name in OTHERS:
        if name in given and given[name] not in own:
            what = f"you are the agent of {own[0]}, and speak for no other colony"
            raise NotAllowed("not-your-colony", what, f"leave {name!r} out", details={"named": str(given[name])[:80]})
    return {name: value for name, value in given.items() if name not in OTHERS}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, "maxLength": MOST_TEXT, **more}


def _on_a_service(verb: str, description: str) -> Tool:
    return Tool(
        name=f"{verb}_service",
        description=description,
        properties={"service": SERVICE},
        required=("service",),
        changes=True,
        paced=True,
    )


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="services",
            description="The services of your colony: state, reason, port on localhost, preview address, restarts and how each last ended. "
            "Look here first when something does not answer.",
        ),
        Tool(
            name="logs",
            description="What your services printed: the newest lines, or those behind a number. Each line begins with its number, its "
            "service and its stream.",
            properties={
                "service": {**SERVICE, "description": "only this service's lines"},
                "tail": {
                    "type": "integer",
                    "description": "how many of the newest lines (default 50)",
                    "minimum": 1,
                    "maximum": MOST_LINES,
                },
                "after": {
                    "type": "integer",
                    "description": "lines behind this number instead of the newest",
                    "minimum": 0,
                    "maximum": 2**53,
                },
            },
        ),
        _on_a_service(
            "start", "Start a service of your colony; answers when it is ready or has failed, with its last lines then."
        ),
        _on_a_service(
            "stop",
            "Stop a service of your colony; answers when its process is gone. It stays stopped until it is started.",
        ),
        _on_a_service(
            "restart",
            "Restart a service of your colony, as after changing its code; answers when it is ready or has failed.",
        ),
        Tool(
            name="apply",
            description="Read your colony.toml again and take over what changed in it: services, their variables, setup. Tells the "
            "changes, or every mistake with its line. What concerns walls, budgets, permissions and checks is for a person to apply.",
            changes=True,
            paced=True,
        ),
        Tool(
            name="siblings",
            description="The other colonies of your owner: what each one's agent is at, in a line, and where its preview is. Know what "
            "others are doing before you change what is shared.",
        ),
        Tool(
            name="report",
            description="Tell people how far you are, in a sentence or two. It stands in your feed; nobody needs to answer.",
            properties={
                "text": _text("what there is to tell"),
                "status": _text("progress (default), blocked, or done", enum=["progress", "blocked", "done"]),
            },
            required=("text",),
            paced=True,
        ),
        Tool(
            name="ask",
            description="Ask a person a question, and wait for the answer, however long that takes. For decisions that are not yours.",
            properties={"question": _text("one question, with what one must know to answer it")},
            required=("question",),
            paced=True,
        ),
        Tool(
            name="request_approval",
            description="Ask a person whether you may do something that cannot be undone or that others would notice, and wait for the "
            "answer. Do it only where the answer is `approved`.",
            properties={
                "action": _text("what you want to do, exactly"),
                "why": _text("why it is needed"),
            },
            required=("action", "why"),
            paced=True,
        ),
    )
}
