"""The kernel thread: one after the other, every caller answered, nobody lost."""

import signal
import subprocess
import sys
import threading

import pytest
import trio
import trio.testing

from colony_core.errors import WrongState
from colony_core.isolation.kernel import open_kernel


async def test_work_runs_in_one_thread_that_is_not_ours() -> None:
    async with open_kernel() as kernel:
        names = {await kernel.run(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"colony-kernel"}


async def test_an_error_comes_back_to_its_caller_and_the_thread_goes_on() -> None:
    async with open_kernel() as kernel:
        with pytest.raises(ZeroDivisionError):
            await kernel.run(lambda: 1 // 0)
        assert await kernel.run(int, "7") == 7


async def test_cancelled_before_its_turn_it_never_runs() -> None:
    ran: list[str] = []
    go = threading.Event()
    async with open_kernel() as kernel, trio.open_nursery() as nursery:
        nursery.start_soon(kernel.run, go.wait)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(kernel.run, ran.append, "late")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        go.set()
        await kernel.run(ran.append, "after")
    assert ran == ["after"]


async def test_cancelled_in_its_turn_it_still_gives_what_it_made() -> None:
    began, go = threading.Event(), threading.Event()
    given: list[str] = []

    def make() -> str:
        began.set()
        go.wait()
        return "made"

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            given.append(await kernel.run(make))

    async with open_kernel() as kernel, trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(ask, scope)
        await trio.to_thread.run_sync(began.wait)
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert given == []
        go.set()
    assert given == ["made"]


async def test_closing_answers_who_asked_before_and_refuses_who_asks_after() -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await kernel.run(int, number))

    async with trio.open_nursery() as nursery:
        async with open_kernel() as kernel:
            for number in range(20):
                nursery.start_soon(ask, number)
            await trio.testing.wait_all_tasks_blocked(0.0)
        with pytest.raises(WrongState) as caught:
            await kernel.run(int, 1)
    assert sorted(answers) == list(range(20))
    assert caught.value.code == "isolation-closed"


LOST = """
import resource, trio
from colony_core.isolation import kernel as k

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
moves = []

def setns(fd, kind):
    moves.append(fd)
    if len(moves) == 2:
        raise OSError(1, "no way home")

async def main():
    async with k.open_kernel() as kernel:
        k.syscalls.setns = setns
        def visit():
            with kernel.inside(kernel.home):
                print("inside", flush=True)
        await kernel.run(visit)
    print("went on in a stranger's network", flush=True)

trio.run(main)
"""


def test_a_process_that_cannot_leave_a_cell_ends_rather_than_go_on_there() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "inside\n"
    assert done.returncode == -signal.SIGABRT
