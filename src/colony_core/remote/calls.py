"""One function per API verb: what to ask, and what the answer is. No I/O.

`ref` is a colony's name or id. Views are named, not imported, so that asking costs no serialiser.

The file is long because every verb stands in it, in a few lines each.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import attrs

from colony_core.errors import Invalid

_NEXT = re.compile(r'<([^>]*)>; rel="next"')
Verb = Literal["start", "stop", "restart"]
Moment = float | str
"""Seconds since 1970, or RFC 3339."""


@attrs.frozen(kw_only=True)
class Call:
    """A request. `reply` names the view in the answer (a tuple of them where `many`), None where the answer is plain or empty.

    The client gives a POST without `idempotency_key` a fresh one, so sending a Call twice asks twice; a Call with a key asks once.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Mapping[str, Any] | None = None
    reply: str | None = None
    many: bool = False
    idempotency_key: str | None = None
    if_match: str | None = None
    """The version that must be in force, else nothing is done (`changed-meanwhile`)."""

    later: bool = False
    """The daemon may answer before it is done, as `without_waiting` says."""

    @property
    def url(self) -> str:
        """Path and query, as they stand in the request line."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def with_key(self, key: str) -> "Call":
        """The same request, to be carried out once however often it is sent."""
        return attrs.evolve(self, idempotency_key=key)

    def without_waiting(self) -> "Call":
        """The same request, answered at once with `{"accepted": true}`; events tell how it ends. For describe, merge, undo and push."""
        return attrs.evolve(self, later=True, reply=None)


def next_call(call: Call, link: str) -> Call | None:
    """The call for the next page, by an answer's `Link`; None behind the last."""
    found = _NEXT.search(link)
    if found is None:
        return None
    return attrs.evolve(call, query=tuple(parse_qsl(urlsplit(found[1]).query, keep_blank_values=True)))


def system() -> Call:
    """Who the daemon is and how it isolates."""
    return _get("/api/system", reply="SystemView")


def shutdown(*, colonies: bool = False) -> Call:
    """Ends the daemon; without `colonies` they go on."""
    return _post("/api/system/shutdown", {"colonies": colonies})


def tree() -> Call:
    """The supervision tree: `{"text": ..., "tree": ...}`."""
    return _get("/api/system/tree")


def colonies(
    *,
    state: str | None = None,
    owner: str | None = None,
    name: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Call:
    """Colonies by name: all, or those of a state, an owner, a name (`web-*`); a page where there are more than `limit`."""
    query = {"state": state, "owner": owner, "name": name, "after": after, "limit": limit}
    return _get("/api/colonies", query, reply="ColonyView", many=True)


def colony(ref: str) -> Call:
    """One colony."""
    return _get(_colony(ref), reply="ColonyView")


def spawn(
    name: str,
    path: str | None = None,
    *,
    template: str | None = None,
    start: bool = True,
    dry_run: bool = False,
    task: str | None = None,
    agent: Mapping[str, Any] | None = None,
    repo: str | None = None,
    branch: str | None = None,
    workspace: str | None = None,
) -> Call:
    """A new colony from the folder `path`, absolute and on the daemon's machine; `agent` as in `views.AgentSettings`.

    Or from a repository: `repo` is a project, a folder, a URL or `user/app`, `workspace` auto, jj or git.
    """
    body = {"name": name, "path": path, "template": template, "start": start, "dry_run": dry_run}
    source = {"repo": repo, "branch": branch, "workspace": workspace}
    return _post("/api/colonies", {**body, **source, "task": task, "agent": agent or None}, reply="ColonyView")


def start(ref: str) -> Call:
    """Wants a colony to run; the answer comes at once, progress by events."""
    return Call(method="POST", path=f"{_colony(ref)}/start", reply="ColonyView")


def stop(ref: str, *, grace: float | None = None) -> Call:
    """Wants a colony to be stopped, with `grace` seconds for each service."""
    return _post(f"{_colony(ref)}/stop", _given(grace=grace), reply="ColonyView")


def restart(ref: str, *, grace: float | None = None) -> Call:
    """Stops a colony and starts it again."""
    return _post(f"{_colony(ref)}/restart", _given(grace=grace), reply="ColonyView")


def apply(ref: str, *, dry_run: bool = False, version: str | None = None) -> Call:
    """Takes over the edited manifest, or only tells the difference; with the `version` that was told, nothing else than that."""
    asked = _post(f"{_colony(ref)}/apply", {"dry_run": dry_run}, reply="ApplyView")
    return attrs.evolve(asked, if_match=version)


def remove(ref: str, *, keep_workspace: bool = False, discard: str | None = None) -> Call:
    """Stops a colony and forgets it, its workspace too; answers when it is gone.

    `discard` is its name, said where work that exists nowhere else may go with it.
    """
    query = {"keep_workspace": "true" if keep_workspace else None, "discard": discard}
    return attrs.evolve(_get(_colony(ref), query), method="DELETE")


def projects(*, limit: int | None = None, after: str | None = None) -> Call:
    """The repositories that colonies work on."""
    return _get("/api/projects", {"limit": limit, "after": after}, reply="ProjectView", many=True)


def project(name: str) -> Call:
    """One project."""
    return _get(f"/api/projects/{_part(name)}", reply="ProjectView")


def add_project(repo: str, *, name: str | None = None) -> Call:
    """Begins to clone a repository; events tell how far it is."""
    return _post("/api/projects", {"repo": repo, "name": name}, reply="ProjectView")


def remove_project(name: str, *, discard: str | None = None) -> Call:
    """Removes a project with its repository; `discard` as in `remove`."""
    return attrs.evolve(_get(f"/api/projects/{_part(name)}", {"discard": discard}), method="DELETE")


def diff(ref: str) -> Call:
    """What a colony changed."""
    return _get(f"{_colony(ref)}/diff", reply="DiffView")


def history(ref: str, *, after: str | None = None, limit: int | None = None) -> Call:
    """The commits of a colony's own, the newest first: behind the commit `after`, or from the newest on."""
    return _get(f"{_colony(ref)}/history", {"after": after, "limit": limit}, reply="CommitView", many=True)


def describe(ref: str, message: str) -> Call:
    """Gives a colony's newest change a message."""
    return _post(f"{_colony(ref)}/describe", {"message": message}, reply="CommitView")


def merge(
    ref: str, *, target: str | None = None, message: str | None = None, ff: str | None = None, dry_run: bool = False
) -> Call:
    """Merges a colony's work into its target, or another branch; `ff` is auto, only or never."""
    body = {"target": target, "message": message, "ff": ff, "dry_run": dry_run}
    return _post(f"{_colony(ref)}/merge", body, reply="MergeView")


def undo(ref: str, *, all: bool = False, to: str | None = None) -> Call:  # noqa: A002 - the API's word
    """Takes back what is not committed, else the last commit; or `all`; or goes `to` a commit or ref."""
    return _post(f"{_colony(ref)}/undo", {"all": all, "to": to}, reply="UndoView")


def push(ref: str, *, branch: str | None = None, merged: bool = False) -> Call:
    """Puts a colony's work onto a branch of its origin; `merged`: what its target is after merges."""
    return _post(f"{_colony(ref)}/push", {"branch": branch, "merged": merged}, reply="PushView")


def services(ref: str) -> Call:
    """The services of a colony."""
    return _get(f"{_colony(ref)}/services", reply="ServiceView", many=True)


def service(ref: str, name: str, verb: Verb, *, grace: float | None = None) -> Call:
    """Starts, stops or restarts one service; to start takes no `grace`, and no body."""
    path = f"{_colony(ref)}/services/{_part(name)}/{verb}"
    return Call(method="POST", path=path, body=_given(grace=grace) or None, reply="ServiceView")


def logs(
    ref: str,
    *,
    after: int | None = None,
    limit: int | None = None,
    tail: int | None = None,
    services: Iterable[str] = (),
    since: Moment | None = None,
    until: Moment | None = None,
) -> Call:
    """Lines of a colony's log: behind the number `after`, or the last `tail`."""
    query = {"after": after, "limit": limit, "tail": tail, "service": services, "since": since, "until": until}
    return _get(f"{_colony(ref)}/logs", query, reply="LogPageView")


def follow_logs(ref: str, *, after: int | None = None, tail: int | None = None, services: Iterable[str] = ()) -> Call:
    """A colony's log as it grows; for `Client.stream_lines`. Events are `line` (a LogLineView) and `missed` (first, last)."""
    query = {"after": after, "tail": tail, "service": services}
    return _get(f"{_colony(ref)}/logs/stream", query, reply="LogLineView")


def reload() -> Call:
    """Reads the daemon's settings again."""
    return Call(method="POST", path="/api/system/reload", reply="ReloadView")


def usage(*, after: str | None = None, limit: int | None = None) -> Call:
    """What every colony uses; see `UsageView`."""
    return _get("/api/usage", {"after": after, "limit": limit}, reply="UsageView", many=True)


def events(
    *,
    after: int | None = None,
    limit: int | None = None,
    wait_seconds: float | None = None,
    colonies: Iterable[str] = (),
    services: Iterable[str] = (),
    kinds: Iterable[str] = (),
) -> Call:
    """Events behind the number `after`, as plain objects; with `wait_seconds` waits for the first."""
    query = {"after": after, "limit": limit, "wait_seconds": wait_seconds}
    return _get("/api/events", {**query, "colony": colonies, "service": services, "kind": kinds})


def follow_events(
    *,
    after: int | None = None,
    colonies: Iterable[str] = (),
    services: Iterable[str] = (),
    kinds: Iterable[str] = (),
) -> Call:
    """Events as they happen; for `Client.stream_lines`. They come as `event`, and a hole as `missed`; the data is the object."""
    query = {"after": after, "colony": colonies, "service": services, "kind": kinds}
    return _get("/api/events/stream", query)


def tokens(*, person: str | None = None, after: str | None = None, limit: int | None = None) -> Call:
    """The keys to the API, without their secrets: all that one may see, or a person's."""
    return _get("/api/tokens", {"person": person, "after": after, "limit": limit}, reply="TokenView", many=True)


def mint_token(
    name: str,
    *,
    role: str = "ape",
    seconds: float | None = None,
    colony: str | None = None,
    person: str | None = None,
) -> Call:
    """A new key; its token is told once, in this answer."""
    body = {"name": name, "role": role, "seconds": seconds, "colony": colony, "person": person}
    return _post("/api/tokens", body, reply="TokenView")


def login() -> Call:
    """A link that opens a browser's session, once and within a minute."""
    return Call(method="POST", path="/api/logins", reply="LoginView")


def logout() -> Call:
    """Ends the browser's session that asks."""
    return Call(method="POST", path="/api/logout")


def audit(
    *,
    after: int | None = None,
    limit: int | None = None,
    wait_seconds: float | None = None,
    person: str | None = None,
    target: str | None = None,
) -> Call:
    """Writes, done and refused, behind the number `after`, or the newest; a person's, or those about a colony."""
    query = {"after": after, "limit": limit, "wait_seconds": wait_seconds, "person": person, "target": target}
    return _get("/api/audit", query, reply="AuditView", many=True)


def revoke_token(token_id: str) -> Call:
    """Ends a key."""
    return Call(method="DELETE", path=f"/api/tokens/{_part(token_id)}")


def revoke_tokens(person: str) -> Call:
    """Ends every key of a person, and what is open by them."""
    return Call(method="DELETE", path="/api/tokens", query=(("person", person),))


def terminals(ref: str, *, after: str | None = None, limit: int | None = None) -> Call:
    """The terminals of a colony, the oldest first."""
    return _get(f"{_colony(ref)}/terminals", {"after": after, "limit": limit}, reply="TerminalView", many=True)


def open_terminal(
    ref: str,
    *,
    command: Sequence[str] = (),
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    rows: int = 24,
    columns: int = 80,
    term: str = "xterm-256color",
) -> Call:
    """A new terminal with `command`, else with what the manifest says, else with the user's shell."""
    screen = {"rows": rows, "columns": columns, "term": term}
    body = {"command": list(command), "cwd": cwd, "env": dict(env or {}), "screen": screen}
    return _post(f"{_colony(ref)}/terminals", body, reply="TerminalView")


def close_terminal(ref: str, terminal: str) -> Call:
    """Hangs up on a terminal's program; answers when its whole tree is gone."""
    return Call(method="DELETE", path=f"{_colony(ref)}/terminals/{_part(terminal)}")


def terminal_path(
    ref: str,
    terminal: str,
    *,
    after: int | None = None,
    rows: int | None = None,
    columns: int | None = None,
    read_only: bool = False,
) -> str:
    """Where the WebSocket of a terminal is, that begins behind the place `after`; with rows and columns it has a say in the size."""
    query = {"after": after, "rows": rows, "columns": columns, "read_only": "true" if read_only else None}
    return _get(f"{_colony(ref)}/terminals/{_part(terminal)}", query).url


def backends() -> Call:
    """The kinds of coding agents, and which can work; see `BackendView`."""
    return _get("/api/backends", {}, reply="BackendView", many=True)


def sessions(
    *,
    state: str | None = None,
    owner: str | None = None,
    name: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Call:
    """The agents of all colonies, by the colony's name; or those in a state, of a person's colonies, of colonies named so (`web-*`)."""
    query = {"state": state, "owner": owner, "name": name, "after": after, "limit": limit}
    return _get("/api/sessions", query, reply="AgentView", many=True)


def agent(ref: str) -> Call:
    """A colony's agent."""
    return _get(f"{_colony(ref)}/agent", reply="AgentView")


def instruct(ref: str, instruction: str, *, follow_up: bool = False, agent: Mapping[str, Any] | None = None) -> Call:
    """An instruction for a colony's agent; `follow_up` goes on with the conversation there is."""
    verb = "continue" if follow_up else "instruct"
    body = {"instruction": instruction, "agent": agent or None}
    return _post(f"{_colony(ref)}/{verb}", body, reply="AgentView")


def interrupt(ref: str) -> Call:
    """Asks a colony's agent to stop."""
    return Call(method="POST", path=f"{_colony(ref)}/interrupt", reply="AgentView")


def receipt(ref: str) -> Call:
    """What the daemon's own look at an agent's last finished work has shown."""
    return _get(f"{_colony(ref)}/receipt", reply="ReceiptView")


def approvals(ref: str, *, decision: str | None = None, after: str | None = None, limit: int | None = None) -> Call:
    """What a colony's agent has asked, the newest first; only what is `open`, `allowed`, `denied` or `void`."""
    query = {"decision": decision, "after": after, "limit": limit}
    return _get(f"{_colony(ref)}/approvals", query, reply="ApprovalView", many=True)


def decide(ref: str, approval: str, *, allow: bool, message: str = "") -> Call:
    """Answers a question of a colony's agent."""
    body = {"allow": allow, "message": message}
    return _post(f"{_colony(ref)}/approvals/{_part(approval)}", body, reply="ApprovalView")


def feed(ref: str, *, after: int | None = None, limit: int | None = None) -> Call:
    """Lines of what a colony's agent did: behind the number `after`, or the newest."""
    return _get(f"{_colony(ref)}/feed", {"after": after, "limit": limit}, reply="FeedLineView", many=True)


def follow_feed(ref: str, *, after: int | None = None, tail: int | None = None) -> Call:
    """A colony's feed as it grows; for `Client.stream_lines`. Events are `line` (a FeedLineView)."""
    return _get(f"{_colony(ref)}/feed/stream", {"after": after, "tail": tail}, reply="FeedLineView")


def exec_path(ref: str) -> str:
    """Where the WebSocket for running a command in a colony is."""
    return f"{_colony(ref)}/exec"


def _colony(ref: str) -> str:
    return f"/api/colonies/{_part(ref)}"


def _part(text: str) -> str:
    if not text or text in {".", ".."}:
        raise Invalid("invalid-name", f"{text!r} is neither a name nor an id", "colony ls shows the names")
    return quote(text, safe="")


def _get(path: str, query: Mapping[str, Any] | None = None, *, reply: str | None = None, many: bool = False) -> Call:
    pairs: list[tuple[str, str]] = []
    for key, value in (query or {}).items():
        if value is None:
            continue
        values: Sequence[Any] = [value] if isinstance(value, (str, int, float)) else sorted(value)
        pairs += [(key, str(one)) for one in values]
    return Call(method="GET", path=path, query=tuple(pairs), reply=reply, many=many)


def _post(path: str, body: Mapping[str, Any], *, reply: str | None = None) -> Call:
    return Call(method="POST", path=path, body={k: v for k, v in body.items() if v is not None}, reply=reply)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
