"""[colony.environment], in its normal form. Pure."""

import re
from functools import partial
from typing import Any

from colony_core.errors import did_you_mean

from . import checks as check
from .mistakes import Mistake, Table, unknown_key
from .requirements import PACKAGE_MANAGER, TOOLS, parse_manager, parse_versions


def normal_environment(table: Table, keys: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """`environment` and `requirements`: UPPER_CASE keys are variables of all services, lower-case ones what the machine must have."""
    variables: dict[str, str] = {}
    requirements: dict[str, str] = {}
    for key in keys:
        if re.fullmatch(r"[A-Z_][A-Z0-9_]*", key):
            variables[key] = table.take(key, partial(_variable, key), "")
        elif key in TOOLS or key == PACKAGE_MANAGER:
            requirements[key] = table.take(key, partial(_requirement, key), "")
        else:
            table.take(key, partial(_no_requirement, key))
    return {"environment": variables, "requirements": requirements}


def _variable(key: str, value: Any) -> str:
    if key == "PORT":
        raise Mistake("PORT is set from the port of each service", "write `port` in the service")
    check.variable_name(key)
    return check.a_text(value)


def _requirement(key: str, value: Any) -> str:
    if not isinstance(value, str):
        check.expected("a version as text", value, f'write it in quotes: {key} = ">=3.10" (3.10 without them is 3.1)')
    try:
        if key == PACKAGE_MANAGER:
            parse_manager(check.a_line(value))
        else:
            parse_versions(check.a_line(value))
    except ValueError as error:
        raise Mistake(str(error)) from None
    return value


def _no_requirement(key: str, _: Any) -> str:
    instead = f"variables of all services are UPPER_CASE; write {key} in the env of a service, or a requirement here"
    hint = {} if did_you_mean(key, [*TOOLS, PACKAGE_MANAGER]) else {key: instead}
    raise unknown_key(key, [*TOOLS, PACKAGE_MANAGER], hint)
