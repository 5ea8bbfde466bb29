"""What the clients of `colony_core.remote` send is what the API takes."""

from typing import Any

import pytest

from colony_core.remote import Call, calls

from .house import CardboardHouse

EVERY = [
    calls.system(),
    calls.tree(),
    calls.colonies(),
    calls.colonies(state="running"),
    calls.colony("hello"),
    calls.spawn("new", "/src", template="web-app", start=False, dry_run=True),
    calls.start("hello"),
    calls.stop("hello"),
    calls.stop("hello", grace=1.5),
    calls.restart("hello"),
    calls.restart("hello", grace=1.5),
    calls.apply("hello", dry_run=True),
    calls.remove("hello"),
    calls.services("hello"),
    calls.service("hello", "web", "start"),
    calls.service("hello", "web", "stop"),
    calls.service("hello", "web", "restart", grace=1.5),
    calls.terminals("hello"),
    calls.open_terminal("hello"),
    calls.open_terminal("hello", command=("top",), cwd=".", env={"A": "b"}, rows=30, columns=90, term="vt100"),
    calls.close_terminal("hello", "t0"),
    calls.logs("hello", after=3, limit=9, services=["web"], since=1.5, until="2026-01-31T08:15:00Z"),
    calls.logs("hello", tail=3),
    calls.events(after=0, limit=3, wait_seconds=0.0),
    calls.tokens(),
    calls.mint_token("ci", role="viewer"),
    calls.mint_token("helper", role="agent", seconds=60.0, colony="hello", person="me"),
    calls.login(),
    calls.audit(after=0, limit=3, wait_seconds=0.0),
    calls.audit(),
    calls.events(colonies=["hello"], services=["web", "api"], kinds=["service", "house"]),
    calls.shutdown(),
    calls.shutdown(colonies=True),
]


@pytest.mark.parametrize("call", EVERY, ids=lambda call: f"{call.method} {call.url}")
async def test_every_call_of_a_client_is_understood(client: Any, house: CardboardHouse, call: Call) -> None:
    body = {} if call.body is None else {"json": dict(call.body)}
    answer = await client.open(call.url, method=call.method, **body)
    assert answer.status_code < 300, await answer.get_data(as_text=True)
