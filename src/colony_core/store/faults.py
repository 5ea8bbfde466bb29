"""What a database said, as an error of Colony with the next step."""

import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, ResourceClosedError

from colony_core.errors import (
    AlreadyExists,
    Broken,
    ColonyError,
    Invalid,
    LimitReached,
    NotAllowed,
    TooSlow,
    WrongState,
)

_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}


def translated(error: BaseException, path: Path) -> BaseException:
    """The ColonyError for what SQLite or SQLAlchemy raised, with the original as its cause; any other exception as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        ours = _from_sqlite(cause, path)
    elif isinstance(cause, ResourceClosedError):
        ours = Broken("store-misused", f"a unit ended the transaction it was given: {cause}", "report this as a defect")
    else:
        return error
    ours.__cause__ = cause
    return ours


def closed() -> WrongState:
    """The store was closed while, or before, it was asked."""
    return WrongState("store-closed", "the store is closed", "open it again")


def not_a_store(path: Path, why: str) -> Broken:
    """The file is no database of ours, or no longer."""
    return Broken(
        "store-broken",
        f"{path} is damaged or not a Colony database: {why}",
        f"move it away (with {path.name}-wal and {path.name}-shm), or put a copy back, then start again",
    )


def _from_sqlite(error: sqlite3.Error, path: Path) -> ColonyError:
    code = getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR
    if code in _UNIQUE:
        column = str(error).partition(": ")[2]
        return AlreadyExists("store-taken", f"the store has this already: {error}", details={"columns": column})
    match code & 0xFF:
        case sqlite3.SQLITE_CONSTRAINT:
            return Invalid("store-constraint", f"the store refuses this record: {error}")
        case sqlite3.SQLITE_FULL:
            return LimitReached(
                "store-full", f"no room left for {path}: {error}", f"free space on the disk of {path.parent}"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return not_a_store(path, str(error))
        case sqlite3.SQLITE_READONLY if "query_only" not in str(error) and not _is_writable(path):
            return _unusable(path, error)
        case sqlite3.SQLITE_READONLY:
            return WrongState("store-read-only", f"this unit may only read: {error}", "change records with write()")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _unusable(path, error)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return TooSlow("store-busy", f"another program holds {path}: {error}", "close the program that has it open")
        case _:
            return Broken("store-failed", f"{path}: {error}", "look at the disk's health and the system's log")


def _unusable(path: Path, error: BaseException) -> NotAllowed:
    return NotAllowed(
        "store-unusable", f"cannot use {path}: {error}", f"look at owner and rights of {path.parent} and what it holds"
    )


def unusable(path: Path, error: OSError) -> NotAllowed:
    """The file or its folder cannot be opened for writing."""
    return _unusable(path, error)


def _is_writable(path: Path) -> bool:
    try:
        with path.open("r+b"):
            return True
    except OSError:
        return False
