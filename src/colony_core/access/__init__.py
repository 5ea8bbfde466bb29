"""Who may come in, and what was already answered to them.

`Keys` holds every key that opens the API in memory, so that a request is judged without waiting; only hashes are kept, in memory and in
the store. `Idempotency` remembers first answers, so that a request that is sent again is not carried out again.
"""

from .answers import Idempotency, Stored, fingerprint
from .guard import Keys
from .keys import Identity, Role

__all__ = ["Idempotency", "Identity", "Keys", "Role", "Stored", "fingerprint"]
