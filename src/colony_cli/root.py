"""The click group: branches are imported when they are asked for; wrong words get the nearest right one."""

from importlib import import_module
from typing import Any

import click

from colony_core.errors import Invalid, did_you_mean

from . import tree
from .forms import HELP_NAMES, everywhere


class Group(click.Group):
    """The commands under some words (`""` is the root), loaded lazily from the table."""

    def __init__(self, words: str, **kwargs: Any) -> None:
        super().__init__(
            name=words.rpartition(" ")[2] or "colony",
            context_settings=HELP_NAMES,
            invoke_without_command=True,
            **kwargs,
        )
        self.words = words
        self.params = [*self.params, *everywhere()]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return tree.words_of(self.words)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads one."""
        branch = tree.branch(f"{self.words} {cmd_name}".strip())
        if branch:
            return Group(branch.name, help=branch.short)
        entry = tree.find(f"{self.words} {cmd_name}".strip())
        if entry is None:
            return None
        loaded: click.Command = getattr(import_module(f"colony_cli.commands.{entry.module}"), entry.function)
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a wrong word is told the nearest."""
        found = self.get_command(ctx, args[0])
        if found is not None:
            return found.name, found, args[1:]
        nearest = did_you_mean(args[0], [*tree.words_of(self.words), *tree.ALIASES])
        hint = f"did you mean {nearest}?; {ctx.command_path} -h" if nearest else f"{ctx.command_path} -h"
        raise Invalid("unknown-command", f"no command {args[0]!r} under {ctx.command_path}", hint)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, or shows the list where none is given."""
        if not ctx._protected_args and not ctx.args:
            click.echo(ctx.get_help())
            return 0
        return super().invoke(ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The grouped list."""
        lines = [f"{ctx.command_path} COMMAND   {self.help or ''}".rstrip()]
        if self.words:
            groups = {
                "COMMANDS": [
                    (word, found.short)
                    for word in tree.words_of(self.words)
                    if (found := tree.find(f"{self.words} {word}") or tree.branch(f"{self.words} {word}"))
                ]
            }
        else:
            groups = tree.grouped()
        for group, entries in groups.items():
            lines += ["", group, *(f"  {name:<11} {short}" for name, short in entries)]
        lines += ["", "everywhere: --json  --format F  -q  --wide  -v  --no-color  --server S  --timeout T  -y  -h"]
        if not self.words:
            lines += ["", "begin with: colony doctor, colony serve, colony init, colony spawn hello --from PATH"]
        formatter.write("\n".join(lines) + "\n")


def root() -> Group:
    """The whole tree."""
    return Group("", help="runs colonies: services behind network walls of their own, kept alive")
