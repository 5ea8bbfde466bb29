"""Every command as a table: for the list that `colony` prints, for lazy loading, and for the shell's tab key. Knows no library."""

from typing import NamedTuple


class Entry(NamedTuple):
    """A command: its words, the module it lives in, its group in the list, its promise, what its arguments are."""

    name: str
    module: str
    group: str
    short: str
    arguments: str = ""

    @property
    def function(self) -> str:
        """The name of its function in its module."""
        return self.name.replace(" ", "_") + "_command"


class Branch(NamedTuple):
    """A noun with commands of its own."""

    name: str
    group: str
    short: str


_C, _W, _A, _H = "COLONIES", "THEIR WORK", "AGENTS AT WORK", "HOUSE"

ENTRIES = (
    Entry("spawn", "colonies", _C, "make a colony from a folder and start it", "NAME"),
    Entry("ls", "colonies", _C, "list colonies", ""),
    Entry("show", "colonies", _C, "one colony: state, addresses, services, steps", "COLONY"),
    Entry("start", "lifecycle", _C, "start colonies", "COLONY..."),
    Entry("stop", "lifecycle", _C, "stop colonies and keep them", "COLONY..."),
    Entry("restart", "lifecycle", _C, "stop and start colonies", "COLONY..."),
    Entry("apply", "lifecycle", _C, "take over an edited colony.toml; restart only what changed", "COLONY"),
    Entry("rm", "lifecycle", _C, "remove colonies: processes, network, record and log", "COLONY..."),
    Entry("wait", "lifecycle", _C, "wait until a colony is in a state", "COLONY"),
    Entry("logs", "logs", _C, "what the services say", "COLONY SERVICE..."),
    Entry("top", "top", _C, "what colonies use: processor, memory, network, log", "COLONY..."),
    Entry("exec", "terminals", _C, "run a command inside a colony", "COLONY"),
    Entry("attach", "attach", _C, "a terminal in a colony that stays when you leave it", "COLONY TERMINAL"),
    Entry("terminal ls", "attach", _C, "list the terminals of a colony", "COLONY"),
    Entry("terminal rm", "attach", _C, "end terminals", "COLONY TERMINAL..."),
    Entry("open", "colonies", _C, "the address of a service, in the browser where there is one", "COLONY SERVICE"),
    Entry("service ls", "services", _C, "list the services of a colony", "COLONY"),
    Entry("service start", "services", _C, "start a service", "COLONY SERVICE"),
    Entry("service stop", "services", _C, "stop a service", "COLONY SERVICE"),
    Entry("service restart", "services", _C, "restart a service", "COLONY SERVICE"),
    Entry("diff", "changes", _W, "what a colony changed", "COLONY"),
    Entry("history", "changes", _W, "the commits of a colony's own", "COLONY"),
    Entry("describe", "changes", _W, "give a colony's newest change a message", "COLONY"),
    Entry("merge", "changes", _W, "merge a colony's work", "COLONY"),
    Entry("undo", "changes", _W, "take back a colony's last change", "COLONY"),
    Entry("push", "changes", _W, "push a colony's work", "COLONY"),
    Entry("project add", "projects", _W, "clone a repository for colonies", "PATH"),
    Entry("project ls", "projects", _W, "list projects", ""),
    Entry("project rm", "projects", _W, "remove a project and its repository", "NAME"),
    Entry("instruct", "sessions", _A, "give a colony's agent an instruction", "COLONY"),
    Entry("feed", "sessions", _A, "what a colony's agent says and does", "COLONY"),
    Entry("why", "sessions", _A, "what an agent is at, and what shows it", "COLONY"),
    Entry("approve", "sessions", _A, "allow what an agent asks", "COLONY"),
    Entry("deny", "sessions", _A, "deny what an agent asks", "COLONY"),
    Entry("answer", "sessions", _A, "answer a question of an agent's", "COLONY"),
    Entry("mcp", "sessions", _A, "a colony's tools, for an agent that you start in it yourself", ""),
    Entry("interrupt", "sessions", _A, "ask an agent to stop", "COLONY"),
    Entry("backend ls", "backends", _A, "the kinds of coding agents, and which one works", ""),
    Entry("backend check", "backends", _A, "whether a coding agent can work here", "BACKEND"),
    Entry("backend hld start", "hld", _A, "start HumanLayer's daemon for colonies", ""),
    Entry("backend hld status", "hld", _A, "whether HumanLayer's daemon answers, and where", ""),
    Entry("init", "init", _H, "write a commented colony.toml and settings file", "PATH"),
    Entry("serve", "server", _H, "run the daemon here, in the foreground", ""),
    Entry("shutdown", "server", _H, "end the daemon; colonies go on unless --colonies", ""),
    Entry("reload", "server", _H, "have the daemon read its settings again", ""),
    Entry("status", "house", _H, "the daemon: version, addresses, mode", ""),
    Entry("tree", "house", _H, "who supervises whom, since when, how often restarted", ""),
    Entry("events", "house", _H, "what happened, and what happens", ""),
    Entry("doctor", "house", _H, "what this machine lacks, and how to mend it", ""),
    Entry("config show", "config", _H, "every setting, with --origin who said so", ""),
    Entry("config check", "config", _H, "whether the settings are right, before a daemon reads them", ""),
    Entry("config path", "config", _H, "the files that settings are read from", ""),
    Entry("config edit", "config", _H, "open your settings file in an editor, and check it", ""),
    Entry("config schema", "config", _H, "the JSON schema of the settings file or of colony.toml, for editors", ""),
    Entry("audit", "access", _H, "who changed what, from where, and how it ended", ""),
    Entry("login", "access", _H, "a link that logs a browser in, once", ""),
    Entry("token create", "tokens", _H, "make a key to the API", "NAME"),
    Entry("token ls", "tokens", _H, "list keys", ""),
    Entry("token revoke", "tokens", _H, "end a key", "ID"),
    Entry("dns dnsmasq", "dns", _H, "what a dnsmasq must be told to find previews by name", ""),
    Entry("completion", "house", _H, "the script for the shell's tab key", "SHELL"),
    Entry("version", "house", _H, "the command's version and the daemon's", ""),
    Entry("help", "topics", _H, "exit-codes, environment, formatting, concepts", "TOPIC"),
)

BRANCHES = (
    Branch("terminal", _C, "ls, rm: the terminals of a colony"),
    Branch("service", _C, "ls, start, stop, restart one service"),
    Branch("backend", _A, "ls, check: coding agents; hld start, hld status"),
    Branch("backend hld", _A, "start, status: HumanLayer's daemon"),
    Branch("project", _W, "add, ls, rm: repositories that colonies work on"),
    Branch("config", _H, "show, check, path, edit, schema: the settings"),
    Branch("dns", _H, "names of previews for programs that find none below localhost"),
    Branch("token", _H, "create, ls, revoke keys to the API"),
)

ALIASES = {"list": "ls", "remove": "rm"}
SHELLS = ("bash", "zsh", "fish")
TOPICS = ("concepts", "environment", "exit-codes", "formatting")


def find(words: str) -> Entry | None:
    """The command of these words, aliases understood."""
    branch, _, verb = words.rpartition(" ")
    name = f"{branch} {ALIASES.get(verb, verb)}".strip()
    return next((entry for entry in ENTRIES if entry.name == name), None)


def branch(words: str) -> Branch | None:
    """The branch of these words."""
    return next((branch for branch in BRANCHES if branch.name == words), None)


def words_of(branch: str) -> list[str]:
    """The commands right under a branch (`""` is the root), in order, without aliases."""
    if branch:
        below = (entry.name.removeprefix(f"{branch} ") for entry in ENTRIES if entry.name.startswith(f"{branch} "))
        return list(dict.fromkeys(name.partition(" ")[0] for name in below))
    return list(dict.fromkeys(entry.name.partition(" ")[0] for entry in ENTRIES))


def grouped() -> dict[str, list[tuple[str, str]]]:
    """What `colony` alone prints: group, then name and promise; a branch is one line."""
    branches = {branch.name: branch for branch in BRANCHES}
    groups: dict[str, list[tuple[str, str]]] = {}
    for entry in ENTRIES:
        head = entry.name.partition(" ")[0]
        line = (head, branches[head].short if head in branches else entry.short)
        group = groups.setdefault(entry.group, [])
        if line not in group:
            group.append(line)
    return groups
