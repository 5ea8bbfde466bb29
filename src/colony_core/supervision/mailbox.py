"""An actor's mailbox: what waits for it, and who waits for an answer."""

from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import trio
from trio.lowlevel import Abort, Task, reschedule, wait_task_rescheduled

from .errors import ActorDied, MailboxFull, TooSlow
from .spec import ID, Overflow
from .timers import Deadlines


class Call:
    """One message with somebody who waits for the reply: `task`, which is None once nobody does."""

    __slots__ = ("box", "due", "error", "message", "task", "value")

    def __init__(self, message: object, task: Task, box: "Mailbox") -> None:
        self.message = message
        self.task: Task | None = task
        self.box = box
        self.value: Any = None
        self.error: BaseException | None = None
        self.due: float | None = None

    def answer(self, value: object, error: BaseException | None = None) -> None:
        """Wakes the caller with a value or an error; too late, it does nothing."""
        task = self.task
        if task is not None:
            self.task = self.due = None
            self.value = value
            self.error = error
            reschedule(task)

    def expire(self) -> None:
        """The caller has waited long enough."""
        self.answer(None, TooSlow(f"actor {self.box.name!r} did not answer {type(self.message).__name__} in time"))

    def abandon(self, _raise_cancel: object) -> Abort:
        """The caller was cancelled; if that was so when it called, its message is the newest and goes back."""
        self.task = self.due = None
        queue = self.box.queue
        if queue and queue[-1] is self and self.box.capacity == inf:  # under a bound, others may wait for the room
            queue.pop()
        return Abort.SUCCEEDED


class Entry:
    """A message whose sender waits for room."""

    __slots__ = ("message", "task")

    def __init__(self, message: object, task: Task | None) -> None:
        self.message = message
        self.task = task


class Mailbox:
    """Messages of one incarnation. Control messages and stop requests are outside the bound and come first.

    Queues are made when they are first needed: an empty one weighs as much as the rest of an actor.
    """

    __slots__ = (
        "capacity",
        "control",
        "deadlines",
        "deferred",
        "idle",
        "name",
        "overflow",
        "queue",
        "server",
        "stopping",
        "waiting",
    )

    def __init__(self, name: ID, server: Task, deadlines: Deadlines, *, capacity: float, overflow: Overflow) -> None:
        self.name = name
        self.server = server
        self.deadlines = deadlines
        self.capacity = capacity
        self.overflow = overflow
        self.queue: deque[Any] | None = None
        self.control: deque[Any] | None = None
        self.waiting: deque[Entry] | None = None
        self.deferred: set[Call] | None = None
        self.idle = False
        self.stopping = False

    # -- the sender's side

    def put(self, message: Any) -> None:
        """Takes a message or a call, as the overflow policy says. Raises MailboxFull."""
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        if len(queue) >= self.capacity and not self._make_room(queue, message):
            return
        queue.append(message)
        if self.idle:
            self.idle = False
            reschedule(self.server)

    def put_control(self, message: Any) -> None:
        """Takes a message outside the bound, ahead of the others."""
        if self.control is None:
            self.control = deque()
        self.control.append(message)
        self.wake()

    async def put_patiently(self, message: object) -> None:
        """Takes a message, waiting for room under BLOCK. A checkpoint; cancelled, nothing is sent."""
        await trio.lowlevel.checkpoint()
        full = self.queue is not None and len(self.queue) >= self.capacity
        if self.stopping or not full or self.overflow is not Overflow.BLOCK:
            self.put(message)
            return
        entry = self._wait_in_line(message, trio.lowlevel.current_task())

        def give_up(_raise_cancel: object) -> Abort:
            if self.waiting is not None and entry in self.waiting:
                self.waiting.remove(entry)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(give_up)

    def stop(self) -> None:
        """Asks the actor to end after the message it is at."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Has an idle actor look again."""
        if self.idle:
            self.idle = False
            reschedule(self.server)

    def _make_room(self, queue: deque[Any], message: object) -> bool:
        """Whether `message` may be appended now."""
        if self.overflow is Overflow.BLOCK:
            if isinstance(message, Call):
                self._wait_in_line(message, None)
                return False
            return True
        if self.overflow is Overflow.DROP_OLDEST and queue:
            self._refuse(queue.popleft())
            return True
        if self.overflow is Overflow.REJECT or isinstance(message, Call):
            raise self._full()
        return False

    def _wait_in_line(self, message: object, task: Task | None) -> Entry:
        if self.waiting is None:
            self.waiting = deque()
        entry = Entry(message, task)
        self.waiting.append(entry)
        return entry

    def _refuse(self, message: object) -> None:
        if isinstance(message, Call):
            message.answer(None, self._full())

    def _full(self) -> MailboxFull:
        return MailboxFull(f"actor {self.name!r} has {self.capacity:g} messages waiting and takes no more")

    # -- the actor's side

    def take(self) -> Any:
        """The next message, which must be there."""
        if self.control:
            return self.control.popleft()
        assert self.queue is not None
        message = self.queue.popleft()
        if self.waiting:
            self._let_in(self.queue)
        return message

    def _let_in(self, queue: deque[Any]) -> None:
        while self.waiting and len(queue) < self.capacity:
            entry = self.waiting.popleft()
            queue.append(entry.message)
            if entry.task is not None:
                reschedule(entry.task)

    def give_up(self, _raise_cancel: object) -> Abort:
        """The actor was cancelled while it waited for something to take."""
        self.idle = False
        return Abort.SUCCEEDED

    def close(self, error: BaseException | None) -> None:
        """The incarnation is over: whoever waits for an answer gets ActorDied, whoever waits for room goes on."""
        self.stopping = True
        self.idle = False
        for message in [*(self.control or ()), *(self.queue or ()), *(self.deferred or ())]:
            if isinstance(message, Call):
                self.tell_dead(message, error)
        for entry in self.waiting or ():
            if isinstance(entry.message, Call):
                self.tell_dead(entry.message, error)
            elif entry.task is not None:
                reschedule(entry.task)
        self.control = self.queue = self.waiting = self.deferred = None

    def tell_dead(self, call: Call, error: BaseException | None) -> None:
        """Answers a call that nobody will answer any more."""
        died = ActorDied(f"actor {self.name!r} ended before it answered {type(call.message).__name__}")
        died.__cause__ = error if isinstance(error, Exception) else None
        call.answer(None, died)


Handler = Callable[[Any, Any], Awaitable[Any]]
