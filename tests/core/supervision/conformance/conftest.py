"""Plays a story: a tree, what is done to it, and all that must follow, as one text.

    one_for_one limit=3/5          the supervisor: a strategy or `dynamic`, limit=count/period, auto=any|all, most=n
      a transient grace=2          a child, see `Play.live`; `supervisor` or `dynamic` among its words makes it a subtree
    ---
    0: a start, a up, [a started 1], open
    > a fails                      a command; `&` joins what is to happen in the same instant
    0: a end, … (open)             what followed, with the time: what children saw, [events], and then (answers)

A story is played once as Trio runs by default and then with every batch of runnable tasks shuffled, many times over;
each time the whole text must come out again. Among children of a dynamic supervisor, or where the root says
`unordered`, there is no order, so the entries of a line are sorted there.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from inspect import cleandoc
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from colony_core.supervision import (
    AutoShutdown,
    Backoff,
    ChildOverdue,
    ChildSpec,
    ChildStarted,
    ChildTerminated,
    Event,
    Exit,
    Ignore,
    Limit,
    LimitReached,
    PlannedStop,
    Restart,
    StartFailed,
    State,
    StopFailed,
    Strategy,
    Supervisor,
    dynamic_supervisor_spec,
    open_dynamic_supervisor,
    open_supervisor,
    supervisor_spec,
)  # fmt: skip

SHUFFLES = 20
STRATEGIES = {strategy.name.lower(): strategy for strategy in Strategy}
RESTARTS = {restart.name.lower(): restart for restart in Restart}
AUTO = {"any": AutoShutdown.ANY_SIGNIFICANT, "all": AutoShutdown.ALL_SIGNIFICANT}
NAMES = {ChildTerminated: "ended", StartFailed: "start failed", StopFailed: "stop failed"}


class Fail(Exception):
    """The error of a child: its name and the number of its start."""


class Play:
    """One performance."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.entries: list[tuple[float, str]] = []
        self.answers: list[tuple[float, str]] = []
        self.starts: dict[str, int] = {}
        self.orders: dict[str, tuple[trio.Event, list[str]]] = {}
        self.supervisor: Supervisor | None = None
        self.handles: list[Any] = []
        self.block = trio.CancelScope()
        self.requests: list[trio.CancelScope] = []
        self.leave = trio.Event()
        self.ordered = True

    # -- what happened

    def note(self, what: str) -> None:
        self.entries.append((trio.current_time(), what))

    def answer(self, what: str) -> None:
        self.answers.append((trio.current_time(), what))

    def on_event(self, event: Event) -> None:
        who = "/".join(map(str, event.path)) or "root"
        match event:
            case ChildStarted():
                self.note(f"[{who} started {event.incarnation}]")
            case LimitReached():
                self.note(f"[{who} limit {event.limit.count}/{event.limit.period:g} {in_words(event.last)}]")
            case ChildOverdue():
                self.note(f"[{who} overdue since {event.since:g}]")
            case _:
                count = getattr(event, "count", 1)
                self.note(f"[{who} {NAMES[type(event)]} {in_words(event.exit)}{f' x{count}' if count > 1 else ''}]")

    def flush(self) -> None:
        """Writes what happened since, one line for each moment: the tree in order, then the answers."""
        for moment in sorted({at for at, _ in self.entries + self.answers}):
            words = [what for at, what in self.entries if at == moment]
            answers = [f"({what})" for at, what in self.answers if at == moment]
            self.lines.append(f"{moment:g}: {', '.join((words if self.ordered else sorted(words)) + sorted(answers))}")
        self.entries.clear()
        self.answers.clear()

    # -- children

    def spec(self, node: "Node") -> ChildSpec:
        """A child as its words say."""
        words, fields = node.words, node.fields
        options: dict[str, Any] = {}
        for word in RESTARTS.keys() & set(words):
            options["restart"] = RESTARTS[word]
        options |= {"grace": float(fields["grace"])} if "grace" in fields else {}
        options |= {"significant": True} if "significant" in words else {}
        if "backoff" in fields:
            first, factor, most = map(float, fields["backoff"].split(","))
            options["backoff"] = Backoff(
                first=first, factor=factor, most=most, jitter=0, reset=float(fields.get("reset", 60))
            )
        if "supervisor" in words:
            return supervisor_spec(node.name, map(self.spec, node.children), **self.tree_options(node), **options)
        if "dynamic" in words:
            template = self.spec(node.children[0]) if node.children else None
            return dynamic_supervisor_spec(node.name, template, **self.tree_options(node), **options)
        return ChildSpec(id=node.name, run=self.live, args=(node,), **options)

    def tree_options(self, node: "Node") -> dict[str, Any]:
        """What a supervisor's words say."""
        options: dict[str, Any] = {}
        for word in STRATEGIES.keys() & set(node.words):
            options["strategy"] = STRATEGIES[word]
        if "limit" in node.fields:
            count, period = node.fields["limit"].split("/")
            options["limit"] = Limit(int(count), float(period))
        options |= {"auto_shutdown": AUTO[node.fields["auto"]]} if "auto" in node.fields else {}
        options |= {"most": float(node.fields["most"])} if "most" in node.fields else {}
        return options

    async def live(self, node: "Node", name: str = "", *, status: Any) -> None:
        """One incarnation: starts=ok,fail,2,… scripts its starts, soft cleanup refuse bad what it does when it is to stop."""
        name = name or node.name
        turn = self.starts[name] = self.starts.get(name, 0) + 1
        self.note(f"{name} start")
        try:
            starts = node.fields.get("starts", "ok").split(",")
            if await self.starts_well(starts[min(turn, len(starts)) - 1], f"{name}{turn}"):
                stopping = status.stopping if "soft" in node.fields else None
                self.note(f"{name} up")
                status.started(turn)
                await self.obey(node, name, turn, stopping)
        except trio.Cancelled:
            await self.clean(node, name, status)
            if "bad" in node.words:
                raise Fail(f"{name}{turn}") from None
            raise

    async def starts_well(self, how: str, word: str) -> bool:
        """Whether the start goes on to its acknowledgement."""
        await trio.lowlevel.checkpoint()
        match how:
            case "fail":
                raise Fail(word)
            case "ignore":
                raise Ignore
            case "plan":
                raise PlannedStop
            case "exit":
                return False
            case "ok":
                return True
        await trio.sleep(float(how))
        return True

    async def obey(self, node: "Node", name: str, turn: int, stopping: trio.Event | None) -> None:
        """Up, until told otherwise."""
        told, orders = self.orders[name] = trio.Event(), []
        if stopping is None:
            await told.wait()
        else:
            await _either(told, stopping)
        if stopping is not None and stopping.is_set():
            self.note(f"{name} asked")
            await trio.sleep(float(node.fields["soft"]))
        self.note(f"{name} end")
        match orders:
            case ["fails"]:
                raise Fail(f"{name}{turn}")
            case ["plans"]:
                raise PlannedStop
            case ["interrupts"]:
                raise KeyboardInterrupt
            case ["ignores"]:
                raise Ignore

    async def clean(self, node: "Node", name: str, status: Any) -> None:
        """What is done once cancelled."""
        self.note(f"{name} cancelled")
        if "refuse" in node.fields:
            with trio.CancelScope(shield=True):
                await trio.sleep(float(node.fields["refuse"]))
            self.note(f"{name} gone")
        if "cleanup" in node.fields:
            try:
                with status.cleanup():
                    await trio.sleep(float(node.fields["cleanup"]))
                    self.note(f"{name} cleaned")
                    return
            finally:
                if self.entries[-1:] != [(trio.current_time(), f"{name} cleaned")]:
                    self.note(f"{name} cut")

    # -- commands

    async def command(self, text: str) -> None:
        """One request, answered whenever it is; the answer is noted."""
        words: list[Any] = [int(word) if word.isdigit() else word for word in text.split()]
        where = self.supervisor
        if words[0] == "in":
            where = self.supervisor.child(words[1].rstrip(":")).value
            words = words[2:]
        answer: Any
        try:
            answer = await self.ask(where, words, text)
        except trio.Cancelled:
            answer = "cancelled"
            raise
        except Exception as error:
            answer = error
        finally:
            if answer is not None:
                self.answer(f"{' '.join(text.split()[: 4 if text.startswith('in ') else 2])}: {in_words(answer)}")

    async def ask(self, where: Any, words: list[Any], text: str) -> object:
        match words:
            case [name, "fails" | "returns" | "plans" | "interrupts" | "ignores" as order]:
                event, orders = self.orders[name]
                orders.append(order)
                event.set()
                return None
            case ["leave"]:
                self.leave.set()
                return None
            case ["cancel"]:
                self.block.cancel()
                return None
            case ["end"]:
                where.stop()
                return None
            case ["give", "up"]:
                for scope in self.requests:
                    scope.cancel()
                return None
            case ["list"]:
                return " ".join(f"{c.id}={c.state.name.lower()}" for c in where.children()) or "nobody"
            case ["counts"]:
                counts = where.counts()
                return f"{counts.specs} specs, {counts.active} active, {counts.supervisors} supervisors, {counts.workers} workers"
            case ["start", *_]:
                return self.handle(await where.start_child(self.spec(Node(text.partition("start ")[2]))))
            case ["spawn", *rest]:
                return self.handle(await where.spawn(*rest))
            case ["stop", name]:
                return await where.stop_child(name)
            case ["restart", name]:
                return (await where.restart_child(name)).state.name.lower()
            case ["delete", name]:
                await where.delete_child(name)
                return "gone"
            case ["stop", "handle", place]:
                return await where.stop_child(self.handles[place])
            case ["run", how]:
                return await where.run(self.starts_well, str(how), "run")
            case ["link", name]:
                async with where.child(name).linked():
                    await trio.sleep_forever()
            case ["wait"]:
                await where.wait()
                return "over"
            case ["wait_up" | "wait_exit" as verb, name]:
                return await getattr(where.child(name), verb)()
        raise ValueError(f"no such command: {words}")

    def handle(self, child: Any) -> str:
        self.handles.append(child)
        return str(child.state.name.lower())

    # -- the play

    async def perform(self, tree: "Node", commands: list[str]) -> str:
        """The whole text."""
        self.ordered = not {"dynamic", "unordered"} & set(tree.words)
        before = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.host, tree)
            await wait_all_tasks_blocked()
            self.flush()
            for line in commands:
                self.lines.append(f"> {line}")
                if line.startswith("until"):
                    await trio.sleep_until(float(line.split()[1]))
                else:
                    for command in line.split(" & "):
                        nursery.start_soon(self.patiently, command)
                await wait_all_tasks_blocked()
                self.flush()
            nursery.cancel_scope.deadline = (
                trio.current_time() + 1000
            )  # a story that forgets to end is a failure, not a hang
        assert not nursery.cancel_scope.cancelled_caught, "the story does not end"
        self.flush()
        assert trio.lowlevel.current_statistics().tasks_living == before, "a task is left behind"
        assert all(child.state is State.DOWN for child in self.handles), self.handles
        return "\n".join(self.lines)

    async def patiently(self, command: str) -> None:
        with trio.CancelScope() as scope:
            self.requests.append(scope)
            await self.command(command)

    async def host(self, tree: "Node") -> None:
        """The block that opens the supervisor."""
        if "dynamic" in tree.words:
            template = self.spec(tree.children[0]) if tree.children else None
            opened = open_dynamic_supervisor(template, on_event=self.on_event, **self.tree_options(tree))
        else:
            specs = [self.spec(child) for child in tree.children]
            opened = open_supervisor(specs, on_event=self.on_event, rng=random.Random(1), **self.tree_options(tree))
        try:
            with self.block:
                async with opened as self.supervisor:
                    self.handles.extend(self.supervisor.children())
                    self.answer("open")
                    await self.leave.wait()
            self.answer("cancelled" if self.block.cancelled_caught else "closed")
        except BaseException as error:
            self.answer(f"raises {in_words(error)}")


class Node:
    """A line of the tree: a name, words, key=value fields, and the lines below it."""

    def __init__(self, line: str) -> None:
        self.name, *rest = line.split()
        self.words = [self.name, *(word for word in rest if "=" not in word)]
        self.fields = dict(word.split("=", 1) for word in rest if "=" in word)
        self.children: list[Node] = []

    @classmethod
    def read(cls, text: str) -> "Node":
        path: list[Node] = []
        for line in text.splitlines():
            depth = (len(line) - len(line.lstrip())) // 2
            node = cls(line)
            del path[depth:]
            if path:
                path[-1].children.append(node)
            path.append(node)
        return path[0]


async def _either(*events: trio.Event) -> None:
    async def first(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    with suppress(BaseExceptionGroup):  # a cancellation comes as itself from the checkpoint below
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(first, event)
    await trio.lowlevel.checkpoint_if_cancelled()


def in_words(thing: object) -> str:
    """An end, an error or an answer, as the stories say it."""
    if isinstance(thing, Exit):
        return str(thing.kind) if thing.error is None else f"{thing.kind} {in_words(thing.error)}"
    if isinstance(thing, Fail):
        return str(thing)
    if isinstance(thing, BaseExceptionGroup):
        return f"{type(thing).__name__}[{' '.join(map(in_words, thing.exceptions))}]"
    if isinstance(thing, BaseException):
        return type(thing).__name__ + (f"({in_words(thing.__cause__)})" if thing.__cause__ is not None else "")
    return str(thing)


def shuffled(seed: int, play: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `play` returns when Trio shuffles each batch of runnable tasks as `seed` says; its default does no more than reverse some."""
    with monkeypatch.context() as patch:
        patch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr("trio._core._run._r", random.Random(seed))
        return play()


def told(story: str) -> tuple[str, list[str]]:
    """The tree and the lines of a story; what is indented goes on from the line above."""
    tree, _, rest = cleandoc(story).partition("\n---\n")
    lines: list[str] = []
    for line in rest.splitlines():
        if line.startswith(" "):
            lines[-1] += line.strip().join((" ", ""))
        else:
            lines.append(line)
    return tree, lines


def perform(story: str) -> list[str]:
    """Plays it and returns the lines that came out."""
    tree, lines = told(story)
    commands = [line[2:] for line in lines if line.startswith("> ")]
    return trio.run(Play().perform, Node.read(tree), commands, clock=MockClock(autojump_threshold=0)).splitlines()


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Plays a story under every shuffle and compares the whole text."""

    def check(story: str) -> None:
        expected = told(story)[1]
        assert perform(story) == expected
        for seed in range(SHUFFLES):
            assert shuffled(seed, lambda: perform(story), monkeypatch) == expected, f"shuffled with seed {seed}"

    return check


class Log:
    """What happened, with its time, and after it the answers of the same moment; for rules that need more than a story."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, bool, str]] = []

    def __call__(self, what: str) -> None:
        self._lines.append((trio.current_time(), False, what))

    def answer(self, what: str) -> None:
        """For what several tasks say in one instant, in any order."""
        self._lines.append((trio.current_time(), True, f"({what})"))

    def lines(self) -> list[str]:
        """In the order of time; at one moment, answers come last, sorted."""
        ordered = sorted(self._lines, key=lambda line: (line[0], line[1], line[2] if line[1] else ""))
        return [f"{at:g}: {what}" for at, _, what in ordered]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Log], Any], str], None]:
    """Runs an async function under every shuffle and compares all that it logs."""

    def run(scene: Callable[[Log], Any]) -> list[str]:
        log = Log()
        trio.run(scene, log, clock=MockClock(autojump_threshold=0))
        return log.lines()

    def check(scene: Callable[[Log], Any], expected: str) -> None:
        lines = cleandoc(expected).splitlines()
        assert run(scene) == lines
        for seed in range(SHUFFLES):
            assert shuffled(seed, lambda: run(scene), monkeypatch) == lines, f"shuffled with seed {seed}"

    return check
