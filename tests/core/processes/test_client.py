"""What a keeper does for its daemon; the same tests over a keeper of its own and over the engine in this program."""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from colony_core.errors import AlreadyExists, ColonyError, Invalid, NotAllowed, NotFound, WrongState
from colony_core.processes import KeeperLost, Missed, open_inline_keeper

COUNT = 200


@pytest.fixture(params=["program", "inline"])
def opened(request: pytest.FixtureRequest, place: Any) -> Callable[[], Any]:
    return place.open if request.param == "program" else lambda: open_inline_keeper(state_dir=place.state_dir)


async def test_a_process_is_started_drained_and_its_end_told(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.shell("web.1", "echo out; echo err >&2; printf unfinished; exit 3"))
        assert process.label == "web"
        exited = await process.wait()
        assert (exited.code, exited.reason, exited.ok, exited.survivors) == (3, "exit 3", False, ())
        assert process.started_at <= exited.at
        page = await keeper.log_book(place.log.directory).read(0)
        assert [line.seq for line in page.lines] == [1, 2, 3]
        assert {(line.service, line.stream, line.text) for line in page.lines} == {
            ("web", "out", "out"),
            ("web", "err", "err"),
            ("web", "out", "unfinished"),
        }
        assert keeper.find("web.1") is process
        assert keeper.processes() == (process,)
        await keeper.forget("web.1")
        assert keeper.processes() == ()
        assert os.listdir(place.state_dir / "exits") == []


async def test_a_process_killed_by_a_signal_says_which(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.launch("web.1", "sleep", "1000"))
        await process.signal(signal.SIGKILL)
        exited = await process.wait()
        assert (exited.code, exited.reason) == (-9, "killed by SIGKILL")
        await process.signal(signal.SIGTERM)
        assert await process.stop(grace=0) == exited


async def test_what_cannot_start_says_why(opened: Any, place: Any, tmp_path: Any) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("text")
    cases: list[tuple[Any, type[ColonyError], str]] = [
        (place.launch("k.1", "no-such-command-here"), NotFound, "command-not-found"),
        (place.launch("k.1", "./no-such-file"), NotFound, "command-not-found"),
        (place.launch("k.1", "true", cwd=str(tmp_path / "gone")), NotFound, "cwd-missing"),
        (place.launch("k.1", str(script)), NotFound, "interpreter-missing"),
        (place.launch("k.1", str(plain)), NotAllowed, "permission-denied"),
        (place.launch("k.1"), Invalid, "empty-command"),
        (place.launch("k.1", "a\0b"), Invalid, "bad-launch"),
        (place.launch("../k", "true"), Invalid, "bad-process-key"),
        (place.launch("k.1", "true", label="two words"), Invalid, "bad-label"),
        (place.launch("k.1", "true", netns=tmp_path / "gone"), NotFound, "namespace-missing"),
    ]
    async with opened() as keeper:
        for launch, kind, code in cases:
            with pytest.raises(kind) as caught:
                await keeper.start(launch)
            assert caught.value.code == code
            assert caught.value.message
        assert keeper.processes() == ()
        await (await keeper.start(place.launch("k.1", "true"))).wait()


async def test_a_key_is_used_once_until_it_is_forgotten(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.launch("web.1", "sleep", "1000"))
        with pytest.raises(AlreadyExists):
            await keeper.start(place.launch("web.1", "true"))
        with pytest.raises(WrongState):
            await keeper.forget("web.1")
        await process.stop(grace=60)
        with pytest.raises(AlreadyExists):
            await keeper.start(place.launch("web.1", "true"))
        await keeper.forget("web.1")
        await keeper.forget("web.1")
        again = await keeper.start(place.launch("web.1", "true"))
        assert (await again.wait()).code == 0


async def test_the_environment_and_the_folder_are_those_asked_for(opened: Any, place: Any, tmp_path: Any) -> None:
    folder = tmp_path / "wörk space"
    folder.mkdir()
    async with opened() as keeper:
        source = "import os; print(os.getcwd()); print(sorted(os.environ.items())); print(os.umask(0), os.getsid(0) == os.getpid())"
        env = {"PATH": os.environ["PATH"], "ODD": "a\udcffb", "LC_ALL": "C.UTF-8", "COLONY_KEEPER": "forged"}
        await (await keeper.start(place.python("web.1", source, cwd=str(folder), env=env, umask=0o027))).wait()
        lines = [line.text for line in (await keeper.log_book(place.log.directory).read(0)).lines]
        seen = dict(eval(lines[1]))
        assert lines[0] == str(folder)
        assert seen == {**env, "COLONY_PROCESS": "web.1", "COLONY_KEEPER": keeper.identity}
        assert lines[2] == f"{0o027} True"


async def test_descriptors_of_the_caller_are_handed_over(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        ours, theirs = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        process = await keeper.start(place.shell("exec.1", "echo hello; echo bad >&2", stdio=(null, theirs, theirs)))
        os.close(theirs)
        os.close(null)
        assert (await process.wait()).code == 0
        assert os.read(ours, 100) == b"hello\nbad\n"
        assert os.read(ours, 100) == b""
        os.close(ours)
        assert not place.log.directory.exists()


async def test_no_descriptor_but_the_three_reaches_a_process(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        await (await keeper.start(place.python("web.1", "import os; print(os.listdir('/proc/self/fd'))"))).wait()
        (line,) = (await keeper.log_book(place.log.directory).read(0)).lines
        assert sorted(eval(line.text)) == ["0", "1", "2", "3"]  # 3 is the folder that lists them


async def test_two_hundred_short_processes_all_end_and_say_so(opened: Any, place: Any) -> None:
    codes = {}

    async def one(keeper: Any, n: int) -> None:
        process = await keeper.start(place.shell(f"s{n}.1", f"echo {n}; exit {n % 7}"))
        codes[n] = (await process.wait()).code
        await keeper.forget(process.key)

    async with opened() as keeper:
        async with trio.open_nursery() as nursery:
            for n in range(COUNT):
                nursery.start_soon(one, keeper, n)
        page = await keeper.log_book(place.log.directory).read(0)
        assert [line.seq for line in page.lines] == list(range(1, COUNT + 1))
        assert sorted(int(line.text) for line in page.lines) == list(range(COUNT))
        assert keeper.processes() == ()
    assert codes == {n: n % 7 for n in range(COUNT)}


async def test_a_flood_of_one_service_does_not_starve_another(opened: Any, place: Any) -> None:
    endless = attrs.evolve(place.log, total_bytes=2**40)  # however late this test gets to read: no line is gone
    async with opened() as keeper:
        book = keeper.log_book(place.log.directory)
        flood = await keeper.start(place.launch("flood.1", "yes", log=endless))
        with trio.fail_after(60):
            while await book.last() < 1000:
                await trio.sleep(0.005)
        calm = await keeper.start(place.python("calm.1", "for n in range(100): print(n, flush=True)", log=endless))
        with trio.fail_after(60):
            assert (await calm.wait()).code == 0
        assert flood.running
        await flood.stop(grace=60)
        calm_lines = (await book.read(limit=1000, labels=frozenset({"calm"}))).lines
        assert [line.text for line in calm_lines][-1:] == ["99"]


async def test_a_follower_sees_each_line_once_and_learns_what_it_missed(opened: Any, place: Any) -> None:
    small = attrs.evolve(place.log, segment_bytes=2000, total_bytes=8000)
    async with opened() as keeper:
        book = keeper.log_book(small.directory)
        for n in range(300):
            await keeper.note(small, f"{n}")
        expected = 1
        missed = 0
        async with contextlib.aclosing(book.follow(0)) as lines:
            async for line in lines:
                if isinstance(line, Missed):
                    assert line.first == expected
                    missed += line.last - line.first + 1
                    expected = line.last + 1
                    continue
                assert line.seq == expected
                assert int(line.text) == line.seq - 1
                expected += 1
                if line.seq == 300:
                    break
        assert missed > 0


async def test_a_waiting_follower_is_woken_by_a_new_line(opened: Any, place: Any) -> None:
    seen = []

    async def follow(keeper: Any) -> None:
        async with contextlib.aclosing(keeper.log_book(place.log.directory).follow(0)) as lines:
            async for line in lines:
                seen.append(line.text)
                if line.text == "three":
                    return

    async with opened() as keeper:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, keeper)
                for number, text in enumerate(("one", "two", "three"), 1):
                    assert await keeper.note(place.log, text) == number
                    await place.until(lambda text=text: seen[-1:] == [text])
    assert seen == ["one", "two", "three"]


async def test_a_note_stands_in_sequence_with_the_lines_of_services(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        await (await keeper.start(place.launch("web.1", "echo", "a"))).wait()
        assert await keeper.note(place.log, "restarted\nafter a crash") == 3
        await (await keeper.start(place.launch("web.2", "echo", "b"))).wait()
        lines = (await keeper.log_book(place.log.directory).read(0)).lines
        assert [(line.service, line.stream, line.text) for line in lines] == [
            ("web", "out", "a"),
            ("colony", "note", "restarted"),
            ("colony", "note", "after a crash"),
            ("web", "out", "b"),
        ]


async def test_a_cancelled_wait_leaves_the_process_alone(opened: Any, place: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.launch("web.1", "sleep", "1000"))
        with trio.move_on_after(0.01) as scope:
            await process.wait()
        assert scope.cancelled_caught
        assert process.running
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            await keeper.start(place.launch("web.2", "sleep", "1000"))
        assert {process.key for process in keeper.processes()} == {"web.1", "web.2"}


async def test_shutdown_ends_everything_and_the_ends_can_still_be_read(opened: Any, place: Any, is_alive: Any) -> None:
    async with opened() as keeper:
        process = await keeper.start(place.shell("web.1", "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"))
        await place.line(keeper, "up")
        await keeper.shutdown(grace=60)
        assert keeper.lost.is_set()
        assert not is_alive(process.pid)
        assert (await process.wait()).code == 5
        with pytest.raises(KeeperLost):
            await keeper.start(place.launch("web.2", "true"))
    async with opened() as keeper:
        assert keeper.fresh
        (known,) = keeper.processes()
        assert (known.key, known.running, (await known.wait()).code) == ("web.1", False, 5)
        await keeper.forget("web.1")


async def test_leaving_an_inline_keeper_ends_its_processes(place: Any, is_alive: Any) -> None:
    started = []
    with pytest.raises(ZeroDivisionError, match="of the block"):  # noqa: PT012
        async with open_inline_keeper(state_dir=place.state_dir) as keeper:
            started.append(await keeper.start(place.launch("web.1", "sleep", "1000")))
            raise ZeroDivisionError("of the block")
    assert not is_alive(started[0].pid)
