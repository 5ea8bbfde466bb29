"""An error crosses the wire as what it was."""

import json
from typing import Any

import pytest

from colony_core import errors
from colony_core.errors import ColonyError
from colony_core.remote.problems import error_from_problem
from colony_web.problems import problem_of

KINDS = [kind for kind in ColonyError.__subclasses__() if kind.__module__ == errors.__name__]


class OfARoom(errors.Broken):
    """A room's own kind of an error."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("code", ["name-taken", "token-required", "head-too-large"])
def test_every_kind_of_error_is_rebuilt_as_itself(kind: type[ColonyError], code: str) -> None:
    problem = problem_of(kind(code, "it is so", "do that", details={"a": 1}), request_id="req_1")
    told = json.loads(json.dumps(problem.document))
    error = error_from_problem(problem.status, told)
    assert type(error) is kind
    assert (error.code, error.message, error.hint, error.details["a"]) == (code, "it is so", "do that", 1)


@pytest.mark.parametrize(("kind", "expected"), [(OfARoom, "Broken"), (ColonyError, "ColonyError")])
def test_a_kind_of_a_room_is_told_as_the_public_one(kind: type[ColonyError], expected: str) -> None:
    assert problem_of(kind("x", "y")).document["kind"] == expected


async def test_the_kind_stands_in_every_problem_document(client: Any) -> None:
    answer = await (await client.get("/api/colonies/ghost")).get_json()
    assert (answer["code"], answer["kind"]) == ("colony-not-found", "NotFound")
    document = await (await client.get("/openapi.json")).get_json()
    assert set(answer) <= set(document["components"]["schemas"]["Problem"]["properties"])
