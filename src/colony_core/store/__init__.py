"""What the house must still know after it fell: one small interface over one database.

A room hands over a plain function of a SQLAlchemy connection; the store runs it and answers when its effects are on the disk.
The function lives in the room's `records.py`, beside the room's tables, and touches nothing but the connection it is given.

    async with open_store(folders.store) as store:
        await store.write(lambda connection: records.insert(connection, colony))
        rows = await store.read(records.living)

SQLite (WAL, synchronous FULL) with one writer thread is what there is: units that wait together are committed together, each in a
savepoint of its own. Nothing in the interface belongs to SQLite, so that another database can stand behind it.
"""

from .driver import Store
from .records import get_meta, metadata, put_meta
from .sqlite import open_store

__all__ = ["Store", "get_meta", "metadata", "open_store", "put_meta"]
