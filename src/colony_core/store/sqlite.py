"""SQLite in WAL mode: one writer thread with group commit, readers beside it."""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from .driver import Store
from .faults import closed, not_a_store, translated, unusable
from .migrate import upgrade
from .writer import GroupWriter

T = TypeVar("T")

READERS = 4
BUSY_MILLISECONDS = 5000
WAL_KEPT_BYTES = 16 * 2**20
CHECKED_BYTES = 64 * 2**20
"""Up to this size the whole file is checked when it is opened; beyond, damage shows when it is read."""


class SqliteStore:
    """See `Store`; opened by `open_store`."""

    def __init__(self, path: Path, writer: GroupWriter, readers: Engine) -> None:
        self._path = path
        self._writer = writer
        self._readers = readers
        self._slots = trio.CapacityLimiter(READERS)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Store {self._path}>"

    @property
    def commits(self) -> int:
        """How many transactions were committed since the store was opened; many units share one."""
        return self._writer.commits

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """See `Store.write`."""
        return await self._writer.write(fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """See `Store.read`. Cancelled while it waits for one of four readers it leaves at once, later it waits for `fn`."""
        if self._closed:
            raise closed()
        return await trio.to_thread.run_sync(self._read, fn, limiter=self._slots)

    async def aclose(self) -> None:
        """Answers every waiting unit and lets go of the file."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await self._writer.aclose()
            await trio.to_thread.run_sync(self._readers.dispose)

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            with self._readers.connect() as connection, connection.begin():
                return fn(connection)
        except Exception as error:
            raise translated(error, self._path) from error.__cause__


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[SqliteStore]:
    """Opens the database at `path`, makes it (0600, its folder 0700) or brings it to this version's tables, and closes it again.

    Raises ColonyError: `store-too-new`, `store-broken`, `store-unusable`, `store-full`, `store-busy`. One process at a time:
    the daemon's lock sees to that. Closing answers every waiting unit first.
    """
    await trio.to_thread.run_sync(_prepare, path)
    writers = _engine(path, "BEGIN IMMEDIATE", poolclass=NullPool)
    readers = _engine(path, "BEGIN", poolclass=QueuePool, pool_size=READERS, max_overflow=0)
    writer = GroupWriter(writers, partial(translated, path=path))
    store = SqliteStore(path, writer, readers)
    try:
        yield store
    finally:
        await store.aclose()


def _prepare(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from error
    engine = _engine(path, "BEGIN IMMEDIATE", poolclass=NullPool)
    try:
        with engine.begin() as connection:
            if size <= CHECKED_BYTES:
                _check(connection, path)
            upgrade(connection, path)
    except Exception as error:
        raise translated(error, path) from error.__cause__
    finally:
        engine.dispose()


def _check(connection: Connection, path: Path) -> None:
    said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if said != "ok":
        raise not_a_store(path, str(said))


def _engine(path: Path, begin: str, **pool: Any) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": BUSY_MILLISECONDS / 1000, "check_same_thread": False},
        **pool,
    )

    @event.listens_for(engine, "connect")
    def connect(driver: sqlite3.Connection, _: object) -> None:
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute("PRAGMA trusted_schema = OFF")
        driver.execute("PRAGMA secure_delete = ON")  # what was removed may have been secret
        driver.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        if begin == "BEGIN":
            driver.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


_: type[Store] = SqliteStore
