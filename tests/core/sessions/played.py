"""A backend whose part is played by the test, line by line: what the agent says is sent, what it is told is read."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from colony_core.backends import ApprovalAsked, ApprovalVoided, Ended, Happening, Health, Job, Started
from colony_core.errors import NotFound

PATIENCE_SECONDS = 120.0


class Scene:
    """One run, seen from the agent's side."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.interrupted = trio.Event()
        self.closed = trio.Event()
        self.answers: dict[str, tuple[bool, str]] = {}
        self.answered = trio.Event()
        self._open: set[str] = set()
        self._say, self._heard = trio.open_memory_channel[Happening](1000)

    async def say(self, *happenings: Happening) -> None:
        for happening in happenings:
            if isinstance(happening, ApprovalAsked):
                self._open.add(happening.id)
            if isinstance(happening, ApprovalVoided):
                self._open.discard(happening.id)
            await self._say.send(happening)

    async def begin(self, session: str = "s-1") -> None:
        await self.say(Started(session=session, model="played-1"))

    async def happenings(self) -> AsyncIterator[Happening]:
        async for happening in self._heard:
            yield happening
            if isinstance(happening, Ended):
                return

    async def interrupt(self) -> None:
        self.interrupted.set()
        await trio.lowlevel.checkpoint()

    async def answer(self, approval: str, *, allow: bool, message: str = "") -> None:
        if approval not in self._open:
            raise NotFound("approval-not-open", "no such question", "")
        self.answers[approval] = allow, message
        self.answered.set()
        await trio.lowlevel.checkpoint()


class PlayedBackend:
    """Gives each run to the test as a scene."""

    def __init__(self, name: str = "fake", health: Health | None = None) -> None:
        self.name = name
        self.remembers = True
        self.uncounted: frozenset[str] = frozenset()
        self.asked_in: list[dict[str, str]] = []
        self.health = health or Health(ready=True, detail="played by a test")
        self._begun, self._scenes = trio.open_memory_channel[Scene](100)

    async def scene(self) -> Scene:
        """The next run that begins."""
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._scenes.receive()

    @property
    def begun(self) -> int:
        """Runs that have begun and that nobody has taken up as a scene."""
        return self._scenes.statistics().current_buffer_used

    async def check(self, environment: Mapping[str, str]) -> Health:
        await trio.lowlevel.checkpoint()
        self.asked_in.append(dict(environment))
        return self.health

    @asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[Scene]:
        scene = Scene(job)
        await self._begun.send(scene)
        try:
            yield scene
        finally:
            scene.closed.set()
