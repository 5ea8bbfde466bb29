"""Entry of `colony`: runs the command tree, turns every error into words and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colony_core.errors import ColonyError

    from .context import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Without arguments those of the process are taken."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["__complete"]:
            from .complete import complete

            code = complete(words[1:], os.environ)
        else:
            code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter must not flush into the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return code


def _run(words: list[str]) -> int:
    from .context import Run
    from .output import standard_output

    run = Run(standard_output(os.environ), os.environ)
    try:
        return _invoke(words, run)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        return _failed(error, words, run)


def _invoke(words: list[str], run: "Run") -> int:
    import click

    from .root import root

    try:
        with root().make_context("colony", words, obj=run) as context:
            code = context.command.invoke(context)
            return code if isinstance(code, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        raise _wrong_use(error) from error


def _wrong_use(error: Exception) -> "ColonyError":
    import click

    from colony_core.errors import Invalid

    assert isinstance(error, click.UsageError)
    path = error.ctx.command_path if error.ctx else "colony"
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        nearest = next(iter(error.possibilities or ()), "")
        hint = f"did you mean {nearest}?; {path} -h" if nearest else f"{path} -h"
        return Invalid("wrong-use", f"no such option: {error.option_name}", hint)
    return Invalid("wrong-use", message[:1].lower() + message[1:], f"{path} -h")


def _failed(error: BaseException, words: list[str], run: "Run") -> int:
    from colony_core.errors import Broken, ColonyError

    from .exits import exit_code

    run.settle()
    run.output.json = run.output.json or "--json" in words[: words.index("--") if "--" in words else None]
    leaves = _leaves(error)
    for signalled in (KeyboardInterrupt, BrokenPipeError):
        if any(isinstance(leaf, signalled) for leaf in leaves):
            raise signalled
    known = next((leaf for leaf in leaves if isinstance(leaf, ColonyError)), None)
    if known is None:
        first = leaves[0]
        known = Broken(
            "internal-error",
            f"the command itself broke, sorry: {type(first).__name__}: {first}",
            "colony doctor; with -vv the same command shows where",
        )
    run.output.error(known)
    if run.output.verbose and not run.output.json and "request_id" in known.details:
        run.output.note(f"  answered by: {run.target}")
    if run.output.verbose > 1:
        import traceback

        traceback.print_exception(error)
    return exit_code(known)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
