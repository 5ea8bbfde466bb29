"""The shape of every command: options that are understood everywhere, types of arguments, help with examples."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from colony_core.errors import Invalid, did_you_mean

from .context import Run

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
REASONS = {
    "json": "prints no result",
    "quiet": "has nothing to leave out",
    "format": "prints no result",
    "wide": "prints no table",
    "yes": "asks nothing",
    "timeout": "waits for nothing",
    "server": "asks no daemon",
}
"""Flags that some commands do not take, and why; `-v` and `--no-color` are for all."""
RESULT = frozenset({"json", "quiet", "format"})
TABLE = RESULT | {"wide"}
ASKS = frozenset({"server", "timeout"})

if TYPE_CHECKING:
    _Seconds = click.ParamType[float]
else:
    _Seconds = click.ParamType  # generic since a later version of click than the oldest we accept


class Duration(_Seconds):
    """Seconds, from `10s`, `5m`, `500ms` or a number."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises a usage error for anything else."""
        from colony_core.config import parse_duration

        try:
            number = float(value)
        except ValueError:
            number = None
        try:
            return parse_duration(value if number is None else number)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(_Seconds):
    """A moment as seconds since 1970, from RFC 3339 or from how long ago it was: `5m`."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises a usage error for anything else."""
        from colony_core import clock
        from colony_core.config import parse_duration

        try:
            return clock.parse_rfc3339(value)
        except ValueError:
            pass
        try:
            return clock.unix_now() - parse_duration(value)
        except ValueError:
            self.fail(
                f'expected a moment such as 2026-01-31T08:15:00Z, or "5m" for five minutes ago, got {value!r}',
                param,
                ctx,
            )


class Nearest(click.Choice[str]):
    """One of a few words; a wrong one is told the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises Invalid for anything else."""
        if value in self.choices:
            return str(value)
        nearest = did_you_mean(str(value), list(self.choices))
        raise Invalid(
            "wrong-use",
            f"{param.get_error_hint(ctx) if param and ctx else 'value'}: {value!r} is none of {', '.join(self.choices)}",
            f"did you mean {nearest}?" if nearest else "",
        )


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and value != 0:
        ctx.find_object(Run).flags[str(param.name)] = value  # type: ignore[union-attr]


def everywhere() -> list[click.Option]:
    """The options that may stand before and after a command's name."""
    flag: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": _remember}
    value: dict[str, Any] = {"expose_value": False, "callback": _remember}
    return [
        click.Option(["--json"], help="one JSON object or array; streams: one object per line", **flag),
        click.Option(["-q", "--quiet"], help="names only", **flag),
        click.Option(["--format"], metavar="F", help="such as '{name}\\t{state}'", **value),
        click.Option(["--wide"], help="do not cut tables", **flag),
        click.Option(["-v", "--verbose"], count=True, help="say more; -vv shows tracebacks", **value),
        click.Option(["--no-color"], help="no colours", **flag),
        click.Option(["--server"], metavar="S", help="http://…, https://… or the path of a socket", **value),
        click.Option(["--timeout"], type=Duration(), metavar="T", help="give up waiting, such as 30s", **value),
        click.Option(["-y", "--yes"], help="answer questions with yes", **flag),
    ]


class Command(click.Command):
    """A command with the options of everywhere, help with examples, and its reason where a flag has no effect."""

    def __init__(
        self, *args: Any, takes: frozenset[str], examples: Sequence[str], see: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.takes = takes | {"verbose", "no_color"}
        self.examples = examples
        self.see = see
        self.own = list(self.params)
        self.params = [*self.params, *(o for o in everywhere() if o.name in self.takes)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; but where another program's words follow, NAME may be left out in front of them."""
        if not ctx.allow_interspersed_args and "--" in args:
            own = args[: args.index("--")]
            given, _, _ = self.make_parser(ctx).parse_args(list(own))
            if not isinstance(given.get("name"), str):
                args = [*own, "", *args[len(own) :]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Refuses flags without effect here, then runs."""
        run = ctx.find_object(Run)
        assert run is not None
        for flag in run.flags:
            if flag not in self.takes:
                reason = REASONS[flag]
                raise Invalid(
                    "wrong-use", f"{ctx.command_path} {reason}: --{flag} has no effect", f"{ctx.command_path} -h"
                )
        run.settle()
        if sum(bool(run.flags.get(flag)) for flag in RESULT) > 1:
            raise Invalid("wrong-use", "--json, -q and --format are three ways to print one result", "give one of them")
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Its own options in full, those of everywhere on a line."""
        records = [
            record for param in self.own if isinstance(param, click.Option) and (record := param.get_help_record(ctx))
        ]
        if records:
            with formatter.section("Options"):
                formatter.write_dl(records)
        common = [_spelled(o) for o in everywhere() if o.name in self.takes]
        with formatter.section("Everywhere"):
            formatter.write_text("  ".join([*common, "-h"]))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples as they are typed, and where to read on."""
        formatter.write("\nExamples:\n" + "".join(f"  {example}\n" for example in self.examples))
        if self.see:
            formatter.write(f"\nSee also: {', '.join(self.see)}\n")


def _spelled(option: click.Option) -> str:
    name = option.opts[0]
    return f"{name} {option.metavar}" if option.metavar and not option.is_flag and not option.count else name


def command(
    name: str,
    *,
    takes: frozenset[str],
    examples: Sequence[str],
    see: Sequence[str] = (),
    ends_with_command: bool = False,
) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function with a Run as its first parameter a command; its docstring is the help.

    With `ends_with_command` everything behind the first argument is another program's and not read.
    """
    settings = {**HELP_NAMES, "allow_interspersed_args": not ends_with_command}

    def decorate(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command, takes=takes, examples=examples, see=see, context_settings=settings)(
            click.pass_obj(function)
        )
        assert isinstance(made, Command)
        return made

    return decorate


def colony_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """NAME: a colony's name or id; left out it is the colony of the folder that we are in."""
    return click.argument("name", metavar="[NAME]", required=False)(function)


def colonies_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """NAME…: names or ids of colonies; left out it is the colony of the folder that we are in."""
    return click.argument("names", metavar="[NAME...]", nargs=-1)(function)
