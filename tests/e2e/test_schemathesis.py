"""The API against its own description: what schemathesis makes of the OpenAPI document is sent to a real daemon, and every answer judged.

Every check of schemathesis is on. What differs from its defaults stands in `CONFIG`, with its reason.
"""

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection
from urllib3 import HTTPResponse

from colony_core import __version__
from colony_core.remote import calls
from colony_core.views import ExecRequest
from colony_web import openapi
from colony_web.app import ROUTES
from colony_web.routes import IDEMPOTENCY_KEY

from .driver import Daemon

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

MANIFEST = """
[services.talk]
command = "echo hello; exec sleep 6000"
[terminal]
command = ["cat"]
"""
EXAMPLES = 15
SEQUENCES, STEPS = 10, 6
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
CONFIG: dict[str, Any] = {
    "seed": 4,
    "cache": {"enabled": False},
    "operations": [
        {
            # Which templates there are is this machine's business, not the description's.
            "include-operation-id": ["create_colony"],
            "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "201", "404", "409", "422"]}},
        },
        {
            # Which repositories there are, neither.
            "include-operation-id": ["add_project"],
            "checks": {"positive_data_acceptance": {"expected-statuses": ["202", "404", "409", "422"]}},
        },
        {
            # A plain GET of what only speaks WebSocket is told to upgrade, whether its parameters are right or wrong.
            "include-operation-id": ["follow_events", "run_command", "show_terminal"],
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["426"]},
                "negative_data_rejection": {"expected-statuses": ["401", "404", "405", "426"]},
            },
        },
    ],
}


@attrs.frozen
class World:
    """A daemon with colonies, and how to ask it."""

    daemon: Daemon
    url: str
    token: str
    viewer: str
    session: requests.Session


class Transport(HTTPAdapter):
    """Reads of a stream of events no more than its beginning: it would not end by itself.

    And whoever has not the right token comes from an address of its own, since after ten wrong ones an address is told 429.
    """

    def __init__(self, token: str) -> None:
        super().__init__()
        self._right = f"Bearer {token}"
        self._strangers = 0

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if request.headers.get("Authorization") == self._right:
            return self._send(super(), request, *args, **kwargs)
        self._strangers += 1
        high, low = divmod(self._strangers, 250)
        stranger = HTTPAdapter()
        stranger.init_poolmanager(1, 1, source_address=(f"127.1.{high}.{low + 1}", 0))
        try:
            return self._send(stranger, request, *args, **kwargs)
        finally:
            stranger.close()

    @staticmethod
    def _send(adapter: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        answer = adapter.send(request, *args, **kwargs | {"stream": True})
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            begin, raw = answer.raw.readline(), answer.raw
            answer.raw = HTTPResponse(
                io.BytesIO(begin), headers=raw.headers, status=raw.status, version=raw.version, preload_content=False
            )
            raw.close()
        else:
            assert answer.content is not None
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two colonies and a terminal."""
    with (
        Daemon(tmp_path_factory.mktemp("schema")).running() as daemon,
        requests.Session() as session,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("hello", "other"):
            daemon.spawn(name, MANIFEST)
            daemon.until_ready(name)
        url = daemon.send(calls.system())["api_url"]
        token = daemon.send(calls.mint_token("schemathesis"))["token"]
        transport = Transport(token)
        # of every session: schemathesis opens some of its own
        patch.setattr(requests.Session, "get_adapter", lambda *_, **__: transport)
        yield World(daemon, url, token, daemon.send(calls.mint_token("looks", role="viewer"))["token"], session)


def document() -> dict[str, Any]:
    """As it is served: through JSON."""
    found: dict[str, Any] = json.loads(
        json.dumps(openapi.document(ROUTES, version=__version__, extra_types=(ExecRequest,)))
    )
    return found


def fresh_key(case: schemathesis.Case) -> None:
    """A key that is one becomes one that no other case has: the same for two changes is refused, rightly."""
    key = case.headers.get("Idempotency-Key") if case.headers else None
    if isinstance(key, str) and IDEMPOTENCY_KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = f"{key[:100]}{uuid.uuid4()}"


def brief(case: schemathesis.Case) -> None:
    """Whoever may wait for news waits a moment, not a minute."""
    wait = case.query.get("wait_seconds") if case.query else None
    if isinstance(wait, (int, float)) and 0 < wait <= 60:
        case.query["wait_seconds"] = 0.01


def passed_over(case: schemathesis.Case) -> list[Any]:
    """HTTP wants headers that nobody knows to be passed over (RFC 9110, 5.1), so they are no reason to refuse."""
    return [negative_data_rejection] if UNKNOWN_HEADER in (case.headers or {}) else []


def test_the_daemon_serves_this_description(world: World) -> None:
    assert world.session.get(f"{world.url}/openapi.json", timeout=180).json() == document()


def schema_of(*, end: bool) -> Any:
    """Of the daemon's end alone, or of everything else."""
    whole = document()
    paths = {path: methods for path, methods in whole["paths"].items() if (path == "/api/system/shutdown") is end}
    return schemathesis.openapi.from_dict(whole | {"paths": paths}, config=SchemathesisConfig.from_dict(CONFIG))


schema, schema_of_the_end = schema_of(end=False), schema_of(end=True)


SETTINGS = settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@schema.parametrize()
@SETTINGS
def test_every_answer_is_as_it_is_described(case: schemathesis.Case, world: World) -> None:
    judge(case, world, world.token)


@schema_of_the_end.parametrize()
@SETTINGS
def test_the_end_of_the_daemon_is_refused_as_described(case: schemathesis.Case, world: World) -> None:
    """By the key of one who may only look: any other would end the others' tests."""
    judge(case, world, world.viewer)


def judge(case: schemathesis.Case, world: World, token: str) -> None:
    fresh_key(case)
    brief(case)
    case.call_and_validate(
        base_url=world.url,
        session=world.session,
        headers={"Authorization": f"Bearer {token}"},
        excluded_checks=passed_over(case),
        timeout=180,
    )


def test_what_is_made_is_found_and_what_is_removed_is_not(world: World) -> None:
    """Operations one after the other, each with what earlier ones answered: ids, places in lists, versions."""

    class Sequences(schema.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            fresh_key(case)
            brief(case)
            if case.operation.label == "DELETE /api/tokens" and (case.query or {}).get("person") == OWN_PERSON:
                case.query["person"] = "another"
            if case.operation.label == "DELETE /api/tokens/{token_id}" and case.path_parameters["token_id"] == OWN_ID:
                case.path_parameters["token_id"] = "another"

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            head = {"Authorization": f"Bearer {world.token}"}
            return {"base_url": world.url, "session": world.session, "headers": head, "timeout": 60}

        def validate_response(self, response: Any, case: schemathesis.Case, *args: Any, **kwargs: Any) -> None:
            asked = self.get_call_kwargs(case)
            case.validate_response(
                response, excluded_checks=passed_over(case), headers=asked["headers"], transport_kwargs=asked
            )

    # The key that asks is left alone, or nobody asks any more.
    OWN_PERSON = world.daemon.send(calls.tokens())[0]["person"]
    OWN_ID = world.token.split("_")[2]
    Sequences.run(settings=settings(SETTINGS, max_examples=SEQUENCES, stateful_step_count=STEPS))
