"""Shows what the daemon answers to people: colonies, services, the house."""

from collections.abc import Mapping, Sequence
from typing import Any

from colony_core import clock

from .output import Output
from .tables import Cell, Column
from .words import age, clean, duration


def since(moment: str) -> str:
    """How long ago a moment was, short."""
    return age(clock.unix_now() - clock.parse_rfc3339(moment))


def summary(view: Mapping[str, Any]) -> str:
    """A colony in a line: the answer to whatever was asked of it."""
    reason = f" ({clean(view['reason'])})" if view["reason"] else ""
    url = f"   {clean(view['url'])}" if view["url"] and view["state"] == "running" else ""
    return f"{clean(view['name'])} is {clean(view['state'])}{reason}{url}"


def facts(output: Output, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values under each other; empty values are left out."""
    told = [(name, value) for name, value in pairs if value]
    size = max((len(name) for name, _ in told), default=0)
    separator = "  " if output.terminal else "\t"
    output.lines(f"{name.ljust(size) if output.terminal else name}{separator}{value}" for name, value in told)


def used(agent: Mapping[str, Any]) -> str:
    """What an agent has cost."""
    return f"${agent['cost_usd']:.2f}"


def agent_cell(output: Output, agent: Mapping[str, Any] | None) -> Cell:
    """What an agent is at, and for how long."""
    if agent is None:
        return Cell("-")
    state = output.state("asks you" if agent["state"] == "waiting" else agent["state"])
    return Cell(f"{state.text} {since(agent['since'])}", state.paint)


def show_colony(output: Output, view: Mapping[str, Any]) -> None:
    """Everything about one colony."""
    state = output.state(view["state"])
    shown = state.paint(state.text) if state.paint else state.text
    took = view["start_seconds"]
    facts(
        output,
        [
            ("name", output.paint(clean(view["name"]), "bold")),
            ("state", f"{shown}{'  ' + clean(view['reason']) if view['reason'] else ''}  {since(view['since'])}"),
            ("about", clean(view["description"])),
            ("address", clean(view["url"] or "")),
            ("folder", clean(view["source"])),
            ("work", _workspace(view.get("workspace"))),
            ("user", clean(view["user"])),
            ("template", clean(view["template"] or "")),
            ("network", f"{clean(view['namespace'])}  {clean(view['address'] or '')}".rstrip()),
            ("started in", duration(took) if took is not None else ""),
            ("made", f"{since(view['created_at'])} ago"),
            ("id", clean(view["id"])),
            ("agent", _agent(output, view.get("agent"))),
            ("limits", ", ".join(f"{clean(key)} {clean(value)}" for key, value in view["limits"].items())),
        ],
    )
    for note in (*view["notes"], *(view.get("workspace") or {"notes": ()})["notes"]):
        output.line(f"! {clean(note)}")
    if view["services"]:
        output.line("")
        services_table(output, view["services"])
    if view.get("links"):
        output.line("")
        links_table(output, view["links"])
    if view["steps"]:
        output.line("")
        columns = [Column("STEP", whole=True), Column("WHAT"), Column("TOOK", right=True, whole=True)]
        rows = [[Cell(clean(s["name"])), Cell(clean(s["detail"])), Cell(duration(s["seconds"]))] for s in view["steps"]]
        output.table(columns, rows)


def _agent(output: Output, agent: Mapping[str, Any] | None) -> str:
    if agent is None:
        return ""
    cell = agent_cell(output, agent)
    shown = cell.paint(cell.text) if cell.paint else cell.text
    reason = f"  {clean(agent['reason'])}" if agent["reason"] else ""
    return f"{shown}{reason}  {used(agent)}"


def services_table(output: Output, services: Sequence[Mapping[str, Any]]) -> None:
    """The services of a colony."""
    columns = [
        Column("SERVICE", whole=True), Column("STATE", whole=True), Column("PORT", right=True, whole=True),
        Column("PID", right=True), Column("RESTARTS", right=True), Column("AGE", right=True), Column("URL"), Column("REASON"),
    ]  # fmt: skip
    rows = [
        [
            Cell(clean(service["name"])), output.state(service["state"]), Cell(str(service["port"] or "-")),
            Cell(str(service["pid"] or "-")), Cell(str(service["restarts"])), Cell(since(service["since"])),
            Cell(clean(service["url"] or "-")), Cell(clean(service["reason"] or service["last_exit"] or "-")),
        ]
        for service in services
    ]  # fmt: skip
    output.table(columns, rows)


def links_table(output: Output, links: Sequence[Mapping[str, Any]]) -> None:
    """Whom a colony may reach, by which name, and why not."""
    columns = [
        Column("LINK", whole=True),
        Column("NAME"),
        Column("ADDRESS"),
        Column("PORT", right=True),
        Column("REASON"),
    ]
    rows = [
        [
            Cell(clean(link["to"])), Cell(clean(link["name"])), Cell(clean(link["address"] or "-")),
            Cell(str(link["port"] or "any")), Cell(clean(link["reason"] or "-")),
        ]
        for link in links
    ]  # fmt: skip
    output.table(columns, rows)


def show_system(output: Output, view: Mapping[str, Any]) -> None:
    """The daemon."""
    preview = (view.get("preview_url") or "off").rstrip("/")
    facts(
        output,
        [
            ("version", clean(view["version"])),
            ("running", f"pid {view['pid']}, {since(view['started_at'])}"),
            ("mode", clean(view["mode"])),
            ("egress", clean(view["egress"])),
            ("socket", clean(view["socket"] or "")),
            ("address", clean(view.get("api_url") or "")),
            ("previews", clean(preview)),
            ("state", clean(view["state_folder"])),
            ("keeper", f"pid {view['keeper_pid']}" if view["keeper_pid"] else "none"),
            ("colonies", str(view["colonies"])),
        ],
    )
    for note in view["notes"]:
        output.line(f"! {clean(note)}")


def _workspace(workspace: Mapping[str, Any] | None) -> str:
    if workspace is None:
        return ""
    began = f" from {workspace['base'][:12]}" if workspace["base"] else ""
    return f"{clean(workspace['project'])}: {clean(workspace['kind'])} workspace to {clean(workspace['target'])}{began}"
