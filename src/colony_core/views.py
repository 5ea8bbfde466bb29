"""What the outside sees of the house, and what it may ask of it: one frozen attrs class per noun.

Moments are RFC 3339 text in UTC; durations are seconds; sizes are bytes. Fields are only ever added.

The file is long because every noun that the outside sees stands in it.
"""

from typing import Any, Literal

import attrs


@attrs.frozen(kw_only=True)
class StepView:
    """One step of a start and how long it took, in seconds."""

    name: str
    detail: str
    seconds: float


@attrs.frozen(kw_only=True)
class ServiceView:
    """A service of a colony. `state`: waiting, starting, ready, restarting, stopping, stopped, finished, failed."""

    name: str
    colony: str
    colony_id: str
    state: str
    reason: str
    since: str
    command: str
    port: int | None
    url: str | None
    pid: int | None
    restarts: int
    last_exit: str | None
    depends_on: tuple[str, ...]
    restart: str


@attrs.frozen(kw_only=True)
class LinkView:
    """A link of a colony to another one, or to one service of it. `name` is what the colony calls it; `port` None means every port."""

    to: str
    colony: str
    service: str | None
    works: bool
    reason: str
    name: str
    address: str | None
    port: int | None


@attrs.frozen(kw_only=True)
class UsageView:
    """What a colony uses: counters whose difference over time is a rate. They begin anew with its cell.

    A process that ends takes what it used with it, unless its parent waited for it. Memory counts shared pages once for each process;
    traffic is what crossed the cable.
    """

    colony: str
    colony_id: str
    state: str
    at: str
    services: int
    processes: int
    cpu_seconds: float
    memory_bytes: int
    received_bytes: int
    sent_bytes: int
    log_lines: int


@attrs.frozen(kw_only=True)
class BackendView:
    """A kind of coding agent: whether it can work on this machine, what shows it, and what to do where it cannot.

    `chosen` is the one that works where nobody names one, as the settings say; `why` tells what they say and who was passed over.
    """

    name: str
    ready: bool
    detail: str
    hint: str
    version: str
    chosen: bool
    why: str


@attrs.frozen(kw_only=True)
class AgentGlance:
    """A colony's agent in few words; all of it is an AgentView. `asks` counts the questions that wait for a person."""

    state: str
    reason: str
    since: str
    instruction: str
    cost_usd: float
    asks: int


@attrs.frozen(kw_only=True)
class ProjectView:
    """A repository that colonies work on. `state`: cloning, ready, failed. `folder` is the shared repository on the daemon's machine."""

    name: str
    url: str
    state: str
    reason: str
    owner: str
    created_at: str
    folder: str
    colonies: tuple[str, ...]


@attrs.frozen(kw_only=True)
class WorkspaceView:
    """A colony's working copy. `kind`: jj or git; `state`: planned, ready.

    Work begins at the commit `base` and goes to the branch `target`.
    `colocated` says of one of jj's whether git works in it too.
    """

    project: str
    kind: str
    state: str
    path: str
    target: str
    base: str
    colocated: bool
    notes: tuple[str, ...]


@attrs.frozen(kw_only=True)
class FileChangeView:
    """A changed file. `status` is git's letter (A, M, D, R, …); lines are None for a binary file."""

    path: str
    status: str
    added: int | None
    removed: int | None


@attrs.frozen(kw_only=True)
class DiffView:
    """What a colony changed, committed or not, since its work and its target parted; `cut` where the patch is longer than is told."""

    colony: str
    base: str
    commit: str
    target: str
    files: tuple[FileChangeView, ...]
    patch: str
    cut: bool


@attrs.frozen(kw_only=True)
class CommitView:
    """A commit; `change_id` is jj's name for it, `uncommitted` says that nobody has made it a commit yet."""

    id: str
    change_id: str | None
    author: str
    at: str
    message: str
    uncommitted: bool


@attrs.frozen(kw_only=True)
class ConflictView:
    """A file in conflict, and its conflicts as jj or git write them."""

    path: str
    text: str


@attrs.frozen(kw_only=True)
class MergeView:
    """A merge. `outcome`: merged, fast-forward, nothing (all was there), conflicts (only told of a dry run). `commit`: the target's now."""

    colony: str
    target: str
    outcome: str
    commit: str
    conflicts: tuple[ConflictView, ...]
    dry_run: bool


@attrs.frozen(kw_only=True)
class UndoView:
    """What was undone, as a sentence; `kept` is a ref with the state before, and `commit` where the workspace is now."""

    colony: str
    undone: str
    kept: str
    commit: str


@attrs.frozen(kw_only=True)
class PushView:
    """Where a colony's work was put."""

    colony: str
    url: str
    branch: str
    commit: str


@attrs.frozen(kw_only=True)
class ColonyView:
    """A colony. `state`: spawning, provisioning, building, running, stopping, stopped, failed."""

    id: str
    name: str
    garden: str
    owner: str
    state: str
    reason: str
    since: str
    created_at: str
    description: str
    template: str | None
    source: str
    user: str
    namespace: str
    address: str | None
    url: str | None
    start_seconds: float | None
    steps: tuple[StepView, ...]
    services: tuple[ServiceView, ...]
    links: tuple[LinkView, ...] = ()
    notes: tuple[str, ...]
    limits: dict[str, str]
    environment: dict[str, str]
    terminal: str | None
    agent: AgentGlance | None = None
    """None where it was never instructed."""
    workspace: WorkspaceView | None = None


@attrs.frozen(kw_only=True)
class TerminalView:
    """A terminal in a colony. `idle_seconds` since its last input or output; `viewers` look at it now."""

    id: str
    colony: str
    colony_id: str
    command: str
    opened_by: str
    opened_at: str
    pid: int
    rows: int
    columns: int
    viewers: int
    idle_seconds: float


@attrs.frozen
class TerminalSize:
    """Rows and columns, 1 to 4096 of each."""

    rows: int
    columns: int


@attrs.frozen
class TerminalPlace:
    """Where a terminal's next byte of output stands, counted from its first; `missed` bytes before it are gone.

    `restore` is for the screen that shows it: it brings a fresh terminal into the modes that were set there.
    """

    at: int
    missed: int
    restore: str


@attrs.frozen
class TerminalEnd:
    """The end of a terminal's program, behind its last output; `why` says `idle` where nobody used it for too long."""

    code: int
    why: str


@attrs.frozen(kw_only=True)
class LogLineView:
    """One line of a colony's log. `stream`: out, err, or note (Colony's own words)."""

    seq: int
    at: str
    service: str
    stream: str
    text: str


@attrs.frozen(kw_only=True)
class LogPageView:
    """Lines of a log with the numbers that are still kept; `missed` lines before the first were asked for and are gone.

    Fewer than were asked for where lines are long: ask again behind the last of them.
    """

    lines: tuple[LogLineView, ...]
    first: int
    last: int
    missed: int


@attrs.frozen(kw_only=True)
class SystemView:
    """The daemon: who it is, where it listens, how it isolates."""

    version: str
    api: int
    pid: int
    started_at: str
    mode: str
    egress: str
    garden: str
    domain: str
    preview_port: int | None
    socket: str | None
    state_folder: str
    colonies: int
    last_event: int
    keeper_pid: int | None
    notes: tuple[str, ...]
    api_url: str | None = None
    preview_url: str | None = None


@attrs.frozen(kw_only=True)
class ApplyView:
    """What an edited manifest changed, as sentences, and the services that were restarted for it.

    `version` names this difference: from the manifest in force before to the one that was read.
    """

    colony: ColonyView
    changes: tuple[str, ...]
    restarted: tuple[str, ...]
    dry_run: bool
    version: str = ""


@attrs.frozen(kw_only=True)
class TokenView:
    """A key to the API; `token` is told once, when it is made. `person` is whose it is, `browser` that it is a browser's session."""

    id: str
    name: str
    role: str
    created_at: str
    token: str | None = attrs.field(default=None, repr=False)
    person: str = ""
    colony: str | None = None
    browser: bool = False
    expires_at: str | None = None
    last_used_at: str | None = None


@attrs.frozen(kw_only=True)
class LoginView:
    """A link that opens a browser's session, once and soon. The code in it is told this once."""

    url: str = attrs.field(repr=False)
    path: str = attrs.field(repr=False)
    seconds: float


@attrs.frozen(kw_only=True)
class AuditView:
    """A write that was asked for, done or refused. `who` is None for a stranger; `skipped` strangers' writes before it were not noted.

    `command` is what was run or opened, without the secrets that can be told from their names.
    """

    seq: int
    at: str
    who: str | None
    name: str
    role: str
    person: str
    source: str
    method: str
    path: str
    target: str
    status: int
    code: str
    request_id: str
    skipped: int
    command: str = ""


@attrs.frozen(kw_only=True)
class NewColony:
    """Asks for a colony made from the folder `path` (which holds `colony.toml`, unless `template` names one).

    `task` is the first instruction for its agent, `agent` how that works.
    Or, instead of a path, from a repository: `repo` is a project, a folder, a URL or `user/app`. Its work begins at `branch`, in a
    `workspace` of jj or git (auto: jj where it is there).
    """

    name: str
    path: str | None = None
    template: str | None = None
    start: bool = True
    dry_run: bool = False
    task: str | None = None
    agent: "AgentSettings | None" = None
    repo: str | None = None
    branch: str | None = None
    workspace: Literal["auto", "jj", "git"] = "auto"


@attrs.frozen(kw_only=True)
class NewProject:
    """Asks for a project of a repository: a URL, a folder or `user/app`. Its name is made of that where none is given."""

    repo: str
    name: str | None = None


@attrs.frozen(kw_only=True)
class DescribeRequest:
    """The message for a colony's newest change."""

    message: str


@attrs.frozen(kw_only=True)
class MergeRequest:
    """How to merge a colony's work into `target` (default: where it came from). `ff`: auto, only, never. A dry run only tries."""

    target: str | None = None
    message: str | None = None
    ff: Literal["auto", "only", "never"] = "auto"
    dry_run: bool = False


@attrs.frozen(kw_only=True)
class UndoRequest:
    """What to undo: what is not committed, else the last commit; with `all` everything since the base; `to` goes to a commit or ref."""

    all: bool = False
    to: str | None = None


@attrs.frozen(kw_only=True)
class PushRequest:
    """Where to push a colony's work: `branch` (default: colony/NAME). With `merged` the target goes instead, as it is after merges."""

    branch: str | None = None
    merged: bool = False


@attrs.frozen(kw_only=True)
class StopRequest:
    """How to stop: `grace` seconds for every service instead of its own."""

    grace: float | None = None


@attrs.frozen(kw_only=True)
class ApplyRequest:
    """How to take over an edited manifest: with `dry_run` only the difference is told."""

    dry_run: bool = False


@attrs.frozen(kw_only=True)
class NewToken:
    """Asks for a key. `role`: ape (all), viewer (read only), agent (of `colony`), garden.

    It lasts `seconds`, or until it is revoked. `person` is whose it is; only the daemon's own user makes keys for others.
    """

    name: str
    role: str = "ape"
    seconds: float | None = None
    colony: str | None = None
    person: str | None = None


@attrs.frozen(kw_only=True)
class Screen:
    """What shows a terminal: its rows and columns, and its kind (TERM)."""

    rows: int = 24
    columns: int = 80
    term: str = "xterm-256color"


@attrs.frozen(kw_only=True)
class ExecRequest:
    """A command to run in a colony's cell, in its folder or `cwd`, with `env` over the colony's environment.

    With `screen` it runs on a terminal of that size and kind, else with pipes.
    """

    command: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = attrs.field(factory=dict)
    screen: Screen | None = None


@attrs.frozen(kw_only=True)
class NewTerminal:
    """Asks for a terminal: with `command`, else with what the manifest's `[terminal]` says, else with the user's shell.

    `env` goes over the colony's environment; the size of `screen` is the terminal's first one.
    """

    command: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = attrs.field(factory=dict)
    screen: Screen = attrs.field(factory=Screen)


@attrs.frozen(kw_only=True)
class ReloadView:
    """Settings that were read again: the keys that changed and are in force, and those that wait for the next start of the daemon."""

    changed: tuple[str, ...]
    waiting: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ShutdownRequest:
    """How to end the daemon: with `colonies` everything stops, without they go on and are found again."""

    colonies: bool = False


@attrs.frozen(kw_only=True)
class AgentSettings:
    """How an agent shall work; None: as the colony, its project or the machine says. Zero or empty: no limit, or as the agent likes.

    `permissions` says what goes without asking a person: `ask` (what the agent thinks harmless), `edits` (also edits in its workspace),
    `all`. `allowed_tools` are the only ones; without them all are. `timeout` is in seconds, for one instruction; the budget is for the
    colony's whole life.
    """

    backend: str | None = None
    model: str | None = None
    max_turns: int | None = None
    allowed_tools: tuple[str, ...] | None = None
    disallowed_tools: tuple[str, ...] | None = None
    system_prompt: str | None = None
    append_system_prompt: str | None = None
    permissions: str | None = None
    timeout: float | None = None
    budget_usd: float | None = None
    budget_tokens: int | None = None
    budget_turns: int | None = None
    budget_minutes: float | None = None


@attrs.frozen(kw_only=True)
class NewInstruction:
    """An instruction for a colony's agent, and how it shall work from now on."""

    instruction: str
    agent: AgentSettings | None = None


@attrs.frozen(kw_only=True)
class ApprovalView:
    """A question of an agent's, whether it may use a tool. `decision`: none yet, allowed, denied, or void (nobody waits any more)."""

    id: str
    colony: str
    colony_id: str
    tool: str
    kind: str
    summary: str
    input: dict[str, Any]
    asked_at: str
    decision: str | None = None
    decided_at: str | None = None
    decided_by: str | None = None
    message: str = ""


@attrs.frozen(kw_only=True)
class Decision:
    """An answer to a question of an agent's; `message` is told to the agent.

    Where Claude Code asks several questions at once, a message whose lines each begin with a question's header or number and a colon
    (`1: blue`) answers each by itself; any other answers them all.
    """

    allow: bool
    message: str = ""


@attrs.frozen(kw_only=True)
class CheckView:
    """A check that was run. `outcome`: passed, failed, too-slow, broken; `tail` are its last lines."""

    name: str
    command: str
    required: bool
    outcome: str
    code: int | None
    seconds: float
    tail: str


@attrs.frozen(kw_only=True)
class ReceiptView:
    """What the daemon's own look at the work has shown. `verdict`: verified, with-gaps, not-verified.

    `tree` is the hash of what the workspace differed in from its base when the checks began, None where it is under no version control;
    the receipt is worth something only for that.
    """

    verdict: str
    reason: str
    at: str
    tree: str | None
    checks: tuple[CheckView, ...]
    current: bool | None = None
    """Whether the workspace is as it was then; None where nobody looked."""


@attrs.frozen(kw_only=True)
class AgentView:
    """A colony's agent. `state`: idle, working, waiting (asks you), done, failed.

    `reason` says in words what it is at, or why; `evidence` what shows it. `result` is its last answer, `code` a stable word for a failure.
    `paused_until` is set while its account has reached a limit. What was used is counted over the colony's whole life. `receipt` is
    of the last work that the agent said was done.
    """

    colony: str
    colony_id: str
    state: str
    reason: str
    since: str
    instruction: str
    backend: str
    session: str | None
    model: str
    result: str
    code: str
    evidence: tuple[str, ...]
    approvals: tuple[ApprovalView, ...]
    paused_until: str | None
    cost_usd: float
    tokens: int
    turns: int
    minutes: float
    budget: str
    last: int
    receipt: ReceiptView | None = None


@attrs.frozen(kw_only=True)
class FeedLineView:
    """A line of what a colony's agent did. `kind`: instruction, text, thinking, tool_use, tool_result, approval, decision, report, usage,
    notice, status; `data` holds the particulars."""

    seq: int
    at: str
    colony: str
    colony_id: str
    kind: str
    content: str
    data: dict[str, Any]
