"""The tool server that asks HumanLayer's daemon for permission."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from colony_cli.hlyr import permission, serve


@contextmanager
def daemon(path: Path, *answers: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Answers one question per connection."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection, connection.makefile("rwb") as stream:
                    asked.append(json.loads(stream.readline()))
                    stream.write(json.dumps({"jsonrpc": "2.0", "id": 1, **answer}).encode() + b"\n")
                    stream.flush()

        thread = threading.Thread(target=work)
        thread.start()
        yield asked
        thread.join()


def decided(status: str, comment: str = "") -> dict[str, Any]:
    return {"result": {"approval": {"status": status, "comment": comment}}}


CREATED = {"result": {"approval_id": "local-1"}}
ASKED = {"tool_name": "Bash", "input": {"command": "ls"}, "tool_use_id": "t1"}


@pytest.mark.parametrize(
    ("answers", "decision"),
    [
        ([CREATED, decided("pending"), decided("approved")], {"behavior": "allow", "updatedInput": {"command": "ls"}}),
        ([CREATED, decided("denied", "not today")], {"behavior": "deny", "message": "not today"}),
        ([CREATED, decided("denied")], {"behavior": "deny", "message": "the user does not want this"}),
        ([{"error": {"message": "no session"}}], {"behavior": "deny", "message": "hld cannot be asked: no session"}),
    ],
)
def test_a_question_is_put_to_the_daemon_and_its_answer_waited_for(
    tmp_path: Path, answers: list[dict[str, Any]], decision: dict[str, Any]
) -> None:
    with daemon(tmp_path / "s", *answers) as asked:
        assert permission(str(tmp_path / "s"), "session-1", ASKED) == decision
    assert asked[0]["method"] == "createApproval"
    assert asked[0]["params"] == {
        "run_id": "session-1", "tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_use_id": "t1",
    }  # fmt: skip


def test_a_daemon_that_is_gone_denies(tmp_path: Path) -> None:
    assert permission(str(tmp_path / "none"), "s", ASKED)["behavior"] == "deny"


def test_it_speaks_as_a_tool_server_does(tmp_path: Path) -> None:
    requests = [
        {"id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
        {"method": "notifications/initialized"},
        {"id": 1, "method": "tools/list"},
        {"id": 2, "method": "tools/call", "params": {"name": "request_permission", "arguments": ASKED}},
        {"id": 3, "method": "tools/call", "params": {"name": "other"}},
        {"id": 4, "method": "ping"},
    ]
    out = io.StringIO()
    serve(io.StringIO("".join(json.dumps(r) + "\n" for r in requests) + "\n"), out, str(tmp_path / "none"), "s")
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3, 4]
    assert answers[0]["result"]["protocolVersion"] == "2025-11-25"
    assert [tool["name"] for tool in answers[1]["result"]["tools"]] == ["request_permission"]
    [block] = answers[2]["result"]["content"]
    assert json.loads(block["text"])["behavior"] == "deny"
    assert answers[3]["error"]["code"] == -32601
