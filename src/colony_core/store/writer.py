"""One thread that writes: what waits together is committed together, each unit in a savepoint of its own.

A commit costs a wait for the disk, so units that arrive during one commit share the next. The thread outlives whatever a unit raises
and whatever the disk says; every unit is answered exactly once.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import attrs
import outcome
import trio
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ResourceClosedError

from colony_core.errors import Broken

from .faults import closed

T = TypeVar("T")
Answer = outcome.Outcome[Any]
Unit = Callable[[Connection], Any]

MAX_BATCH_UNITS = 256
CLOSE_SECONDS = 10.0


@attrs.define(eq=False)
class _Waiter:
    unit: Unit
    task: trio.lowlevel.Task


class _TransactionLostError(Exception):
    """The transaction ended under its units: what the earlier ones did is undone; `blame` is what the last one met."""

    def __init__(self, blame: BaseException) -> None:
        super().__init__(blame)
        self.blame = blame


class GroupWriter:
    """Runs units on its own thread and connection; `translate` turns database errors into ours. Close it with `aclose`."""

    def __init__(self, engine: Engine, translate: Callable[[BaseException], BaseException]) -> None:
        self.commits = 0
        self._engine = engine
        self._translate = translate
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: set[_Waiter] = set()
        self._queue: deque[_Waiter] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._guarding = False
        self._connection: Connection | None = None
        event.listen(engine, "commit", self._refuse_to_end)
        event.listen(engine, "rollback", self._refuse_to_end)
        self._thread = threading.Thread(target=self._run, name="colony-store-writer", daemon=True)
        self._thread.start()

    @trio.lowlevel.enable_ki_protection  # an interrupt between queueing and waiting would leave an answer without its caller
    async def write(self, unit: Callable[[Connection], T]) -> T:
        """See `Store.write`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = _Waiter(unit, trio.lowlevel.current_task())
        with self._news:
            if self._closing:
                raise closed()
            self._queue.append(waiter)
            self._news.notify()
        self._waiting.add(waiter)
        answer: T = await trio.lowlevel.wait_task_rescheduled(partial(self._give_up, waiter))
        return answer

    async def aclose(self) -> None:
        """Runs what still waits, answers everyone and ends the thread. A unit that does not return is left behind after ten seconds."""
        with self._news:
            self._closing = True
            self._news.notify()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, CLOSE_SECONDS)
            await trio.lowlevel.checkpoint()  # lets the last answers, already on their way, arrive
        for waiter in tuple(self._waiting):
            stuck = Broken("store-stuck", "a unit of the store did not return; what it did is undone", "report this")
            self._deliver([waiter], [outcome.Error(stuck)])

    def _give_up(self, waiter: _Waiter, _: Any) -> trio.lowlevel.Abort:
        with self._news:
            try:
                self._queue.remove(waiter)
            except ValueError:
                return trio.lowlevel.Abort.FAILED
        self._waiting.discard(waiter)
        return trio.lowlevel.Abort.SUCCEEDED

    def _deliver(self, waiters: Sequence[_Waiter], answers: Sequence[Answer]) -> None:
        for waiter, answer in zip(waiters, answers, strict=True):
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                trio.lowlevel.reschedule(waiter.task, answer)

    # ---- below: the writer's thread

    def _run(self) -> None:
        while batch := self._take():
            try:
                answers = self._answers([waiter.unit for waiter in batch])
            except BaseException as error:
                answers = [self._error(error) for _ in batch]
                self._drop_connection()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver, batch, answers)
        self._drop_connection()

    def _take(self) -> list[_Waiter]:
        with self._news:
            while not self._queue and not self._closing:
                self._news.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH_UNITS))]

    def _answers(self, units: list[Unit]) -> list[Answer]:
        """Runs `units` in one transaction; where that fails as a whole, each alone, so that only the guilty one bears it."""
        try:
            self._begin()
        except BaseException as error:
            self._drop_connection()
            return [self._error(error) for _ in units]
        try:
            answers = [self._run_unit(unit) for unit in units]
            self._commit()
        except BaseException as error:
            self._reset()
            if len(units) == 1:
                return [self._error(error.blame if isinstance(error, _TransactionLostError) else error)]
            return [answer for unit in units for answer in self._answers([unit])]
        return answers

    def _begin(self) -> None:
        if self._connection is None:
            self._connection = self._engine.connect()
        self._connection.begin()

    def _run_unit(self, unit: Unit) -> Answer:
        connection = self._connection
        assert connection is not None
        savepoint = connection.begin_nested()
        self._guarding = True
        try:
            answer: Answer = outcome.Value(unit(connection))
            self._guarding = False
            savepoint.commit()
        except BaseException as error:
            self._guarding = False
            try:
                savepoint.rollback()
            except BaseException as lost:
                raise _TransactionLostError(error) from lost
            answer = self._error(error)
        if not (connection.in_transaction() and _driver_in_transaction(connection)):
            misuse = ResourceClosedError("the transaction is over")
            raise _TransactionLostError(answer.error if isinstance(answer, outcome.Error) else misuse)
        return answer

    def _commit(self) -> None:
        assert self._connection is not None
        self._connection.commit()
        self.commits += 1

    def _refuse_to_end(self, connection: Connection) -> None:
        if self._guarding and connection is self._connection:
            raise ResourceClosedError("commit and rollback are the store's business")

    def _reset(self) -> None:
        try:
            assert self._connection is not None
            self._connection.rollback()
            clean = not _driver_in_transaction(self._connection)
        except BaseException:
            clean = False
        if not clean:
            self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(BaseException):
                connection.invalidate()
            with suppress(BaseException):
                connection.close()

    def _error(self, error: BaseException) -> Answer:
        return outcome.Error(self._translate(error))


def _driver_in_transaction(connection: Connection) -> bool:
    return bool(connection.connection.driver_connection.in_transaction)  # type: ignore[union-attr]
