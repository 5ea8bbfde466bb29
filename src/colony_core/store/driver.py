"""What a database must do for the house: write durably, read consistently."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Store(Protocol):
    """The durable memory of the house.

    A unit (`fn`) touches only its connection, returns plain values (no cursors) and neither commits nor rolls back: it may be run a
    second time when the first attempt was undone. What it raises is undone and reaches its caller: database errors as ColonyError
    (`store-taken`, `store-full`, `store-broken`, ...), all others as they are.
    """

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn` in a transaction and returns its result once that is durable.

        Cancelled before the unit has begun, the unit never runs. Cancelled later, this waits for the answer and returns it: whoever
        gets an answer knows what holds. After an I/O error during the commit itself (`store-failed`) the outcome is known only by reading.
        """
        ...

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn` on one consistent snapshot that includes every write answered before; `fn` cannot change anything."""
        ...
