"""Names for the shell's tab key: commands and flags from the table, names from the daemon within a tenth of a second, or nothing."""

import sys
from collections.abc import Iterable, Mapping

from . import tree

NAMES_SECONDS = 0.1

BASH = """\
_colony() {
    local IFS=$'\\n'
    COMPREPLY=($(COLUMNS=0 "${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [ "${COMPREPLY[0]}" = ":files" ]; then
        COMPREPLY=()
        compopt -o default 2>/dev/null
    fi
}
complete -F _colony colony mycelium"""

ZSH = """\
#compdef colony mycelium
_colony() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ "${found[1]}" == ":files" ]]; then
        _files
    elif [[ -n "${found[1]}" ]]; then
        compadd -a found
    fi
}
if [[ "${funcstack[1]}" == "_colony" ]]; then
    _colony "$@"
else
    compdef _colony colony mycelium
fi"""

FISH = """\
function __colony_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c colony -f -a '(__colony_complete)'
complete -c mycelium -f -a '(__colony_complete)'"""

_TAKES_VALUE = frozenset(
    ("--format", "--server", "--timeout", "--from", "--template", "--state", "--grace", "--tail", "-n", "--since", "--until",
     "--for", "--after", "--bind", "--port", "--preview-port", "--mode", "--role", "--detach-keys", "--owner",
     "--name", "--person", "--target", "--only")
)  # fmt: skip
_VALUES = {
    "--state": ("spawning", "provisioning", "building", "running", "stopping", "stopped", "failed"),
    "--for": ("running", "ready", "stopped", "failed", "gone", "done"),
    "--mode": ("auto", "root", "ambient", "rootless"),
    "--role": ("ape", "viewer"),
}
FILES = (":files",)


def script(shell: str) -> str:
    """What a shell evaluates."""
    return {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]


def complete(words: list[str], environ: Mapping[str, str]) -> int:
    """Prints what may stand in the place of the last word, one per line; `:files` leaves it to the shell. Never fails loudly."""
    try:
        found = sorted(
            word for word in candidates(words, environ) if word.startswith(words[-1] if words else "") or word in FILES
        )
        sys.stdout.write("".join(f"{word}\n" for word in found))
    except Exception:  # the shell's line must not be torn by whatever went wrong
        return 1
    return 0


def candidates(words: list[str], environ: Mapping[str, str]) -> Iterable[str]:
    """What may stand in the place of the last word."""
    *before, current = words or [""]
    if "--" in before:
        return FILES
    if before and before[-1] == "--template":
        return _templates(environ)
    if before and before[-1] in _TAKES_VALUE:
        return _VALUES.get(before[-1], FILES if before[-1] in ("--from", "--server") else ())
    plain = _without_flags(before)
    branch = next((name for end in (2, 1) if tree.branch(name := " ".join(plain[:end]))), "")
    depth = len(branch.split()) + 1
    if current.startswith("-"):
        return _flags(" ".join(plain[:depth]))
    if len(plain) < depth:
        return tree.words_of(branch)
    entry = tree.find(" ".join(plain[:depth]))
    return _arguments(entry, plain[depth:], environ) if entry else ()


def _without_flags(words: list[str]) -> list[str]:
    plain: list[str] = []
    skip = False
    for word in words:
        if not skip and not word.startswith("-"):
            plain.append(word)
        skip = not skip and word in _TAKES_VALUE
    return plain


def _flags(words: str) -> list[str]:
    import click

    from .root import root

    command: click.Command | None = root()
    context = click.Context(root())
    for word in words.split():
        command = command.get_command(context, word) if isinstance(command, click.Group) else None
    params = command.params if command else root().params
    return [
        name for param in params if isinstance(param, click.Option) for name in param.opts if name.startswith("--")
    ] + ["--help"]


def _arguments(entry: tree.Entry, given: list[str], environ: Mapping[str, str]) -> Iterable[str]:
    kinds = entry.arguments.split()
    kind = kinds[min(len(given), len(kinds) - 1)] if kinds else ""
    if len(given) >= len(kinds) and not kind.endswith("..."):
        return FILES if entry.name == "exec" else ()
    match kind.removesuffix("..."):
        case "COLONY":
            return [name for name in _names(environ) if name not in given]
        case "SERVICE":
            return [name for name in _services(given[0], environ) if name not in given[1:]]
        case "TERMINAL":
            return [name for name in _terminals(given[0], environ) if name not in given[1:]]
        case "SHELL":
            return tree.SHELLS
        case "TOPIC":
            return tree.TOPICS
        case "PATH":
            return FILES
    return ()


def _templates(environ: Mapping[str, str]) -> set[str]:
    from colony_core.config import default_folders

    own = {file.stem for file in default_folders(environ).templates.glob("*.toml") if not file.name.startswith(".")}
    return own | {"web-app", "api-service", "full-stack"}


def _names(environ: Mapping[str, str]) -> list[str]:
    from colony_core.remote import Client, calls, discover

    client = Client(discover(environ=environ), answer_seconds=NAMES_SECONDS)
    return [view["name"] for view in client.send_all(calls.colonies())]


def _terminals(name: str, environ: Mapping[str, str]) -> list[str]:
    from colony_core.remote import Client, calls, discover

    client = Client(discover(environ=environ), answer_seconds=NAMES_SECONDS)
    return [view["id"] for view in client.send_all(calls.terminals(name))]


def _services(name: str, environ: Mapping[str, str]) -> list[str]:
    from colony_core.remote import Client, calls, discover

    client = Client(discover(environ=environ), answer_seconds=NAMES_SECONDS)
    return [view["name"] for view in client.send_raw(calls.services(name))]
