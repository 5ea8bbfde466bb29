"""start, stop, restart, apply, rm, wait, service."""

import signal

import pytest

from colony_cli.waiting import settled

from .conftest import Command
from .stand_in import StandIn, service


def test_stop_and_start_wait_until_it_is_so(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    assert colony("stop", "hello").out == "hello is stopped\n"
    assert view["state"] == "stopped"
    done = colony("start", "hello")
    assert done.out == "hello is running   http://hello.colony.localhost:8088\n"
    assert "✓ namespace" in done.err


def test_a_start_of_what_runs_tells_no_steps_of_an_earlier_one(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    house.stalled = True

    def begin_web() -> None:
        house.enter(view, "running", "starting web")
        house.restart(view, "web")
        house.enter(view, "running")

    house.meanwhile["POST /api/colonies/hello/start"] = begin_web
    done = colony("start", "hello")
    assert (done.code, done.out[:16]) == (0, "hello is running")
    assert "namespace" not in done.err
    assert "api" not in done.err
    assert "web" in done.err


def test_many_colonies_are_asked_for_first_and_waited_for_then(house: StandIn, colony: Command) -> None:
    house.add("a")
    house.add("b")
    assert colony("stop", "a", "b", "--json").json == [house.colonies["a"], house.colonies["b"]]
    posts = [asked for asked in house.asked if asked.startswith(("POST", "GET /api/colonies/"))]
    assert posts[:2] == ["POST /api/colonies/a/stop", "POST /api/colonies/b/stop"]


def test_one_wrong_name_does_not_keep_the_others_from_being_done(house: StandIn, colony: Command) -> None:
    house.add("a")
    done = colony("stop", "ghost", "a")
    assert (done.code, done.out) == (3, "a is stopped\n")
    assert "error: colony “ghost” not found" in done.err


def test_grace_reaches_the_daemon_in_seconds(house: StandIn, colony: Command) -> None:
    house.add("hello")
    colony("stop", "hello", "--grace", "1500ms")
    colony("restart", "hello", "--grace", "2", "--no-wait")
    assert {"grace": 1.5} in house.bodies
    assert {"grace": 2.0} in house.bodies


def test_a_restart_is_not_done_before_it_began(house: StandIn, colony: Command) -> None:
    house.add("hello")
    house.start_states = ["stopping", "stopped", "spawning", "provisioning", "running"]
    assert colony("restart", "hello").code == 0
    assert [event["state"] for event in house.events][-1] == "running"


def test_a_colony_that_still_starts_services_is_not_yet_up(house: StandIn, colony: Command) -> None:
    view = house.add("hello", state="stopped")
    house.start_states = []
    process = colony.begin("start", "hello")
    house.until(lambda: view["state"] == "spawning")
    view["services"] = [service("web", "hello", state="stopped", reason="not started")]
    house.enter(view, "running", "starting")
    view["services"][0]["state"] = "starting"
    house.enter(view, "running", "starting web")
    seen = len(house.asked)
    house.until(lambda: any(asked == "GET /api/colonies/col_hello" for asked in house.asked[seen:]))
    assert process.poll() is None
    view["services"][0]["state"] = "ready"
    house.enter(view, "running")
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.decode()[:16]) == (0, "hello is running")


def test_a_service_that_waits_for_a_failed_one_is_not_waited_for(house: StandIn, colony: Command) -> None:
    house.add(
        "hello",
        reason="web failed",
        services=[
            service("web", "hello", state="failed", reason="gave up"),
            service("api", "hello", state="waiting", depends_on=["web"]),
            service("ui", "hello", state="waiting", depends_on=["api"]),
        ],
    )
    done = colony("start", "hello", "--no-wait")
    assert done.code == 0
    done = colony("wait", "hello", "--for", "ready", "--timeout", "60s")
    assert done.code == 5
    done = colony("start", "hello", "--timeout", "60s")
    assert done.code == 1
    assert "colony “hello” runs, but web failed\nhint: colony logs hello web" in done.err


@pytest.mark.parametrize(
    ("reason", "states", "expected"),
    [
        ("starting", ["stopped", "stopped"], False),
        ("starting web", ["starting", "stopped"], False),
        ("starting web, api", ["ready", "ready"], False),
        ("", ["ready", "stopped"], True),
        ("starting api", ["stopped", "waiting"], True),
        ("web failed", ["failed", "waiting"], True),
        ("starting api", ["ready", "waiting"], False),
        ("web failed", ["failed", "restarting"], False),
    ],
)
def test_when_a_colony_has_come_to_rest(reason: str, states: list[str], *, expected: bool) -> None:
    services = [service(name, "x", state=state) for name, state in zip(("web", "api"), states, strict=True)]
    services[1]["depends_on"] = ["web"]
    assert settled({"reason": reason, "services": services}) is expected


def test_waiting_ends_at_the_timeout_and_says_that_the_work_goes_on(house: StandIn, colony: Command) -> None:
    house.stalled = True
    house.add("hello", state="stopped")
    done = colony("start", "hello", "--timeout", "5s")  # each answer is waited for so long as well
    assert done.code == 7
    assert "hello” is spawning, not up, after 5.0 s; it goes on" in done.err


def test_ctrl_c_once_says_that_the_work_goes_on_and_twice_leaves(house: StandIn, colony: Command) -> None:
    house.stalled = True
    terminal = colony.terminal("spawn", "hello", "--from", "/x")
    terminal.until("spawning")
    terminal.type("\x03")
    terminal.until("it goes on without this command; `colony stop hello` stops it; Ctrl-C again leaves")
    assert terminal.process.poll() is None
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_after_one_ctrl_c_the_answer_still_comes(house: StandIn, colony: Command) -> None:
    house.stalled = True
    process = colony.begin("spawn", "hello", "--from", "/x")
    house.until(lambda: any("wait_seconds" in asked for asked in house.asked))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    told = b"".join(
        iter(
            process.stderr.readline,
            b"it goes on without this command; `colony stop hello` stops it; Ctrl-C again leaves\n",
        )
    )
    assert b"error" not in told
    house.enter(house.colonies["hello"], "running")
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.decode()[:16]) == (0, "hello is running")


def test_apply_tells_what_changed(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("apply", "hello")
    assert done.out.splitlines()[:2] == ["web: port 4001 → 4003", "restarts: web"]
    assert done.out.splitlines()[2].startswith("hello is running")
    assert "web          :4001 ready" in done.err
    assert "api" not in done.err, "what was not touched is no step"
    assert colony("apply", "hello", "--dry-run").out == "web: port 4001 → 4003\nwould restart: web\n"
    assert house.bodies[-1] == {"dry_run": True}
    assert colony("apply", "hello", "--json").json["restarted"] == ["web"]


def test_apply_waits_until_what_it_restarts_is_up(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    house.stalled = True
    assert colony("apply", "hello", "--no-wait").out == "web: port 4001 → 4003\nrestarts: web\n"
    done = colony("apply", "hello", "--timeout", "5s")
    assert (done.code, "not up again, after 5.0 s; it goes on" in done.err) == (7, True)
    process = colony.begin("apply", "hello")
    house.until(lambda: house.asked.count("POST /api/colonies/hello/apply") == 3)
    assert process.poll() is None
    view["services"][0] |= {"state": "failed", "reason": "gave up"}
    house.restart(view, "web")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"runs, but web failed" in err
    assert b"hello is running" in out


def test_apply_to_a_colony_that_is_down_waits_for_nothing(house: StandIn, colony: Command) -> None:
    house.add("hello", state="stopped")
    house.stalled = True
    assert colony("apply", "hello", "--timeout", "60s").code == 0


def test_rm_tells_what_it_would_remove(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("rm", "hello", "--dry-run")
    assert done.code == 0
    assert [line.split(maxsplit=2)[1:] for line in done.out.splitlines()[1:]] == [
        ["web", "would end pid 71"],
        ["api", "would end pid 71"],
        ["network", "would remove ns-hello  10.200.0.3"],
        ["record", "would delete col_hello and its log"],
        ["folder", "stays: /home/ape/hello"],
    ]
    assert "hello" in house.colonies
    assert colony("rm", "hello", "ghost", "--dry-run").code == 3


def test_rm_does_not_ask_where_nobody_can_answer(house: StandIn, colony: Command) -> None:
    house.add("hello")
    done = colony("rm", "hello")
    assert done.code == 2
    assert "hint: add --yes" in done.err
    assert "hello" in house.colonies


def test_rm_wants_the_name_where_work_would_be_lost(house: StandIn, colony: Command) -> None:
    workspace = {"project": "app", "kind": "git", "target": "main", "base": "", "notes": []}
    house.add("scout", workspace=workspace)
    house.work.add("scout")
    for typed, code in (("y\r", 5), ("scou\r", 5), ("scout\r", 0)):
        terminal = colony.terminal("rm", "scout")
        terminal.until("Records and logs are deleted, workspaces too, folders stay. [y/N] ")
        terminal.type("y\r")
        terminal.until("Type scout to lose it: ")
        assert "0a1b2c3 Work" in terminal.shown
        assert "b.txt" in terminal.shown
        assert "scout" in house.colonies
        terminal.type(typed)
        assert terminal.end() == code
    assert house.colonies == {}


def test_rm_asks_nobody_for_a_name_where_nobody_can_answer(house: StandIn, colony: Command) -> None:
    house.add("scout")
    house.work.add("scout")
    done = colony("rm", "scout", "--yes", "--json")
    assert (done.code, done.error["code"], done.error["details"]["files"]) == (5, "work-would-be-lost", ["b.txt"])
    assert colony("rm", "scout", "--yes", "--discard", "other").code == 5
    assert colony("rm", "scout", "--yes", "--discard", "scout").code == 0


def test_rm_asks_and_no_is_the_default(house: StandIn, colony: Command) -> None:
    house.add("hello")
    for answer, code in (("\r", 1), ("n\r", 1), ("y\r", 0)):
        terminal = colony.terminal("rm", "hello")
        terminal.until("Remove hello? Records and logs are deleted, folders stay. [y/N] ")
        assert "hello" in house.colonies
        terminal.type(answer)
        assert terminal.end() == code
    assert house.colonies == {}
    assert "hello is gone" in terminal.shown


def test_rm_takes_full_names_only_even_on_a_terminal(house: StandIn, colony: Command) -> None:
    house.add("hello")
    code, shown = colony.shown("rm", "hel", "--yes")
    assert code == 3
    assert "not found" in shown
    assert "hello" in house.colonies


def test_yes_answers_before_and_after_the_command(house: StandIn, colony: Command) -> None:
    house.add("a")
    house.add("b")
    assert colony("-y", "rm", "a").out == "a is gone\n"
    assert colony("remove", "b", "--yes", "--json").json == [{"id": "col_b", "name": "b", "removed": True}]
    assert house.colonies == {}


@pytest.mark.parametrize(("state", "code"), [("running", 0), ("ready", 0), ("stopped", 7), ("failed", 7), ("gone", 7)])
def test_wait_for_a_running_colony(house: StandIn, colony: Command, state: str, code: int) -> None:
    house.add("hello")
    done = colony("wait", "hello", "--for", state, "--timeout", "0.3s" if code else "60s")
    assert done.code == code
    assert done.out == (f"hello is {state}\n" if code == 0 else "")


def test_wait_ends_with_five_where_it_failed_instead(house: StandIn, colony: Command) -> None:
    view = house.add("hello", state="provisioning")
    process = colony.begin("wait", "hello", "--for", "running")
    house.until(lambda: any("wait_seconds" in asked for asked in house.asked))
    house.enter(view, "failed", "setup failed")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 5
    assert b"failed: setup failed" in err
    assert colony("wait", "hello", "--for", "failed").code == 0


def test_wait_for_ready_minds_the_services(house: StandIn, colony: Command) -> None:
    house.add("hello", services=[service("web", "hello", state="failed")])
    assert colony("wait", "hello", "--for", "running").code == 0
    assert colony("wait", "hello", "--for", "ready").code == 5


def test_wait_for_gone_ends_when_it_is_removed(house: StandIn, colony: Command) -> None:
    house.add("hello")
    process = colony.begin("wait", "hello", "--for", "gone")
    house.until(lambda: any("wait_seconds" in asked for asked in house.asked))
    del house.colonies["hello"]
    house.publish(type="colony_removed", colony="hello", colony_id="col_hello")
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"hello is gone\n")
    assert colony("wait", "hello", "--for", "gone").code == 0
    assert colony("wait", "hello", "--for", "running").code == 3


def test_services_are_listed_and_changed(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    assert colony("service", "ls", "hello", "-q").out == "web\napi\n"
    assert colony("service", "stop", "hello", "web", "--grace", "1s").out == "web of hello is stopped\n"
    assert {"grace": 1.0} in house.bodies
    assert view["services"][0]["state"] == "stopped"
    assert [one["name"] for one in colony("service", "start", "hello", "--no-wait", "--json").json] == ["web", "api"]
    assert colony("service", "list", "hello").code == 0


def test_a_service_restart_waits_until_it_was_seen_to_start(house: StandIn, colony: Command) -> None:
    view = house.add("hello")
    process = colony.begin("service", "restart", "hello", "web")
    house.until(lambda: any("wait_seconds" in asked for asked in house.asked))
    event = {
        "type": "service_state",
        "colony": "hello",
        "colony_id": "col_hello",
        "service": "web",
        "reason": "",
        "pid": 1,
        "restarts": 0,
    }
    view["services"][0]["state"] = "stopped"
    house.publish(before="ready", state="stopped", **event)
    house.publish(before="stopped", state="starting", **event)
    view["services"][0]["state"] = "ready"
    house.publish(before="starting", state="ready", **event)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out.decode().split("   ")[0]) == (0, "web of hello is ready")


def test_an_unknown_service_is_not_found(house: StandIn, colony: Command) -> None:
    house.add("hello")
    assert colony("service", "stop", "hello", "nope").code == 3
