"""Starting, stopping, changing and removing colonies, and waiting for them."""

from collections.abc import Callable
from typing import Any

import click

from colony_cli.agents import until_done
from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, Duration, Nearest, colonies_argument, colony_argument, command
from colony_cli.prompts import confirm, confirm_name
from colony_cli.views import summary
from colony_cli.waiting import Follower, Goal, applied, broken, down, each, follow, gone, settled, up, up_again
from colony_cli.words import clean
from colony_core.errors import Invalid, NotFound, WrongState

WAITED_FOR = ("running", "ready", "stopped", "failed", "gone", "done")
no_wait = click.option("--no-wait", is_flag=True, help="return at once")
grace_option = click.option("--grace", type=Duration(), metavar="T", help="between SIGTERM and SIGKILL, such as 10s")


@command(
    "start",
    takes=ASKS | RESULT,
    examples=("colony start hello", "colony start web api --no-wait"),
    see=("colony wait",),
)
@colonies_argument
@no_wait
def start_command(run: Run, names: tuple[str, ...], *, no_wait: bool) -> int:
    """Start colonies; services of a running one that are down are started."""
    return _change(run, names, run.calls.start, Goal("up", up, "colony stop"), wait=not no_wait)


@command(
    "stop", takes=ASKS | RESULT, examples=("colony stop hello", "colony stop hello --grace 1s"), see=("colony rm",)
)
@colonies_argument
@grace_option
@no_wait
def stop_command(run: Run, names: tuple[str, ...], *, grace: float | None, no_wait: bool) -> int:
    """Stop colonies and keep them: their processes and networks end, their records and logs stay."""
    return _change(run, names, lambda ref: run.calls.stop(ref, grace=grace), Goal("stopped", down), wait=not no_wait)


@command("restart", takes=ASKS | RESULT, examples=("colony restart hello",), see=("colony service restart",))
@colonies_argument
@grace_option
@no_wait
def restart_command(run: Run, names: tuple[str, ...], *, grace: float | None, no_wait: bool) -> int:
    """Stop colonies and start them again."""
    goal = Goal("up", up_again, "colony stop")
    return _change(run, names, lambda ref: run.calls.restart(ref, grace=grace), goal, wait=not no_wait)


@command(
    "apply",
    takes=ASKS | RESULT,
    examples=("colony apply hello --dry-run", "colony apply hello", "colony apply hello --only 1f0c9a2be77d"),
    see=("colony show",),
)
@colony_argument
@click.option("--dry-run", is_flag=True, help="only tell the difference")
@click.option("--only", "version", metavar="V", help="only what --dry-run told under this version; else nothing (5)")
@no_wait
def apply_command(run: Run, name: str | None, *, dry_run: bool, version: str | None, no_wait: bool) -> int:
    """Read an edited colony.toml again, restart only what changed, and wait until that is up."""
    after = 0 if dry_run else run.last_event()
    view = run.named(name, lambda ref: run.ask(run.calls.apply(ref, dry_run=dry_run, version=version)))
    restarted = "".join(f", {clean(service)}" for service in view["restarted"])[2:]
    if run.tells_steps:
        run.output.lines(clean(change) for change in view["changes"] or ["nothing changed"])
        if restarted:
            run.output.line(f"{'would restart' if dry_run else 'restarts'}: {restarted}")
        if dry_run and view["changes"] and view.get("version"):
            run.output.note(
                f"exactly this: colony apply {clean(view['colony']['name'])} --only {clean(view['version'])}"
            )
        run.output.flush()
    if dry_run or no_wait or not view["changes"] or view["colony"]["state"] != "running":
        run.output.result({"name": view["colony"]["name"], **view}, lambda: None)
        return 0
    follower = Follower(run, view["colony"]["id"], after=after)
    arrived = follow(run, applied(follower, view), follower, steps=run.tells_steps, restarts=True)
    run.output.result({"name": arrived["name"], **view, "colony": arrived}, lambda: run.output.line(summary(arrived)))
    return run.failed_softly(broken(arrived))


@command(
    "rm",
    takes=ASKS | RESULT | {"yes"},
    examples=(
        "colony rm hello",
        "colony rm hello --dry-run",
        "colony rm web api --yes",
        "colony rm scout --keep-workspace",
    ),
    see=("colony stop",),
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="only tell what would be removed")
@click.option("--keep-workspace", is_flag=True, help="leave workspaces where they are")
@click.option(
    "--discard", multiple=True, metavar="NAME", help="a colony's name again, where work of its own may go with it"
)
def rm_command(
    run: Run, names: tuple[str, ...], *, dry_run: bool, keep_workspace: bool, discard: tuple[str, ...]
) -> int:
    """Remove colonies: processes, network, record, log, and workspace. Folders of yours stay as they are."""
    views, code = each(run, names, lambda name: run.ask(run.calls.colony(name)))
    if not views:
        return code
    if dry_run:
        run.output.results(views, lambda: _would_remove(run, views))
        return code
    listed = ", ".join(view["name"] for view in views)
    gone = any(view.get("workspace") for view in views) and not keep_workspace
    question = f"Remove {listed}? Records and logs are deleted, {'workspaces too, ' if gone else ''}folders stay."
    if not confirm(question, yes=run.yes, ask=run.output.ask):
        run.output.note("nothing removed")
        return 1

    def remove(name: str) -> dict[str, Any]:
        view = next(view for view in views if view["name"] == name)
        _remove(run, view, keep=keep_workspace, discard=name if name in discard else None)
        return {"id": view["id"], "name": name, "removed": True}

    removed, failure = each(run, tuple(view["name"] for view in views), remove)
    run.output.results(removed, lambda: run.output.lines(f"{clean(view['name'])} is gone" for view in removed))
    return code or failure


@command(
    "wait",
    takes=ASKS | RESULT,
    examples=("colony wait hello --for ready --timeout 30s", "colony wait hello --for done --timeout 30m"),
    see=("colony help exit-codes",),
)
@colony_argument
@click.option(
    "--for",
    "state",
    type=Nearest(WAITED_FOR),
    required=True,
    metavar="S",
    help="running, ready, stopped, failed or gone; done: its agent",
)
def wait_command(run: Run, name: str | None, *, state: str) -> None:
    """Wait until a colony is running (or ready: with every service), stopped, failed or gone, or its agent is done."""
    if state == "done":
        agent = until_done(run, name)
        run.output.result(
            agent, lambda: run.output.line(f"the agent of {clean(agent['colony'])} is done"), name="colony"
        )
        return
    after = run.last_event()
    try:
        found = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
        view = follow(run, _goal(state), Follower(run, found["id"], after=after), steps=False)
    except NotFound as error:
        if state != "gone" or not gone(error):
            raise
        view = {"name": name, "state": "gone"}
    run.output.result(view, lambda: run.output.line(f"{clean(view['name'])} is {state}"))


def _remove(run: Run, view: dict[str, Any], *, keep: bool, discard: str | None) -> None:
    """Removes a colony; where work would be lost that exists nowhere else, whoever can answer is asked for its name."""
    try:
        run.ask(run.calls.remove(view["id"], keep_workspace=keep, discard=discard), patience=None)
    except WrongState as error:
        if error.code != "work-would-be-lost":
            raise
        lost = [*error.details.get("commits", ()), *error.details.get("files", ())]
        run.output.note("\n".join([clean(error.message), *(f"  {clean(str(each))}" for each in lost)]))
        if not confirm_name(view["name"], ask=run.output.ask):
            raise
        run.ask(run.calls.remove(view["id"], discard=view["name"]), patience=None)


def _would_remove(run: Run, views: list[dict[str, Any]]) -> None:
    for view in views:
        run.output.line(f"would remove {clean(view['name'])}")
        for service in view["services"]:
            if service["pid"]:
                run.output.would(service["name"], f"would end pid {service['pid']}")
        if view["address"]:
            run.output.would("network", f"would remove {view['namespace']}  {view['address']}")
        run.output.would("record", f"would delete {view['id']} and its log")
        goes = view.get("workspace") is not None
        run.output.would("workspace" if goes else "folder", f"{'would remove' if goes else 'stays:'} {view['source']}")


def _goal(state: str) -> Goal:
    def judge(view: Any, _passed: list[str]) -> str:
        now = view["state"]
        ready = now == "running" and settled(view) and all(s["state"] != "failed" for s in view["services"])
        if ready if state == "ready" else now == state:
            return "reached"
        ended = state == "ready" and now == "running" and settled(view)
        return "failed" if (now == "failed" or ended) and state in ("running", "ready") else ""

    return Goal(state, judge, instead=WrongState)


def _change(run: Run, names: tuple[str, ...], call: Callable[[str], Any], goal: Goal, *, wait: bool) -> int:
    """Asks for every colony first, so that they change together, then waits for each."""
    names = names or (run.here(),)
    if len(set(names)) < len(names):
        raise Invalid("wrong-use", "a colony is named twice", "name each once")
    after = run.last_event() if wait else 0
    asked, code = each(run, names, lambda name: run.named(name, lambda ref: run.ask(call(ref))))
    views = asked
    if wait:
        by_name = {view["name"]: view for view in asked}

        def arrive(name: str) -> dict[str, Any]:
            view = by_name[name]
            one = goal._replace(undo=f"{goal.undo} {name}" if goal.undo else "")
            return follow(
                run,
                one,
                Follower(run, view["id"], after=after),
                steps=run.tells_steps and bool(goal.undo) and len(asked) == 1,
            )

        views, late = each(run, tuple(by_name), arrive)
        code = code or late
    run.output.results(views, lambda: run.output.lines(summary(view) for view in views))
    for view in views if wait and goal.undo else ():
        code = run.failed_softly(broken(view)) or code
    return code
