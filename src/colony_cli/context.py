"""Flags, server and output of this run."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from colony_core.errors import ColonyError, Invalid, NotFound, TooSlow, Unreachable

from .output import Output

if TYPE_CHECKING:
    from types import ModuleType

    from colony_core.remote import Call, Client, Target

T = TypeVar("T")
ANSWER_SECONDS = 60.0
EVENTS_AT_ONCE = 1000
IMPATIENT_SECONDS = 0.2
"""A daemon that does not wait for news is asked no more often than this."""
GIVE_UP_SECONDS = 30.0
RECONNECT_SECONDS = 0.5
WATCH_SECONDS = 10.0
"""A watched list is drawn again at least this often, so that ages do not lie."""
REDRAW_SECONDS = 0.1
"""A watched list is drawn at most this often."""


class Run:
    """What one run of the command knows: its flags, its way to speak, its way to the daemon."""

    def __init__(self, output: Output, environ: Mapping[str, str]) -> None:
        self.output = output
        self.environ = environ
        self.flags: dict[str, Any] = {}
        self._skew_told = False
        self._heard_at: float | None = None

    @property
    def timeout(self) -> float | None:
        """Seconds after which this run gives up waiting; None is never."""
        return self.flags.get("timeout")

    @property
    def yes(self) -> bool:
        """Whether every question is answered with yes."""
        return bool(self.flags.get("yes"))

    @property
    def tells_steps(self) -> bool:
        """Whether people look at the steps on the way."""
        return not (self.output.json or self.output.quiet or self.output.format)

    def settle(self) -> None:
        """Takes the flags over into the output."""
        self.output.json = bool(self.flags.get("json"))
        self.output.quiet = bool(self.flags.get("quiet"))
        self.output.wide = bool(self.flags.get("wide"))
        self.output.no_color = bool(self.flags.get("no_color"))
        self.output.format = self.flags.get("format") or ""
        self.output.verbose = self.flags.get("verbose") or 0

    # ---- the daemon

    @cached_property
    def target(self) -> "Target":
        """The daemon that is meant."""
        from colony_core.remote import discover

        server = self.flags.get("server")
        return discover(f"unix:{server}" if server and server.startswith("/") else server, environ=self.environ)

    @cached_property
    def calls(self) -> "ModuleType":
        """What can be asked."""
        from colony_core.remote import calls

        return calls

    def client(self, *, patience: float | None = ANSWER_SECONDS) -> "Client":
        """A client that waits `patience` seconds for an answer, or for ever."""
        from colony_core.remote import Client

        return Client(self.target, answer_seconds=patience)

    def ask(self, call: "Call", *, patience: float | None = ANSWER_SECONDS) -> Any:
        """The daemon's answer, as plain values; a run's own deadline bounds it."""
        if self.timeout is not None:
            patience = max(0.001, self.timeout if patience is None else min(self.timeout, patience))
        client = self.client(patience=patience)
        try:
            return client.send_raw(call)
        finally:
            self.heard(client.server_version)

    def ask_all(self, call: "Call", *, patience: float | None = ANSWER_SECONDS) -> list[Any]:
        """Every item of a list that grows, over all of its pages, each of which is waited for as by `ask`."""
        return [item for page in self.pages(call, patience=patience) for item in page]

    def pages(self, call: "Call", *, patience: float | None = ANSWER_SECONDS) -> Iterator[list[Any]]:
        """A list that grows, page by page."""
        if self.timeout is not None:
            patience = self.timeout if patience is None else min(self.timeout, patience)
        client = self.client(patience=patience)
        for page in client.pages(call):
            self.heard(client.server_version)
            yield page

    def heard(self, daemon: str | None) -> None:
        """Notes that a daemon of that version has answered, if one did; says once where it is another version than this command's."""
        from colony_core import __version__

        if daemon:
            self._heard_at = time.monotonic()
        if daemon and daemon != __version__ and not self._skew_told:
            self._skew_told = True
            words = f"this is colony {__version__}, the daemon is {daemon}"
            self.output.warning("version-skew", words, "colony shutdown, then colony serve: colonies go on meanwhile")

    def last_event(self) -> int:
        """The number of the newest event."""
        return int(self.ask(self.calls.system())["last_event"])

    def news(self, after: int, *, seconds: float, **chosen: Iterable[str]) -> list[dict[str, Any]]:
        """Events behind `after`; waits for the first one up to `seconds`."""
        return self._more(partial(self.calls.events, limit=EVENTS_AT_ONCE, **chosen), after, seconds)

    def batches(self, after: int, **chosen: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
        """Events behind `after` as they come; see `growing`."""
        return self.growing(partial(self.calls.events, limit=EVENTS_AT_ONCE, **chosen), after)

    def growing(self, call: "Callable[..., Call]", after: int) -> Iterator[list[dict[str, Any]]]:
        """What a numbered list has behind `after` as it grows, for ever, and an empty batch now and then.

        Raises TooSlow at the run's deadline. A daemon that has answered once and is away then is waited for, for half a minute: the
        next one goes on with the same numbers.
        """
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while True:
            left = WATCH_SECONDS if deadline is None else min(WATCH_SECONDS, deadline - time.monotonic())
            if left <= 0:
                raise TooSlow("watch-too-long", f"the {self.timeout:g} s of --timeout are over")
            try:
                # At first without waiting: a daemon that ends in the middle of the first question has answered nothing yet.
                found = self._more(call, after, left if self._heard_at is not None else 0.0)
            except Unreachable:
                if self._heard_at is None or time.monotonic() - self._heard_at > GIVE_UP_SECONDS:
                    raise
                time.sleep(min(RECONNECT_SECONDS, left))
                continue
            after = found[-1]["seq"] if found else after
            yield found

    def _more(self, call: "Callable[..., Call]", after: int, seconds: float) -> list[dict[str, Any]]:
        began = time.monotonic()
        client = self.client(patience=seconds + ANSWER_SECONDS)
        found: list[dict[str, Any]] = client.send_raw(call(after=after, wait_seconds=round(max(seconds, 0.01), 3)))
        self.heard(client.server_version)
        if not found:
            time.sleep(max(0.0, min(IMPATIENT_SECONDS, seconds) - (time.monotonic() - began)))
        return found

    # ---- names

    def here(self) -> str:
        """The name of the one colony that was made from the folder that we are in, or from the nearest one above it.

        Raises Invalid (`name-missing`) where there is none, or where several were made from it.
        """
        at = os.path.realpath(os.getcwd())
        made: dict[str, list[str]] = {}
        # Folders are the daemon's, and only a socket is sure to be of this machine.
        for view in self.ask_all(self.calls.colonies()) if self.target.socket else ():
            folder = os.path.realpath(view["source"])
            if os.path.commonpath((at, folder)) == folder:
                made.setdefault(folder, []).append(view["name"])
        names = made[max(made, key=len)] if made else []
        if len(names) == 1:
            return names[0]
        if names:
            raise Invalid(
                "name-missing", f"which one? Of this folder are {', '.join(sorted(names))}", "name one of them"
            )
        raise Invalid("name-missing", "which colony? None was made from this folder", "colony ls")

    def named(self, name: str | None, ask: Callable[[str], T]) -> T:
        """`ask` about the colony `name`, or about that of this folder; on a terminal an unambiguous beginning of a name will do."""
        name = name or self.here()
        try:
            return ask(name)
        except NotFound as error:
            if error.code != "colony-not-found":
                raise
            known = [view["name"] for view in self.ask_all(self.calls.colonies())]
            meant = [one for one in known if one.startswith(name)]
            if not self.output.terminal or not meant:
                raise self._with_nearest(error, name, known) from None
            if len(meant) > 1:
                raise NotFound("ambiguous-name", f"“{name}” may be {', '.join(meant)}", "write one in full") from None
        return ask(meant[0])

    @staticmethod
    def _with_nearest(error: ColonyError, name: str, known: list[str]) -> NotFound:
        from colony_core.errors import did_you_mean

        nearest = did_you_mean(name, known)
        hint = f"did you mean {nearest}?; colony ls" if nearest else "colony ls"
        return NotFound(error.code, error.message, hint, details=error.details)

    # ---- shapes of an answer

    def draw_again(self, draw: Callable[[], None], *, watch: bool) -> None:
        """Draws once; with `watch` again whenever something happens in the house, until Ctrl-C, also under the next daemon."""
        if not watch:
            draw()
            return
        after = self.last_event()
        clears = self.output.terminal and self.tells_steps
        self.output.streams = True
        for _ in chain([()], self.batches(after)):
            if clears:
                self.output.clear()
            with suppress(Unreachable):  # it went away between its news and this: waited for with the next of them
                draw()
            self.output.flush()
            time.sleep(REDRAW_SECONDS)

    def failed_softly(self, error: ColonyError | None) -> int:
        """Tells an error beside a result; the exit code."""
        if error is None:
            return 0
        from .exits import exit_code

        self.output.error(error)
        return exit_code(error)
