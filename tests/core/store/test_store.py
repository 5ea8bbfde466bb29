"""The store keeps what it acknowledged, whatever happens around it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
from sqlalchemy import Connection, text
from trio.testing import wait_all_tasks_blocked

from colony_core.errors import AlreadyExists, Broken, ColonyError, NotAllowed, WrongState
from colony_core.store import Store, get_meta, open_store, put_meta
from colony_core.store import writer as writer_module

HANGS_AFTER = 120


def insert(connection: Connection, key: str, value: str = "x") -> str:
    connection.execute(text("INSERT INTO meta VALUES (:k, :v)"), {"k": key, "v": value})
    return key


def keys(connection: Connection) -> list[str]:
    return list(connection.scalars(text("SELECT key FROM meta ORDER BY key")))


class Holding:
    """A unit that holds up those behind it until it is released."""

    def __init__(self) -> None:
        self._began, self._released = threading.Event(), threading.Event()

    def __call__(self, connection: Connection) -> bool:
        self._began.set()
        return self._released.wait(HANGS_AFTER)

    async def has_begun(self) -> None:
        """The thread is at it: Trio's tasks are all blocked long before."""
        assert await trio.to_thread.run_sync(self._began.wait, HANGS_AFTER)

    def release(self) -> None:
        self._released.set()

    async def release_when_idle(self) -> None:
        await wait_all_tasks_blocked()
        self.release()


async def test_what_was_written_is_read_back_also_after_reopening(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        assert await store.write(lambda c: insert(c, "a", "1")) == "a"
        await store.write(lambda c: put_meta(c, "a", "2"))
        assert await store.read(lambda c: get_meta(c, "a")) == "2"
    async with open_store(tmp_path / "s.db") as store:
        assert await store.read(lambda c: get_meta(c, "a")) == "2"
        assert await store.read(lambda c: get_meta(c, "b")) is None


async def test_file_and_folder_are_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deep" / "s.db"
    previous = os.umask(0o000)
    try:
        async with open_store(path) as store:
            await store.write(lambda c: insert(c, "a"))
            modes = {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    finally:
        os.umask(previous)
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_file_is_in_wal_mode_and_every_commit_is_synced(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        for ask in (store.write, store.read):
            assert await ask(lambda c: c.scalar(text("PRAGMA journal_mode"))) == "wal"
            assert await ask(lambda c: c.scalar(text("PRAGMA synchronous"))) == 2


async def test_writers_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    holding = Holding()
    async with open_store(tmp_path / "s.db") as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, holding)
            await holding.has_begun()
            for i in range(50):
                nursery.start_soon(store.write, lambda c, i=i: insert(c, f"k{i:02}"))
            await wait_all_tasks_blocked()
            holding.release()
        # One for the unit that held the others up, one for all of them.
        assert store.commits == 2
        assert len(await store.read(keys)) == 50


async def test_a_failing_unit_undoes_only_itself(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def fails(connection: Connection) -> None:
        insert(connection, "never")
        raise MemoryError("in a unit")

    async def failing(store: Store) -> None:
        try:
            await store.write(fails)
        except MemoryError as error:
            failures.append(error)

    async with open_store(tmp_path / "s.db") as store:
        async with trio.open_nursery() as nursery:
            for i in range(10):
                nursery.start_soon(store.write, lambda c, i=i: insert(c, f"k{i}"))
                nursery.start_soon(failing, store)
        assert len(failures) == 10
        assert await store.read(keys) == [f"k{i}" for i in range(10)]


def _commits(connection: Connection) -> None:
    insert(connection, "never")
    connection.commit()


def _rolls_back(connection: Connection) -> None:
    insert(connection, "never")
    connection.rollback()


def _ends_it_behind_our_back(connection: Connection) -> None:
    insert(connection, "never")
    connection.exec_driver_sql("ROLLBACK")


def _closes(connection: Connection) -> None:
    insert(connection, "never")
    connection.close()


def _asks_for_the_end(connection: Connection) -> None:
    insert(connection, "never")
    raise SystemExit(3)


@pytest.mark.parametrize("unit", [_commits, _rolls_back, _ends_it_behind_our_back, _closes, _asks_for_the_end])
async def test_no_unit_can_end_the_writer_or_harm_its_neighbours(tmp_path: Path, unit: object) -> None:
    failures: list[BaseException] = []

    async def failing(store: Store) -> None:
        try:
            await store.write(unit)  # type: ignore[arg-type]
        except (Broken, SystemExit) as error:
            failures.append(error)

    async with open_store(tmp_path / "s.db") as store:
        async with trio.open_nursery() as nursery:
            for i in range(5):
                nursery.start_soon(store.write, lambda c, i=i: insert(c, f"k{i}"))
                nursery.start_soon(failing, store)
        assert await store.write(lambda c: insert(c, "k5")) == "k5"
        assert await store.read(keys) == [f"k{i}" for i in range(6)]
    assert len(failures) == 5


async def test_a_unit_may_use_savepoints_of_its_own(tmp_path: Path) -> None:
    def unit(connection: Connection) -> None:
        insert(connection, "a")
        inner = connection.begin_nested()
        insert(connection, "b")
        inner.rollback()
        insert(connection, "c")

    async with open_store(tmp_path / "s.db") as store:
        await store.write(unit)
        assert await store.read(keys) == ["a", "c"]


async def test_a_taken_key_is_told_as_such(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        await store.write(lambda c: insert(c, "a"))
        with pytest.raises(AlreadyExists) as caught:
            await store.write(lambda c: insert(c, "a"))
    assert caught.value.code == "store-taken"
    assert caught.value.details == {"columns": "meta.key"}
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)


async def test_a_reading_unit_cannot_write(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        with pytest.raises(WrongState) as caught:
            await store.read(lambda c: insert(c, "a"))
        assert caught.value.code == "store-read-only"
        assert await store.read(keys) == []


async def test_a_reading_unit_sees_one_moment(tmp_path: Path) -> None:
    first, second = threading.Event(), threading.Event()

    def unit(connection: Connection) -> tuple[list[str], list[str]]:
        before = keys(connection)
        first.set()
        second.wait(HANGS_AFTER)
        return before, keys(connection)

    seen: list[tuple[list[str], list[str]]] = []

    async def reader(store: Store) -> None:
        seen.append(await store.read(unit))

    async with open_store(tmp_path / "s.db") as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader, store)
            assert await trio.to_thread.run_sync(first.wait, HANGS_AFTER)
            await store.write(lambda c: insert(c, "late"))
            second.set()
        assert await store.read(keys) == ["late"]
    assert seen == [([], [])]


async def test_a_unit_that_is_cancelled_before_it_began_never_runs(tmp_path: Path) -> None:
    holding = Holding()
    async with open_store(tmp_path / "s.db") as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.write, holding)
        await holding.has_begun()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_idle, scope)
            await store.write(lambda c: insert(c, "never"))
        assert scope.cancelled_caught
        holding.release()
        await store.write(lambda c: insert(c, "later"))
        assert await store.read(keys) == ["later"]


async def test_a_unit_that_is_cancelled_while_it_runs_still_gets_its_answer(tmp_path: Path) -> None:
    began, release = threading.Event(), threading.Event()

    def unit(connection: Connection) -> str:
        began.set()
        release.wait(HANGS_AFTER)
        return insert(connection, "a")

    async def cancel(scope: trio.CancelScope) -> None:
        assert await trio.to_thread.run_sync(began.wait, HANGS_AFTER)
        scope.cancel()
        release.set()

    async with open_store(tmp_path / "s.db") as store, trio.open_nursery() as nursery:
        answer = None
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            answer = await store.write(unit)
        assert answer == "a"
        assert scope.cancel_called
        assert await store.read(keys) == ["a"]


async def test_closing_runs_and_answers_what_still_waits(tmp_path: Path) -> None:
    holding = Holding()
    answers: list[object] = []

    async def write(store: Store, unit: object) -> None:
        answers.append(await store.write(unit))  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery, open_store(tmp_path / "s.db") as store:
        nursery.start_soon(write, store, holding)
        await holding.has_begun()
        for i in range(5):
            nursery.start_soon(write, store, lambda c, i=i: insert(c, f"k{i}"))
        await wait_all_tasks_blocked()
        nursery.start_soon(holding.release_when_idle)
    assert sorted(map(str, answers)) == ["True", "k0", "k1", "k2", "k3", "k4"]
    for ask in (store.write, store.read):
        with pytest.raises(WrongState) as caught:
            await ask(keys)
        assert caught.value.code == "store-closed"


async def test_closing_does_not_wait_for_ever_for_a_unit_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CLOSE_SECONDS", 0.05)
    holding = Holding()
    codes: list[str] = []

    async def write(store: Store, unit: object) -> None:
        try:
            await store.write(unit)  # type: ignore[arg-type]
        except ColonyError as error:
            codes.append(error.code)

    async with trio.open_nursery() as nursery, open_store(tmp_path / "s.db") as store:
        nursery.start_soon(write, store, holding)
        await holding.has_begun()
        nursery.start_soon(write, store, keys)
        await wait_all_tasks_blocked()
    holding.release()
    assert codes == ["store-stuck", "store-stuck"]


async def test_a_commit_that_fails_answers_everyone_and_the_writer_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[str] = []

    def refuse(self: writer_module.GroupWriter) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async def write(store: Store, key: str) -> None:
        try:
            await store.write(lambda c: insert(c, key))
        except ColonyError as error:
            codes.append(error.code)

    async with open_store(tmp_path / "s.db") as store:
        with monkeypatch.context() as patch:
            patch.setattr(writer_module.GroupWriter, "_commit", refuse)
            async with trio.open_nursery() as nursery:
                for i in range(20):
                    nursery.start_soon(write, store, f"k{i}")
        assert codes == ["store-failed"] * 20
        await store.write(lambda c: insert(c, "after"))
        assert await store.read(keys) == ["after"]


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path) as store:
        await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")) and None)
    before = path.read_bytes()
    with pytest.raises(WrongState) as caught:
        async with open_store(path):
            raise AssertionError("opened")
    assert caught.value.code == "store-too-new"
    assert caught.value.details["found"] == "9999"
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"this is a letter, not a database\n" * 200)
    await _refused(path, Broken, "store-broken")
    assert path.read_bytes().startswith(b"this is a letter")


async def test_a_database_of_another_program_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (title)")
    other.close()
    error = await _refused(path, Broken, "store-broken")
    assert "songs" in error.message


async def test_a_damaged_page_is_told_when_the_store_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path) as store:
        for i in range(50):
            await store.write(lambda c, i=i: insert(c, f"k{i}", "v" * 500))
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = b"\xa5" * (len(data) - 4096 * 3)
    path.write_bytes(data)
    error = await _refused(path, Broken, "store-broken")
    assert str(path.name) in error.hint


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.db").mkdir()
    for path in (tmp_path / "file" / "s.db", tmp_path / "folder.db", Path("/proc/none/s.db")):
        error = await _refused(path, NotAllowed, "store-unusable")
        assert str(path.parent) in error.hint


async def test_another_program_that_holds_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colony_core.store.sqlite.BUSY_MILLISECONDS", 20)
    path = tmp_path / "s.db"
    async with open_store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(ColonyError) as caught:
                await store.write(lambda c: insert(c, "a"))
            assert caught.value.code == "store-busy"
            other.execute("ROLLBACK")
        finally:
            other.close()
        assert await store.write(lambda c: insert(c, "a")) == "a"


_WRITES_FOR_EVER = """
import sys, trio
from pathlib import Path
from colony_core.store import open_store, put_meta

async def writer(store, name):
    number = 0
    while True:
        await store.write(lambda c: put_meta(c, name, str(number)))
        print(name, number, flush=True)
        number += 1

async def main():
    async with open_store(Path(sys.argv[1])) as store, trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(writer, store, name)

trio.run(main)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", _WRITES_FOR_EVER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout
        with child, child.stdout:
            lines = [child.stdout.readline() for _ in range(400)]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        acknowledged = {name: int(number) for name, number in (line.split() for line in lines if line.endswith(b"\n"))}
        kept = {name.encode(): int(value) for name, value in trio.run(_everything, path).items()}
        assert len(acknowledged) == 8
        assert all(kept[name] - number in {0, 1} for name, number in acknowledged.items()), (kept, acknowledged)


_FULL_DISK = """
import sys, trio
from pathlib import Path
from sqlalchemy import text
from colony_core.errors import ColonyError
from colony_core.store import open_store, put_meta

folder = Path(sys.argv[1])

def fill():
    with (folder / "ballast").open("ab", buffering=0) as ballast:
        for size in (65536, 4096):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError:
                pass

async def main():
    async with open_store(folder / "s.db") as store:
        await store.write(lambda c: put_meta(c, "before", "1"))
        fill()
        codes = []
        async def write(i, size=20_000):
            try:
                await store.write(lambda c: put_meta(c, f"k{i}", "v" * size))
                codes.append("ok")
            except ColonyError as error:
                codes.append(error.code)
        async with trio.open_nursery() as nursery:
            for i in range(50):
                nursery.start_soon(write, i)
        print("full:", len(codes), sorted(set(codes) - {"ok"}))
        kept = await store.read(lambda c: c.scalar(text("SELECT count(*) FROM meta WHERE key LIKE 'k%'")))
        print("honest:", kept == codes.count("ok"))
        (folder / "ballast").unlink()
        await store.write(lambda c: put_meta(c, "after", "1"))
        codes.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, 99, 30_000_000)
            for i in range(5):
                nursery.start_soon(write, i, 100)
        print("one too large:", sorted(codes))
    async with open_store(folder / "s.db") as store:
        print(await store.read(lambda c: sorted(c.scalars(text("SELECT key FROM meta WHERE key IN ('before', 'after')")))))

trio.run(main)
"""


@pytest.mark.root
def test_a_full_disk_answers_everyone_and_the_store_works_again_when_there_is_room(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=3m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, _FULL_DISK],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
    )
    assert done.stdout.splitlines() == [
        "full: 50 ['store-full']",
        "honest: True",
        "one too large: ['ok', 'ok', 'ok', 'ok', 'ok', 'store-full']",
        "['after', 'before']",
    ], done.stderr


_READ_ONLY_DISK = """
import subprocess, sys, trio
from pathlib import Path
from colony_core.errors import ColonyError
from colony_core.store import open_store

async def main():
    path = Path(sys.argv[1]) / "s.db"
    async with open_store(path):
        pass
    subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
    try:
        async with open_store(path):
            print("opened")
    except ColonyError as error:
        print(error.code)

trio.run(main)
"""


@pytest.mark.root
def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=3m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, _READ_ONLY_DISK],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
    )
    assert done.stdout == "store-unusable\n", done.stderr


async def _everything(path: Path) -> dict[str, str]:
    async with open_store(path) as store:
        rows = await store.read(lambda c: c.execute(text("SELECT key, value FROM meta")).all())
    return {row.key: row.value for row in rows}


async def _refused(path: Path, kind: type[ColonyError], code: str) -> ColonyError:
    with pytest.raises(kind) as caught:
        async with open_store(path):
            raise AssertionError("opened")
    assert caught.value.code == code
    return caught.value


async def _cancel_when_idle(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()
