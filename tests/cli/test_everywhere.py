"""What holds for every command: exit codes, errors, flags before and after, help, pipes."""

import ast
import json
from pathlib import Path
from typing import Any

import click
import pytest

from colony_cli import tree
from colony_cli.exits import TABLE
from colony_cli.forms import REASONS
from colony_cli.forms import Command as ColonyCommand
from colony_cli.root import root

from .conftest import Command
from .stand_in import StandIn

PROBLEMS = [
    (400, "invalid-manifest", 2),
    (401, "unauthorized", 4),
    (403, "not-allowed", 4),
    (404, "service-not-found", 3),
    (409, "colony-not-running", 5),
    (409, "colony-exists", 5),
    (422, "invalid-name", 2),
    (429, "too-many-colonies", 8),
    (500, "internal-error", 1),
    (503, "shutting-down", 6),
    (504, "start-too-slow", 7),
]


def every_command() -> list[ColonyCommand]:
    """All of them, loaded."""
    context = click.Context(root())
    found: list[ColonyCommand] = []
    for entry in tree.ENTRIES:
        command: click.Command | None = root()
        for word in entry.name.split():
            assert isinstance(command, click.Group)
            command = command.get_command(context, word)
        assert isinstance(command, ColonyCommand), entry.name
        found.append(command)
    return found


@pytest.mark.parametrize(("status", "code", "expected"), PROBLEMS)
def test_what_the_daemon_refuses_becomes_an_exit_code(
    house: StandIn, colony: Command, status: int, code: str, expected: int
) -> None:
    house.problems["GET /api/colonies"] = (status, {"code": code, "detail": "it is so", "hint": "do that"})
    done = colony("ls")
    assert (done.code, done.out, done.err) == (expected, "", "error: it is so\nhint: do that\n")


def test_without_a_daemon_it_says_how_to_start_one(colony: Command, socket_path: Path) -> None:
    done = colony("ls")
    assert (done.code, done.out) == (6, "")
    assert done.err.endswith("hint: colony serve\n")
    socket_path.touch()
    assert colony("show", "hello").code == 6
    done = colony("ls", "--json")
    assert done.error["code"] == "daemon-unreachable"
    assert done.error["hint"] == "colony serve"


def test_wrong_words_are_wrong_use_and_told_the_nearest(house: StandIn, colony: Command) -> None:
    for words, told in (
        (["spwan"], "did you mean spawn?"),
        (["service", "restrat", "x"], "did you mean restart?"),
        (["ls", "--jsno"], "did you mean --json?"),
        (["ls", "--state", "runing"], "did you mean running?"),
        (["wait", "x", "--for", "redy"], "did you mean ready?"),
        (["help", "exit-code"], "did you mean exit-codes?"),
        (["completion", "bsh"], "did you mean bash?"),
        (["rm"], "missing argument 'NAME...'"),
        (["show", "a", "b"], "unexpected extra argument"),
        (["stop", "a", "--grace", "soon"], "expected a duration"),
        (["ls", "--json", "-q"], "three ways to print one result"),
        (["stop", "a", "a"], "named twice"),
        (["logs", "a", "--tail", "-1"], "-1 is not in the range"),
        (["ls", "--server", "ftp://x"], "is no address of a daemon"),
    ):
        done = colony(*words)
        assert done.code == 2, words
        assert told in done.err, words
        assert done.out == ""
    assert house.asked == []


def test_errors_are_objects_with_json_wherever_it_stands(house: StandIn, colony: Command) -> None:
    for words in (["--json", "show", "ghost"], ["show", "--json", "ghost"], ["show", "ghost", "--json"]):
        done = colony(*words)
        assert (done.code, done.out) == (3, "")
        assert done.error == {"code": "colony-not-found", "message": "colony “ghost” not found", "hint": "colony ls"}
    assert colony("nonsense", "--json").error["code"] == "unknown-command"
    assert colony("ls", "--nonsense", "--json").error["code"] == "wrong-use"


def test_details_of_an_error_are_told_on_request(house: StandIn, colony: Command) -> None:
    problem = {"code": "invalid-manifest", "detail": "line 3: no", "details": {"line": 3}}
    house.problems["GET /api/colonies"] = (422, problem)
    assert "code:" not in colony("ls").err
    assert "  code: invalid-manifest\n  line: 3\n" in colony("ls", "-v").err
    assert "Traceback" in colony("ls", "-vv").err
    assert colony("ls", "--json").error["details"] == {"line": 3}


def test_each_mistake_of_a_manifest_is_told_with_its_line(house: StandIn, colony: Command) -> None:
    mistakes = [
        {"line": 1, "path": "services.a", "message": "the command is missing", "hint": "write one"},
        {"line": 2, "path": "services.a.commnd", "message": "unknown key 'commnd'", "hint": "did you mean command?"},
    ]
    problem = {"code": "invalid-manifest", "detail": "colony.toml:1: the command is missing", "hint": "write one"}
    house.problems["GET /api/colonies"] = (422, problem | {"details": {"line": 1, "errors": mistakes}})
    [_, _, second] = colony("ls").err.splitlines()
    assert second == "  line 2: services.a.commnd: unknown key 'commnd'; did you mean command?"


def test_what_an_error_says_cannot_steer_the_terminal(house: StandIn, colony: Command) -> None:
    house.problems["GET /api/colonies"] = (500, {"code": "x", "detail": "\x1b[2J\nb", "hint": "\x07"})
    assert colony("ls").err == "error: ^[[2J^Jb\nhint: ^G\n"


def test_a_broken_answer_is_no_traceback(house: StandIn, colony: Command) -> None:
    house.add("hello")
    del house.colonies["hello"]["services"]
    done = colony("ls")
    assert done.code == 1
    assert "the command itself broke, sorry: KeyError" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in colony("-vv", "ls").err


def test_a_deadline_bounds_an_answer(house: StandIn, colony: Command) -> None:
    house.slow_seconds = 300.0
    done = colony("ls", "--timeout", "200ms")
    assert done.code == 7
    assert "within 0.2 s" in done.err


def test_another_version_of_the_daemon_is_told_once(house: StandIn, colony: Command) -> None:
    house.version = "9.9.9"
    house.add("hello")
    done = colony("stop", "hello")
    assert done.code == 0
    assert done.err.count("the daemon is 9.9.9") == 1
    assert json.loads(colony("ls", "--json").err)["warning"]["code"] == "version-skew"
    house.version = "0.1.0"
    assert colony("ls", "-a").err == ""


def test_the_server_is_a_flag_a_variable_or_a_path(house: StandIn, colony: Command, socket_path: Path) -> None:
    house.add("hello")
    nowhere = {"COLONY_SERVER": "unix:/nowhere.sock"}
    assert colony("ls", **nowhere).code == 6
    assert colony("ls", "--server", f"unix:{socket_path}", "-q", **nowhere).out == "hello\n"
    assert colony("--server", str(socket_path), "ls", "-q", **nowhere).out == "hello\n"


def test_a_flag_without_effect_is_refused_with_the_reason(house: StandIn, colony: Command) -> None:
    done = colony("--yes", "ls")
    assert (done.code, done.err) == (2, "error: colony ls asks nothing: --yes has no effect\nhint: colony ls -h\n")
    assert colony("--format", "{x}", "tree").code == 2


def test_alone_it_prints_every_command_in_its_group(colony: Command) -> None:
    done = colony()
    assert done.code == 0
    assert (
        done.out.index("COLONIES") < done.out.index("  spawn ") < done.out.index("HOUSE") < done.out.index("  serve ")
    )
    words = {line.split()[0] for line in done.out.splitlines() if line.startswith("  ")}
    assert {entry.name.split()[0] for entry in tree.ENTRIES} == words
    assert colony("-h").out == done.out
    assert "  restart " in colony("service").out


def test_every_command_has_help_with_examples_of_itself(colony: Command) -> None:
    for entry, command in zip(tree.ENTRIES, every_command(), strict=True):
        assert command.help, entry.name
        assert command.examples, entry.name
        assert any(f"colony {entry.name}" in example for example in command.examples), entry.name
        for reference in command.see:
            words = reference.removeprefix("colony ").split()
            assert tree.find(" ".join(words)) or tree.find(words[0]) or reference == "colony COMMAND -h", reference
    for words in (["spawn"], ["service", "restart"], ["exec"]):
        done = colony(*words, "--help")
        assert done.code == 0
        assert done.out.startswith(f"Usage: colony {' '.join(words)}")
        assert "Examples:" in done.out


def test_every_command_prints_json_or_says_why_not() -> None:
    without = {command.name for command in every_command() if "json" not in command.takes}
    assert without == {"exec", "attach", "completion", "dnsmasq", "edit", "mcp"}
    assert set(REASONS) >= {"json", "quiet", "format", "wide", "yes", "timeout", "server"}


def test_help_explains_topics_and_the_exit_codes_of_the_table(colony: Command) -> None:
    done = colony("help", "exit-codes")
    assert [line.split("\t")[0] for line in done.out.splitlines()[1:]] == [str(row.code) for row in TABLE]
    assert colony("help", "exit-codes", "--json").json[-1] == {"code": 130, "word": "interrupted", "meaning": "Ctrl-C"}
    for topic in tree.TOPICS:
        assert colony("help", topic).out
    assert "help topics:" in colony("help").out
    assert "COLONY_SERVER" in colony("help", "environment", "--json").json["text"]


def test_every_variable_that_is_read_is_explained() -> None:
    source = Path(tree.__file__).parent
    text = (source / "commands/topics.py").read_text()
    read = {
        node.value
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(("COLONY_", "NO_COLOR", "FORCE_"))
        if node.value.replace("_", "").isalnum()
    }
    assert read
    assert all(name in text for name in read)


def test_the_command_loads_neither_trio_nor_the_serialiser_for_a_list(house: StandIn, colony: Command) -> None:
    import subprocess
    import sys

    house.add("hello")
    script = "import sys; from colony_cli.main import main; main(['ls']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=colony.environ, timeout=120, check=True
    )
    loaded = done.stdout.decode().splitlines()[-1].split()
    assert "colony_core.remote.blocking" in loaded
    heavy = {
        "trio",
        "cattrs",
        "msgspec",
        "sqlalchemy",
        "quart",
        "asyncio",
        "tomllib",
        "colony_core.wire",
        "colony_core.views",
    }
    assert heavy.isdisjoint(loaded)


def test_output_to_a_closed_pipe_is_quiet(house: StandIn, colony: Command) -> None:
    for number in range(600):
        house.add(f"colony-{number}")
    process = colony.begin("ls", "--json")
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(120) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_status_tree_version_and_tokens(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert "mode\troot\n" in colony("status").out
    assert colony("status", "--json").json["states"] == {"running": 1}
    assert colony("tree").out == "mycelium\n└─ colonies\n"
    assert colony("tree", "--json").json["name"] == "mycelium"
    assert colony("version", "--json").json["daemon"] == "0.1.0"
    assert colony("token", "create", "ci", "--role", "viewer").out == "colony_secret\n"
    assert house.bodies[-1] == {"name": "ci", "role": "viewer"}
    assert colony("token", "ls", "--format", "{name} {role}").out == "ci viewer\n"
    assert "tok_1" in colony("token", "ls").out
    assert colony("token", "revoke", "tok_1").out == "tok_1 is revoked\n"
    assert colony("token", "revoke", "tok_1").code == 3
    assert "No keys" in colony("token", "ls").err


def test_version_needs_no_daemon(colony: Command) -> None:
    done = colony("version")
    assert done.code == 0
    assert done.out.startswith("colony 0.1.0, Python 3.")
    assert "no daemon answers" in done.out
    assert colony("version", "--json").json["daemon"] is None


def test_json_on_a_terminal_is_indented(house: StandIn, colony: Command) -> None:
    house.add("hello")
    _, shown = colony.shown("ls", "--json")
    assert shown.startswith('[\n  {\n    "id"')
    assert json.loads(shown) == [house.colonies["hello"]]


def test_a_key_may_have_an_end_a_colony_and_a_person(house: StandIn, colony: Command) -> None:
    colony("token", "create", "helper", "--role", "agent", "--colony", "hello", "--ttl", "2h", "--person", "ann")
    assert house.bodies[-1] == {
        "name": "helper",
        "role": "agent",
        "seconds": 7200.0,
        "colony": "hello",
        "person": "ann",
    }


def test_login_prints_a_link_and_nothing_else(house: StandIn, colony: Command) -> None:
    assert colony("login").out == "http://localhost:1/login?code=x\n"
    assert colony("login", "-q").out == "http://localhost:1/login?code=x\n"


def entry(seq: int, **changes: Any) -> dict[str, Any]:
    return {
        "seq": seq, "at": "2026-01-31T08:15:00.000Z", "who": "uid:0", "name": "root", "role": "ape", "person": "root",
        "source": "socket, uid 0, pid 7", "method": "POST", "path": "/api/colonies/hello/stop", "target": "hello",
        "status": 202, "code": "", "request_id": "req_1", "skipped": 0,
    } | changes  # fmt: skip


def test_audit_tells_who_did_what_from_where_and_how_it_ended(house: StandIn, colony: Command) -> None:
    house.audit = [
        entry(1),
        entry(2, who=None, name="", source="127.0.0.1", status=401, code="token-required", target="", skipped=9),
    ]
    done = colony("audit")
    assert done.out.splitlines() == [
        "2026-01-31T08:15:00.000Z  1  root (ape)  socket, uid 0, pid 7  POST /api/colonies/hello/stop  hello  202",
        "2026-01-31T08:15:00.000Z  2  a stranger  127.0.0.1  POST /api/colonies/hello/stop  401 token-required",
    ]
    assert done.err == "… 9 writes of strangers are not noted\n"
    assert [json.loads(line)["seq"] for line in colony("audit", "--after", "1", "--json").out.splitlines()] == [2]
    followed = colony("audit", "-f", "--json", "--timeout", "5s")
    assert (followed.code, "--timeout" in followed.err) == (7, True)
    assert [json.loads(line)["seq"] for line in followed.out.splitlines()] == [1, 2]
