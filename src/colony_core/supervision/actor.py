"""One task, one mailbox, one message at a time."""

import re
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, Generic, TypeVar, cast, final

import trio
from trio.lowlevel import checkpoint_if_cancelled, current_task, wait_task_rescheduled

from .errors import NotRunning, SelfCall
from .mailbox import Call, Handler, Mailbox
from .spec import ID, ChildSpec, Kind, Overflow
from .status import Status

R = TypeVar("R")

CALL_TIMEOUT_SECONDS = 5.0
MESSAGES_PER_CHECKPOINT = 64


class Ask(Generic[R]):
    """Base of a call's message: `class Get(Ask[int])` makes `await ref.call(Get())` an int for the type checker."""

    __slots__ = ()


@final
class Reply(Generic[R]):
    """A reply that is given later, from wherever: see `Actor.defer`."""

    __slots__ = ("_box", "_call")

    def __init__(self, call: Call, box: Mailbox) -> None:
        self._call = call
        self._box = box

    def set(self, value: R) -> None:
        """Answers; not a checkpoint. If the caller has gone, or was answered already, nothing happens."""
        self._answer(value, None)

    def fail(self, error: Exception) -> None:
        """Raises `error` at the caller; the actor lives on. Not a checkpoint."""
        self._answer(None, error)

    def _answer(self, value: object, error: Exception | None) -> None:
        if self._box.deferred is not None:
            self._box.deferred.discard(self._call)
        self._call.answer(value, error)


class Actor:
    """One mailbox, one message at a time: `async def on_<message>(self, msg)` handles the class `<Message>` and those below it.

    What a handler returns is the reply to a call. An error in a handler ends the incarnation; queued messages are lost with it, and
    their callers get ActorDied. PlannedStop ends it on purpose. `ref` and `status` are set before `setup` runs.
    """

    __slots__ = ("__dict__", "__weakref__", "_box", "_call", "ref", "status")

    _handlers: ClassVar[dict[type, Handler | None]] = {}
    ref: "Ref"
    status: Status
    _call: Call | None
    _box: Mailbox

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = {}

    async def setup(self) -> None:
        """Runs before the start is acknowledged; an error here is a failed start. May cast to itself."""

    async def teardown(self) -> None:
        """Runs at the end of an incarnation whose `setup` succeeded, shielded until its grace is over."""

    def defer(self) -> Reply[Any]:
        """Takes the reply out of the handler's hands: its return value is ignored, answer with `set` or `fail` when you know.

        To answer and then end: `self.defer().set(value)`, then raise PlannedStop. Not a checkpoint. Raises RuntimeError outside of a call.
        """
        call = self._call
        if call is None:
            raise RuntimeError("there is no call to defer: this message was cast, or is deferred already")
        self._call = None
        if self._box.deferred is None:
            self._box.deferred = set()
        self._box.deferred.add(call)
        return Reply(call, self._box)

    @classmethod
    def handler(cls, message: type) -> Handler | None:
        """The method for messages of this class, looked up once."""
        try:
            return cls._handlers[message]
        except KeyError:
            names = ("on_" + _snake(kind.__name__) for kind in message.__mro__)
            found = next((getattr(cls, name) for name in names if hasattr(cls, name)), None)
            cls._handlers[message] = found
            return found


@final
class Ref:
    """Address of an actor; valid across restarts; never holds the actor alive."""

    __slots__ = ("__weakref__", "_actor", "_box", "_handlers", "id")

    def __init__(self, identity: ID, actor: type[Actor]) -> None:
        self.id = identity
        self._actor = actor
        self._handlers = actor._handlers
        self._box: Mailbox | None = None

    def __repr__(self) -> str:
        return f"<Ref {self.id!r} {'down' if self._box is None else 'up'}>"

    async def call(self, msg: Ask[R], *, timeout: float = CALL_TIMEOUT_SECONDS) -> R:
        """Sends and waits for the reply, `timeout` seconds at most, the wait for room included. A checkpoint.

        Raises TooSlow, ActorDied, NotRunning, MailboxFull, SelfCall, TypeError if the actor has no handler for `msg`, or whatever it
        answers with `Reply.fail`. Cancelled (also by a deadline around it), the message may still be handled; its reply is thrown away.
        """
        box = self._box
        if box is None:
            raise NotRunning(f"actor {self.id!r} is not running")
        if self._handlers.get(type(msg)) is None:
            self.require(type(msg))
        task = current_task()
        if task is box.server:
            raise SelfCall(f"actor {self.id!r} called itself with {type(msg).__name__}")
        if box.capacity < inf:
            await checkpoint_if_cancelled()  # or a caller that is cancelled already might push others out
        call = Call(msg, task, box)
        box.put(call)
        if timeout < inf:
            box.deadlines.watch(call, timeout)
        await wait_task_rescheduled(call.abandon)
        if call.error is None:
            value = call.value
            call.message = call.value = None  # for a while, it still stands in a queue of time-outs
            return value  # type: ignore[no-any-return]
        error, call.error = call.error, None
        try:
            raise error
        finally:
            del error

    def cast(self, msg: object) -> None:
        """Fire and forget, not a checkpoint. Silent if nobody is there; MailboxFull only under REJECT. Under BLOCK, it is always taken."""
        if self._handlers.get(type(msg)) is None:
            self.require(type(msg))
        if self._box is not None:
            self._box.put(msg)

    async def send(self, msg: object) -> None:
        """A cast that waits for room under BLOCK: backpressure. A checkpoint; cancelled, nothing is sent.

        Silent if nobody is there, or no longer.
        """
        self.require(type(msg))
        box = self._box
        if box is None:
            await trio.lowlevel.checkpoint()
        elif current_task() is box.server and box.overflow is Overflow.BLOCK:
            raise SelfCall(f"actor {self.id!r} would wait for room in its own mailbox; cast instead")
        else:
            await box.put_patiently(msg)

    def notify(self, msg: object) -> None:
        """A cast outside the mailbox's bound and ahead of it: for results of work that the actor itself has ordered. Not a checkpoint."""
        self.require(type(msg))
        if self._box is not None:
            self._box.put_control(msg)

    def require(self, message: type) -> None:
        """Raises TypeError unless the actor has a handler for messages of this class."""
        if self._actor.handler(message) is None:
            raise TypeError(f"{self._actor.__name__} has no on_{_snake(message.__name__)}")

    def _attach(self, actor: type[Actor], box: Mailbox) -> None:
        self._actor, self._handlers, self._box = actor, actor._handlers, box

    def _detach(self, box: Mailbox) -> None:
        if self._box is box:
            self._box = None


def actor_spec(
    id: ID,  # noqa: A002 - the word of the specs
    actor: Callable[[], Actor],
    *,
    capacity: float = inf,
    overflow: Overflow = Overflow.BLOCK,
    **spec: Any,
) -> ChildSpec:
    """A child whose started value is a Ref. `actor` makes a fresh Actor for each incarnation; `spec` are further fields of ChildSpec.

    `capacity` bounds the messages that wait. Stop requests and replies bypass it and are never dropped. Asked to stop, the actor
    finishes the message it is at.
    """
    if not callable(actor):
        raise TypeError(f"actor_spec.actor must be callable, not {actor!r}")
    if isinstance(capacity, bool) or not isinstance(capacity, int | float) or not capacity >= 1:
        raise ValueError(f"actor_spec.capacity must be >= 1, not {capacity!r}")
    if not isinstance(overflow, Overflow):
        raise TypeError(f"actor_spec.overflow must be an Overflow, not {overflow!r}")
    return ChildSpec(id=id, run=_serve, args=(actor, capacity, overflow), kind=Kind.ACTOR, **spec)


async def _serve(factory: Callable[[], Actor], capacity: float, overflow: Overflow, *, status: Status) -> None:
    """One incarnation of an actor."""
    assert status.keeper is not None
    assert status.child is not None
    actor = factory()
    identity = status.child.id
    box = Mailbox(identity, current_task(), status.keeper.deadlines, capacity=capacity, overflow=overflow)
    ref = status.previous if isinstance(status.previous, Ref) else Ref(identity, type(actor))
    actor.ref, actor.status, actor._box, actor._call = ref, status, box, None
    ref._attach(type(actor), box)
    error: BaseException | None = None
    try:
        await actor.setup()
        status.soft = box.stop
        status.started(ref)
        try:
            await _attend(actor, box)
        finally:
            if type(actor).teardown is not Actor.teardown:
                ref._detach(box)
                with status.cleanup():
                    await actor.teardown()
    except BaseException as exc:
        error = exc
        raise
    finally:
        ref._detach(box)
        if actor._call is not None:
            box.tell_dead(actor._call, error)
        box.close(error)
        del error, actor, box


async def _attend(actor: Actor, box: Mailbox) -> None:
    """Handles messages until asked to stop. Whatever is in the box has a handler: `Ref` looks before it puts anything there."""
    handlers = cast("dict[type, Handler]", type(actor)._handlers)
    left = MESSAGES_PER_CHECKPOINT
    while not box.stopping:
        if box.control or box.waiting:
            message = box.take()
        elif box.queue:
            message = box.queue.popleft()
        else:
            message = result = None  # an idle actor keeps neither
            box.idle = True
            await wait_task_rescheduled(box.give_up)
            left = MESSAGES_PER_CHECKPOINT
            continue
        if type(message) is Call:
            actor._call = message
            result = await handlers[type(message.message)](actor, message.message)
            if actor._call is message:
                actor._call = None
                message.answer(result)
        else:
            await handlers[type(message)](actor, message)
        left -= 1
        if not left:
            await trio.lowlevel.checkpoint()
            left = MESSAGES_PER_CHECKPOINT


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
