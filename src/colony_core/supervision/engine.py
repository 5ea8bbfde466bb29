"""The heart of a supervisor: which child may do what, step by step, without ever waiting.

    DOWN -> STARTING            start_child, restart_child, the first start
    STARTING -> UP              started()
    STARTING -> DOWN            failed on the first start, or Ignore
    STARTING, UP -> RESTARTING  ended and to be started again; waits for its turn, its delay or its group
    RESTARTING -> STARTING      its turn has come
    STARTING, UP -> STOPPING    asked to stop
    STOPPING -> DOWN            ended; or -> RESTARTING, if stopped for the sake of its group
    RESTARTING -> DOWN          stopped on request: nothing runs, so it takes effect at once

Starts take turns, as in OTP: while one child starts, other restarts and requests to start queue up. A request to stop never queues.
What needs several steps (the first starts, a group restart, the final stop) is done by the `driver`, which holds
the turn meanwhile (`sequence`) and is woken by `bell`.

The file is long because the whole table above is in it, and nowhere else.
"""

import contextvars
import random
from collections import deque
from math import inf
from typing import TypeVar

import trio
from trio.lowlevel import cancel_shielded_checkpoint, current_clock, current_task

from .child import Child, Job
from .errors import ChildStartError, EndedUnasked, Ignore, NotRunning, PlannedStop, RestartLimit
from .events import ChildOverdue, ChildStarted, ChildTerminated, Hook, LimitReached, Path, StartFailed, StopFailed, tell
from .restart import Verdict, Window, delay, is_clean_stop, is_reported, verdict
from .spec import ID, AutoShutdown, Exit, ExitKind, Limit, State, Strategy
from .status import Status
from .timers import Alarms, Bell, Deadlines

E = TypeVar("E", bound=BaseException)

OVERDUE_SECONDS = 1.0


class Engine:
    """Children, their states and what follows from what. Every method is one step: it neither waits nor fails."""

    serial = True
    announces_starts = True

    def __init__(
        self,
        path: Path,
        *,
        strategy: Strategy,
        limit: Limit,
        auto_shutdown: AutoShutdown,
        on_event: Hook,
        rng: random.Random,
    ) -> None:
        self.now = current_clock().current_time
        self.path = path
        self.on_event = on_event
        self.rng = rng
        self.strategy = strategy
        self.limit = limit
        self.auto_shutdown = auto_shutdown
        self.kids: dict[ID, Child] = {}
        self.bell = Bell()
        self.alarms = Alarms()
        self.deadlines = Deadlines(self.bell)  # of calls to the actors among the children
        self.graces = Deadlines(self.bell)
        self.stop_called = False
        self.failure: BaseException | None = None
        self.sequence = True  # the driver holds the turn; it begins with the first starts
        self.group_job: Job | None = None
        self.booting = True
        self.over = trio.Event()
        self.nursery: trio.Nursery | None = None
        self._context = contextvars.copy_context()
        self._launching: Child | None = None
        self._seat_of: Child | None = (
            None  # whose incarnation is just ending, and the scope of its task until it is taken
        )
        self._seat: trio.CancelScope | None = None
        self._jobs: deque[Job] = deque()
        self._window = Window(limit)

    # -- starting

    def begin(self, child: Child) -> None:
        """Launches a child that somebody asked for, now if it is its turn, else later."""
        if self.busy:
            child.move(State.STARTING, self.now())
            child.job = job = Job(child)
            self._jobs.append(job)
        else:
            self.launch(child, revived=False)

    def submit(self, job: Job) -> None:
        """Does the job now if it is its turn, else later."""
        job.child.job = job
        if self.busy:
            self._jobs.append(job)
        else:
            self._begin(job)

    @property
    def busy(self) -> bool:
        """Whether what is to start has to wait for its turn."""
        return self._launching is not None or self.sequence or bool(self._jobs) or self.stop_called

    def next_job(self) -> None:
        """Goes on with what has queued up, until something holds the turn again."""
        jobs = self._jobs
        while jobs and not self.sequence and self._launching is None and not self.stop_called:
            job = jobs.popleft()
            if job.child.job is job:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        if job.child.state is State.RESTARTING:
            self._restart(job)
        else:
            self.launch(job.child, revived=False)

    def launch(self, child: Child, *, revived: bool) -> None:
        """Begins one incarnation: in the task of the one before, if that is just ending, else in a task of its own."""
        if self.serial and not self.sequence:
            self._launching = child
        child.job = child.leader = None
        child.revived = revived
        child.incarnation += 1
        child.move(State.STARTING, self.now())
        if child is self._seat_of and self._seat is not None and not self._seat.cancel_called:
            child.status = Status(self, child, self._seat)
            self._seat = None
        else:
            assert self.nursery is not None
            child.status = status = Status(self, child, trio.CancelScope())
            self._context.run(self.nursery.start_soon, self._live, child, status, name=str(child.spec.id))  # type: ignore[arg-type]

    async def _live(self, child: Child, status: Status) -> None:
        """A task and its scope, for one incarnation and those that follow it at once. No error leaves it.

        Each incarnation runs in a copy of the supervisor's own context: nothing of a dead one lives on in its variables.
        """
        error: BaseException | None = None
        try:
            with status.scope:
                while True:
                    try:
                        await child.spec.run(*child.spec.args, *child.extra, status=status)
                    except Exception as exc:
                        error = _without_own_frame(exc)
                    if not self._succeeded(child, status, error):
                        return
                    assert child.status is not None
                    status, error = child.status, None
                    current_task().context = self._context.copy()
                    await cancel_shielded_checkpoint()
        except trio.Cancelled:
            # Somebody cancelled the nursery itself, which only a broken run does.
            self.stop()
            self.ended(child, status, None, cancelled=True)
            raise
        except BaseException as exc:
            error = _without_own_frame(exc)
        self.ended(child, status, error, cancelled=status.scope.cancelled_caught)

    def _succeeded(self, child: Child, status: Status, error: BaseException | None) -> bool:
        """Ends an incarnation that ended by itself, and tells whether the next one has taken over its task."""
        self._seat_of, self._seat = child, status.scope
        self.ended(child, status, error, cancelled=False)
        taken = self._seat is None
        self._seat_of = self._seat = None
        return taken

    def acknowledge(self, child: Child, value: object) -> None:
        """The child called `started(value)`."""
        child.value = value
        if child.state is not State.STARTING:
            return
        if child.revived:
            child.restarts += 1
        child.move(State.UP, self.now())
        if self.announces_starts:
            tell(self.on_event, ChildStarted(self.path_of(child), child.since, child.incarnation))
        self._start_is_over(child, None)

    def _start_is_over(self, child: Child, error: BaseException | None) -> None:
        """Answers whoever asked for the start and passes the turn on."""
        child.add = False
        starter = child.starter
        if starter is not None:
            child.starter = None
            starter.over(error)
        if self.sequence or self.stop_called:
            self.bell.ring()
        if self._launching is child:
            self._launching = None
            if self._jobs:
                self.next_job()

    # -- ends

    def ended(self, child: Child, status: Status, error: BaseException | None, *, cancelled: bool) -> None:
        """An incarnation is over."""
        state = child.state
        end, ignored = _exit_of(child, status, error, self.now(), cancelled=cancelled)
        status.close()
        child.ended(end)
        if error is not None and not isinstance(error, Exception):
            self.fail(error)
            tell(self.on_event, ChildTerminated(self.path_of(child), end.at, end))
            self._put_down(child, end.at)
            self._start_is_over(child, _start_error(child, end))
        elif state is State.STOPPING or child.leader is not None:
            # A follower that ends before its turn to be stopped for its group has simply stopped early.
            self._after_stop(child, end)
        elif state is State.STARTING:
            self._after_failed_start(child, end, ignored=ignored)
        elif self.stop_called:
            if end.kind is ExitKind.FAILED:
                self.report_stop(child, end)
            self._put_down(child, end.at)
        else:
            self._after_end(child, end)
        if self.sequence or self.stop_called:
            self.bell.ring()

    def _after_stop(self, child: Child, end: Exit) -> None:
        if not is_clean_stop(child.spec.grace, end):
            self.report_stop(child, end)
        if child.leader is not None and not child.temporary and not self.stop_called:
            child.move(State.RESTARTING, end.at)
        else:
            self._put_down(child, end.at)
        why = None if child.starter is None else ChildStartError(child.id, "was stopped while it started")
        self._start_is_over(child, why)

    def _after_failed_start(self, child: Child, end: Exit, *, ignored: bool) -> None:
        if not ignored:
            tell(self.on_event, StartFailed(self.path_of(child), end.at, end))
        if self.stop_called or ignored:
            self._put_down(child, end.at)
        elif child.revived:
            child.move(State.RESTARTING, end.at)
            self.submit(Job(child, again=True))
        elif self.booting:
            self._put_down(child, end.at)
            self.fail(_start_error(child, end))
        else:
            child.doomed = child.doomed or child.add
            self._put_down(child, end.at)
        self._start_is_over(child, None if ignored else _start_error(child, end))

    def _after_end(self, child: Child, end: Exit) -> None:
        """The child ended by itself."""
        spec = child.spec
        if is_reported(spec.restart, end):
            tell(self.on_event, ChildTerminated(self.path_of(child), end.at, end))
        fate = verdict(spec.restart, end)
        if fate is Verdict.RESTART:
            if spec.backoff is not None and end.at - child.since >= spec.backoff.reset:
                child.streak = 0
            child.move(State.RESTARTING, end.at)
            self.submit(Job(child))
            return
        self._put_down(child, end.at)
        if spec.significant and self._is_enough(child):
            self.stop()

    def _is_enough(self, child: Child) -> bool:
        """Whether the end of this significant child ends the supervisor."""
        if self.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
            return True
        others = (other for other in self.kids.values() if other is not child and other.spec.significant)
        return all(other.state is State.DOWN for other in others)

    def _put_down(self, child: Child, now: float) -> None:
        child.job = child.leader = None
        if child.doomed or not self.serial or child.temporary:
            self.kids.pop(child.key, None)
        child.move(State.DOWN, now)

    # -- restarting

    def _restart(self, job: Job) -> None:
        """The turn of a child that waits to be brought back."""
        child = job.child
        if not job.counted:
            job.counted = True
            job.delay = self._delay(child)
            if self._gives_up(child):
                return
        if self.strategy is not Strategy.ONE_FOR_ONE:
            self.sequence, self.group_job = True, job
            self.bell.ring()
        elif job.delay:
            self.postpone(job)
        else:
            self.launch(child, revived=True)

    def _gives_up(self, child: Child) -> bool:
        """Counts a restart; if it is one too many, the supervisor ends."""
        end = child.last_exit
        assert end is not None
        error = end.error if isinstance(end.error, Exception) else EndedUnasked(f"child {child.id!r} ended: {end}")
        now = self.now()
        if not self._window.passes(now, error):
            return False
        tell(self.on_event, LimitReached(self.path, now, self.limit, end))
        who = "/".join(str(part) for part in self.path) or "supervisor"
        self.fail(
            RestartLimit(
                f"{who}: more than {self.limit.count} restarts in {self.limit.period:g} s", self._window.errors
            )
        )
        return True

    def _delay(self, child: Child) -> float:
        backoff = child.spec.backoff
        if backoff is None:
            return 0.0
        child.streak += 1
        return delay(backoff, child.streak - 1, self.rng)

    def postpone(self, job: Job) -> None:
        """Has the job done after its delay. Nobody waits meanwhile: other requests get in."""
        at = self.now() + job.delay
        job.delay, job.resumed = 0.0, True
        self.alarms.set(at, self._resume, job)
        self.bell.ring()

    def _resume(self, job: Job) -> None:
        if job.child.job is job and not self.stop_called:
            self.submit(job)

    # -- stopping

    def stop(self) -> None:
        """Asks for an orderly stop; fine to call twice. Not a checkpoint.

        What waits for its turn is refused, what runs is stopped in reverse.
        """
        if self.stop_called:
            return
        self.stop_called = True
        jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            if job.child.job is job:
                self._cancel_job(job.child, NotRunning("the supervisor is stopping"))
        self.bell.ring()

    def fail(self, error: BaseException) -> None:
        """Ends the supervisor with `error`; what is not an Exception outweighs what is."""
        if self.failure is None or (isinstance(self.failure, Exception) and not isinstance(error, Exception)):
            self.failure = error
        self.stop()

    def cut(self) -> None:
        """The grace of the whole supervisor is over: everything below is cut at once."""
        self.stop()
        self.graces = Deadlines(self.bell)  # those that ran are void: each child is overdue one second from now
        for child in list(self.kids.values()):
            if child.status is not None:
                if child.state is not State.STOPPING:
                    child.move(State.STOPPING, self.now())
                self._cut(child.status)

    def request_stop(self, child: Child) -> None:
        """Asks one running child to stop, and sees to its grace.

        Cancels right here: each call in between would be kept as a frame by the traceback of the Cancelled of each child.
        """
        status = child.status
        assert status is not None
        if child.state is State.STOPPING:
            return
        child.move(State.STOPPING, self.now())
        grace = child.spec.grace
        if grace == 0:
            if self._prepare_cut(status):
                status.scope.cancel(reason="cut by its supervisor")
            return
        if status.soft is None:
            status.scope.cancel(reason="stopped by its supervisor")
        else:
            status.ask()
        if grace < inf:
            self.graces.watch(status, grace)

    def _cut(self, status: Status) -> None:
        """No time is left: the child is cancelled, and what shields it from that is dropped."""
        if self._prepare_cut(status):
            status.scope.cancel(reason="cut by its supervisor")

    def _prepare_cut(self, status: Status) -> bool:
        """Notes the cut, and tells whether the scope is still to be cancelled."""
        status.cut_at = self.now()
        self.graces.watch(status, OVERDUE_SECONDS)
        if status.shields is not None:
            status.unshield()
        if status.hard is None:
            return True
        status.hard()
        return False

    def out_of_time(self, child: Child, status: Status) -> None:
        """The grace of a child is over; or, later, a child that was cut shields itself and can only be waited for."""
        if status.cut_at is None:
            self._cut(status)
        else:
            status.due = None
            tell(self.on_event, ChildOverdue(self.path_of(child), self.now(), status.cut_at))

    def dismiss(self, child: Child) -> None:
        """Stops a child on request, whatever it is doing. What has nothing running is down at once."""
        child.leader = None
        child.held = True
        if child.status is not None:
            self.request_stop(child)
        elif child.state is not State.DOWN:
            self._cancel_job(child, ChildStartError(child.id, "was stopped before it started"))
            for other in list(self.kids.values()):
                if other.leader is child:
                    other.leader = other.job = None
                    if other.state is State.RESTARTING:
                        other.move(State.DOWN, self.now())

    def _cancel_job(self, child: Child, why: BaseException) -> None:
        child.doomed = child.doomed or child.add
        self._put_down(child, self.now())
        self._start_is_over(child, why)

    def report_stop(self, child: Child, end: Exit) -> None:
        """An end that was asked for but did not go as asked."""
        tell(self.on_event, StopFailed(self.path_of(child), end.at, end))

    def path_of(self, child: Child) -> Path:
        """The ids from the root to the child."""
        return (*self.path, child.id)


def _without_own_frame(error: E) -> E:
    """The error without the frame that caught it: that one holds the child, which will hold the error."""
    return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)


def _exit_of(
    child: Child, status: Status, error: BaseException | None, now: float, *, cancelled: bool
) -> tuple[Exit, bool]:
    """How the incarnation ended, and whether that means "not needed now"."""
    kind = ExitKind.NORMAL
    asked = child.state is State.STOPPING
    if error is None:
        if status.cut_at is not None:
            kind = ExitKind.KILLED
        elif cancelled:
            kind = ExitKind.SHUTDOWN
        elif not status.acknowledged and not asked:
            kind, error = ExitKind.FAILED, RuntimeError(f"child {child.id!r} returned without calling status.started()")
    elif not status.acknowledged and not asked and _is_only(error, Ignore):
        return Exit(ExitKind.NORMAL, None, now, child.incarnation), True
    elif (status.acknowledged or asked) and _is_only(error, PlannedStop):
        kind, error = ExitKind.SHUTDOWN, None
    else:
        kind = ExitKind.FAILED
    return Exit(kind, error, now, child.incarnation), False


def _is_only(error: BaseException, kind: type[Exception]) -> bool:
    """Whether `error` is of `kind`, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_only(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind)


def _start_error(child: Child, end: Exit) -> ChildStartError:
    error = ChildStartError(child.id)
    error.__cause__ = end.error
    return error
