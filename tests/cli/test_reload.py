"""reload tells what is in force and what waits."""

import json

from .conftest import Command
from .stand_in import StandIn


def test_what_is_in_force_and_what_waits_are_told_apart(house: StandIn, colony: Command) -> None:
    done = colony("reload")
    assert done.out == "in force: processes.grace\n"
    assert "at the next start of the daemon: server.port" in done.err
    assert json.loads(colony("reload", "--json").out) == {"changed": ["processes.grace"], "waiting": ["server.port"]}
