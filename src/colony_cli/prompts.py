"""Are you sure? Never asks where nobody can answer."""

import sys
from collections.abc import Callable

from colony_core.errors import Invalid


def confirm(question: str, *, yes: bool, ask: Callable[[str], bool]) -> bool:
    """Whether a person says yes; default No. `ask` shows the question and says whether anybody can read it.

    With `yes` nothing is asked; where nobody can answer it raises Invalid, which names `--yes`.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and ask(f"{question} [y/N] ")):
        raise Invalid("cannot-ask", f"{question} There is no terminal to ask on", "add --yes")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def confirm_name(name: str, *, ask: Callable[[str], bool]) -> bool:
    """Whether a person types a name, because what bears it is to be lost; False where nobody can be asked."""
    if not (sys.stdin.isatty() and ask(f"Type {name} to lose it: ")):
        return False
    return sys.stdin.readline().strip() == name
