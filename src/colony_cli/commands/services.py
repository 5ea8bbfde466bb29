"""The services of one colony: ls, start, stop, restart."""

import time
from typing import Any, Literal

import click

from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, Duration, colony_argument, command
from colony_cli.views import services_table
from colony_cli.waiting import UNSETTLED, Follower
from colony_cli.words import clean, duration
from colony_core.errors import Broken, TooSlow

service_argument = click.argument("service", required=False)
no_wait = click.option("--no-wait", is_flag=True, help="return at once")
grace_option = click.option("--grace", type=Duration(), metavar="T", help="between SIGTERM and SIGKILL, such as 10s")


@command(
    "ls", takes=ASKS | TABLE, examples=("colony service ls hello", "colony service ls hello -q"), see=("colony show",)
)
@colony_argument
def service_ls_command(run: Run, name: str | None) -> None:
    """List the services of a colony."""
    views = run.named(name, lambda ref: run.ask(run.calls.services(ref)))
    run.output.results(views, lambda: services_table(run.output, views))


@command(
    "start",
    takes=ASKS | RESULT,
    examples=("colony service start hello web", "colony service start hello"),
    see=("colony service ls",),
)
@colony_argument
@service_argument
@no_wait
def service_start_command(run: Run, name: str | None, service: str | None, *, no_wait: bool) -> int:
    """Start a service, or all of a colony's."""
    return _change(run, name, service, "start", grace=None, wait=not no_wait)


@command(
    "stop", takes=ASKS | RESULT, examples=("colony service stop hello web --grace 2s",), see=("colony service start",)
)
@colony_argument
@service_argument
@grace_option
@no_wait
def service_stop_command(run: Run, name: str | None, service: str | None, *, grace: float | None, no_wait: bool) -> int:
    """Stop a service, or all of a colony's; the colony itself stays up."""
    return _change(run, name, service, "stop", grace=grace, wait=not no_wait)


@command("restart", takes=ASKS | RESULT, examples=("colony service restart hello web",), see=("colony restart",))
@colony_argument
@service_argument
@grace_option
@no_wait
def service_restart_command(
    run: Run, name: str | None, service: str | None, *, grace: float | None, no_wait: bool
) -> int:
    """Restart a service, or all of a colony's."""
    return _change(run, name, service, "restart", grace=grace, wait=not no_wait)


def _change(
    run: Run,
    name: str | None,
    service: str | None,
    verb: Literal["start", "stop", "restart"],
    *,
    grace: float | None,
    wait: bool,
) -> int:
    after = run.last_event() if wait else 0
    view = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
    wanted = [service] if service else [one["name"] for one in view["services"]]
    changed = [run.ask(run.calls.service(view["id"], one, verb, grace=grace)) for one in wanted]
    if wait:
        changed = _wait(run, view, set(wanted), verb, after)
    run.output.results(changed, lambda: run.output.lines(_line(one) for one in changed))
    failed = [one["name"] for one in changed if one["state"] == "failed"]
    if failed and verb != "stop" and wait:
        hint = f"colony logs {view['name']} {failed[0]}"
        return run.failed_softly(
            Broken("service-failed", f"{', '.join(failed)} of colony “{view['name']}” failed", hint)
        )
    return 0


def _wait(run: Run, view: dict[str, Any], wanted: set[str], verb: str, after: int) -> list[dict[str, Any]]:
    """Waits until every wanted service has come to rest where `verb` leads; a restart must have been seen to begin."""
    follower = Follower(run, view["id"], after=after)
    deadline = None if run.timeout is None else time.monotonic() + run.timeout
    while True:
        now = [one for one in follower.look()["services"] if one["name"] in wanted]
        if all(_arrived(one, verb, began=follower.lost or one["name"] in follower.started) for one in now):
            return now
        left = 5.0 if deadline is None else min(5.0, deadline - time.monotonic())
        if left <= 0:
            late = (
                ", ".join(f"{one['name']} is {one['state']}" for one in now if one["state"] in UNSETTLED)
                or "nothing moved"
            )
            raise TooSlow(
                "wait-too-long",
                f"{late} after {duration(run.timeout or 0)}; it goes on",
                f"colony service ls {view['name']}",
            )
        follower.listen(left)


def _arrived(now: dict[str, Any], verb: str, *, began: bool) -> bool:
    """Whether a service has come to rest where `verb` leads; `began`: it was seen to start since we asked."""
    if now["state"] in UNSETTLED:
        return False
    if verb == "stop":
        return bool(now["state"] != "ready")
    return bool((began and now["state"] != "stopped") or (verb == "start" and now["state"] == "ready"))


def _line(view: dict[str, Any]) -> str:
    reason = f" ({clean(view['reason'])})" if view["reason"] else ""
    url = f"   {clean(view['url'])}" if view["url"] and view["state"] == "ready" else ""
    return f"{clean(view['name'])} of {clean(view['colony'])} is {clean(view['state'])}{reason}{url}"
