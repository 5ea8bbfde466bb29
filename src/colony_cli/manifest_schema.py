"""The JSON schema of colony.toml, for editors. It knows keys and kinds of values; the daemon checks more when it reads one."""

from typing import Any

from colony_core.config import BACKENDS, DURATION, SIZE

Schema = dict[str, Any]


def _table(description: str, /, **properties: Schema) -> Schema:
    made: Schema = {"type": "object", "description": description, "additionalProperties": False}
    return made | {"properties": properties}


def _needs(key: str, table: Schema) -> Schema:
    return table | {"required": [key]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _any(*shapes: Schema) -> Schema:
    return {"anyOf": list(shapes)}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
AMOUNT: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
DURATION_SHAPE: Schema = {"type": ["string", "number"], "pattern": DURATION.pattern, "minimum": 0}
SIZE_SHAPE: Schema = {"type": ["string", "integer"], "pattern": SIZE.pattern, "minimum": 0}
COMMAND: Schema = _any(TEXT, _list(TEXT) | {"minItems": 1}) | {
    "description": "text, run by /bin/sh -c, or a list, run as it is"
}
POLICY = _one_of("always", "on-failure", "never")
SERVICE: Schema = _table(
    "a process that Colony keeps alive",
    name=TEXT,
    command=COMMAND,
    start_command=COMMAND,
    port={"type": "integer", "minimum": 1, "maximum": 65535},
    env=TEXTS | {"description": "variables of this service"},
    env_file=_any(TEXT, _list(TEXT)),
    cwd=TEXT | {"description": "where it runs, inside the colony's folder"},
    depends_on=_list(_any(TEXT, _needs("name", _table("a service that must be ready first", name=TEXT, restart=FLAG)))),
    restart=_any(
        POLICY,
        _table(
            "when it is started again",
            policy=POLICY, count=COUNT, window=DURATION_SHAPE, backoff=DURATION_SHAPE, backoff_most=DURATION_SHAPE,
        ),
    ),
    ready=_any(
        _one_of("port"),
        _table("what shows that it is ready", port={"const": True}, http=TEXT, log=TEXT, timeout=DURATION_SHAPE),
    ),
    grace=DURATION_SHAPE | {"description": "the time between SIGTERM and SIGKILL"},
    autostart=FLAG,
    preview=_table("how a preview asks it", host=_one_of("keep", "rewrite")),
)  # fmt: skip
_FULL_CHECK = _table(
    "a command that shows whether an agent's work is done", command=COMMAND, timeout=DURATION_SHAPE, required=FLAG
)
CHECK = _any(COMMAND, _needs("command", _FULL_CHECK))


def manifest_schema() -> Schema:
    """The schema of a whole colony.toml."""
    named = _needs("name", SERVICE)
    whole = _table(
        "what a colony runs",
        colony=_table(
            "the colony itself",
            name=TEXT, description=TEXT | {"maxLength": 500}, template=TEXT,
            environment=TEXTS | {"description": "UPPER_CASE: variables of all services; lower case: what the machine must have"},
        ),
        services=_any({"type": "object", "additionalProperties": SERVICE}, _list(named)),
        service=_list(named),
        setup=_table("commands that run first", commands=_list(COMMAND), timeout=DURATION_SHAPE),
        terminal=_table("what colony attach opens", command=COMMAND),
        network=_table("whom it may reach", links=_list(TEXT)),
        limits=_table(
            "what it may use",
            memory=SIZE_SHAPE, swap=SIZE_SHAPE, pids=COUNT, cpu={"type": "number", "minimum": 0.01, "maximum": 4096},
        ),
        agent=_table(
            "how its coding agent works",
            backend=_one_of(*BACKENDS), model=TEXT, max_turns=COUNT, allowed_tools=_list(TEXT),
            disallowed_tools=_list(TEXT), system_prompt=TEXT, append_system_prompt=TEXT,
            permissions=_one_of("ask", "edits", "all"), timeout=DURATION_SHAPE,
            budget=_table("what it may use in all", usd=AMOUNT, tokens=COUNT, turns=COUNT, minutes=AMOUNT),
        ),
        checks={"type": "object", "additionalProperties": CHECK, "maxProperties": 20},
    )  # fmt: skip
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "colony.toml of Colony"} | whole
