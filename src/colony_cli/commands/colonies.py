"""Making colonies and looking at them: spawn, ls, show, open."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from colony_cli.commands.projects import repository
from colony_cli.commands.sessions import agent_options, agent_settings, instruction_text
from colony_cli.context import Run
from colony_cli.forms import ASKS, RESULT, TABLE, Nearest, colony_argument, command
from colony_cli.tables import Cell, Column
from colony_cli.views import agent_cell, show_colony, since, summary, used
from colony_cli.waiting import Follower, Goal, broken, follow, up
from colony_cli.words import clean, duration, plural
from colony_core.errors import Invalid, NotFound, did_you_mean

KINDS = ("auto", "jj", "git")
STATES = ("spawning", "provisioning", "building", "running", "stopping", "stopped", "failed")


@command(
    "spawn",
    takes=ASKS | RESULT,
    examples=(
        "colony spawn hello --from examples/hello-colony",
        "colony spawn api --template api-service --no-start",
        "colony spawn login --task 'Add JWT auth'",
        "colony spawn agent-frontend --repo user/app --branch main",
    ),
    see=("colony init", "colony wait", "colony logs"),
)
@click.argument("name")
@click.option("--from", "path", metavar="PATH", help="folder with colony.toml (default: this one)")
@click.option("--repo", metavar="R", help="or a repository: a project, a folder, a URL, user/app")
@click.option("--branch", metavar="B", help="with --repo: where its work begins (default: the repository's own)")
@click.option("--workspace", type=Nearest(KINDS), metavar="K", help=f"with --repo: {', '.join(KINDS)}")
@click.option("--template", metavar="T", help="start from a template where the folder names none")
@click.option("--no-start", is_flag=True, help="record it only")
@click.option("--no-wait", is_flag=True, help="do not wait until its services are up")
@click.option("--dry-run", is_flag=True, help="check everything, make nothing")
@click.option("--task", metavar="TEXT|-", help="the first instruction for its agent")
@agent_options
def spawn_command(
    run: Run, name: str, *, path: str | None, repo: str | None, branch: str | None, workspace: str | None,
    template: str | None, no_start: bool, no_wait: bool, dry_run: bool, task: str | None, **agent: Any,
) -> int:  # fmt: skip
    """Make a colony from a folder or a repository, with a network of its own, start its services, and give its agent a task."""
    settings = agent_settings(agent)
    if settings and task is None:
        what = f"how its agent works ({', '.join(settings)}) is said with --task"
        raise Invalid("wrong-use", what, "give it a task, or later: colony instruct NAME")
    if repo is not None and path is not None:
        raise Invalid("wrong-use", "--from and --repo are two places to work in", "give one of them")
    if repo is None and (branch or workspace):
        raise Invalid(
            "wrong-use", f"--{'branch' if branch else 'workspace'} is for --repo", "colony spawn NAME --repo R"
        )
    folder = None if repo is not None else _folder(path, template)
    after = 0 if dry_run else run.last_event()
    text = None if task is None else instruction_text(task)
    asked = run.calls.spawn(
        name, folder, template=template, start=not no_start, dry_run=dry_run, task=text, agent=settings,
        repo=repo and repository(repo), branch=branch, workspace=workspace,
    )  # fmt: skip
    view = run.ask(asked)
    if dry_run:
        run.output.result(view, lambda: _would(run, view))
        return 0
    if not (no_start or no_wait):
        goal = Goal("up", up, f"colony stop {name}")
        view = follow(run, goal, Follower(run, view["id"], after=after), steps=run.tells_steps)
    run.output.result(view, lambda: run.output.line(summary(view)))
    return run.failed_softly(broken(view))


@command(
    "ls",
    takes=ASKS | TABLE,
    examples=("colony ls", "colony ls -a --json", "colony ls --name 'web-*'", "colony ls --format '{name}\\t{url}'"),
    see=("colony show",),
)
@click.option("-a", "--all", "everything", is_flag=True, help="stopped ones too")
@click.option("-w", "--watch", is_flag=True, help="again whenever something happens")
@click.option("--state", type=Nearest(STATES), metavar="S", help=f"only those that are {', '.join(STATES)}")
@click.option("--owner", metavar="P", help="only those of this person")
@click.option("--name", metavar="N", help="only those of this name: 'web-*'")
def ls_command(
    run: Run, *, everything: bool, watch: bool, state: str | None, owner: str | None, name: str | None
) -> None:
    """List colonies; stopped ones with -a."""

    def draw() -> None:
        found = run.ask_all(run.calls.colonies(owner=owner, name=name))
        shown = [v for v in found if (v["state"] == state if state else everything or v["state"] != "stopped")]
        run.output.results(shown, lambda: _list(run, found, shown))

    run.draw_again(draw, watch=watch)


@command(
    "show",
    takes=ASKS | RESULT | {"wide"},
    examples=("colony show hello", "colony show hello --json"),
    see=("colony logs",),
)
@colony_argument
@click.option("-w", "--watch", is_flag=True, help="again whenever something happens")
def show_command(run: Run, name: str | None, *, watch: bool) -> None:
    """Show one colony: state, addresses, services, and the steps of its start."""
    found = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))

    def draw() -> None:
        view = run.ask(run.calls.colony(found["id"])) if watch else found
        run.output.result(view, lambda: show_colony(run.output, view))

    run.draw_again(draw, watch=watch)


@command(
    "open",
    takes=ASKS | RESULT,
    examples=("colony open hello", "colony open hello api", "colony open hello 4002 --print"),
    see=("colony show",),
)
@colony_argument
@click.argument("what", metavar="[PORT|SERVICE]", required=False)
@click.option("--print", "only_print", is_flag=True, help="open no browser")
def open_command(run: Run, name: str | None, what: str | None, *, only_print: bool) -> None:
    """Print the address of a colony, a service or a port, and open it where there is a display."""
    view = run.named(name, lambda ref: run.ask(run.calls.colony(ref)))
    url = _address(run, view, what)
    run.output.result({"name": view["name"], "url": url}, lambda: run.output.line(url), name="url")
    run.output.flush()
    if not only_print and any(run.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY")):
        import webbrowser

        webbrowser.open(url)


def _folder(path: str | None, template: str | None) -> str:
    if path is None and template is None and not Path("colony.toml").is_file():
        raise Invalid(
            "no-manifest-here",
            "there is no colony.toml in this folder",
            "colony spawn NAME --from PATH, or colony init",
        )
    folder = Path(path or ".")
    if folder.name == "colony.toml" and folder.is_file():
        folder = folder.parent
    return os.path.abspath(folder)


def _would(run: Run, view: Mapping[str, Any]) -> None:
    output = run.output
    output.line(f"would spawn {clean(view['name'])} from {clean(view['source'])} as {clean(view['user'])}")
    output.would("namespace", f"would make {view['namespace']}")
    output.would("veth", "would lay a cable and take a free address")
    for service in view["services"]:
        port = f" on :{service['port']}" if service["port"] else ""
        url = f", seen at {service['url']}" if service["url"] else ""
        output.would(service["name"], f"would run {service['command']}{port}{url}")


def _list(run: Run, found: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    output = run.output
    if not found:
        output.note(
            "No colonies yet. Each gets a network of its own in milliseconds.\n  colony spawn hello --from PATH"
        )
        return
    if not shown:
        output.note(f"None of {len(found)} match.  colony ls -a")
        return
    columns = [
        Column("NAME", whole=True), Column("STATE", whole=True), Column("SERVICES", whole=True), Column("URL"),
        Column("START", right=True, whole=True), Column("AGE", right=True, whole=True),
    ]  # fmt: skip
    with_agents = any(view.get("agent") for view in found)
    if with_agents:
        columns[2:2] = [Column("AGENT", whole=True), Column("COST", right=True, whole=True)]
    rows = []
    for view in shown:
        ready = sum(service["state"] in ("ready", "finished") for service in view["services"])
        took = view["start_seconds"]
        rows.append([
            Cell(clean(view["name"])), output.state(view["state"]), Cell(f"{ready}/{len(view['services'])}"),
            Cell(clean(_bare(view["url"]) if output.terminal else view["url"] or "-")),
            Cell(duration(took) if took is not None else "-"), Cell(since(view["created_at"])),
        ])  # fmt: skip
        if with_agents:
            agent = view.get("agent")
            rows[-1][2:2] = [agent_cell(output, agent), Cell(used(agent) if agent else "-")]
    output.table(columns, rows)
    if output.terminal:
        _beneath(run, found, shown)


def _bare(url: str | None) -> str:
    """An address as it is typed into a browser."""
    return (url or "-").removeprefix("http://").removesuffix("/")


def _beneath(run: Run, found: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    ill = [
        view["name"] for view in shown
        if view["state"] == "failed" or any(service["state"] == "failed" for service in view["services"])
    ]  # fmt: skip
    if ill:
        run.output.note(f"{plural(len(ill), 'colony', 'colonies')} with a failure: colony show {ill[0]}")
    asking = [view["name"] for view in shown if (view.get("agent") or {}).get("asks")]
    if asking:
        run.output.note(f"{len(asking)} {'needs' if len(asking) == 1 else 'need'} you: colony why {asking[0]}")
    hidden = len(found) - len(shown)
    if hidden:
        run.output.note(f"{hidden} more: colony ls -a")


def _address(run: Run, view: Mapping[str, Any], what: str | None) -> str:
    name = view["name"]
    if what is None:
        if not view["url"]:
            raise NotFound("no-address", f"colony “{name}” has no service with a port", f"colony open {name} PORT")
        return str(view["url"])
    service = next((s for s in view["services"] if s["name"] == what or str(s["port"]) == what), None)
    if service and service["url"]:
        return str(service["url"])
    if service:
        raise NotFound("no-address", f"service “{what}” of colony “{name}” has no port", f"colony show {name}")
    if what.isascii() and what.isdigit() and 1 <= int(what) <= 65535:
        system = run.ask(run.calls.system())
        if system.get("preview_url"):
            return str(system["preview_url"]).replace("<service>.<colony>", f"{name}-{int(what)}").rstrip("/")
    nearest = did_you_mean(what, [s["name"] for s in view["services"]])
    hint = f"did you mean {nearest}?" if nearest else f"colony service ls {name}"
    raise NotFound("service-not-found", f"colony “{name}” has no service “{what}”", hint)
