"""The only place that reads the wall clock.

Deadlines and windows use Trio's monotonic clock; wall time is for people and records only and decides nothing.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache


def unix_now() -> float:
    """Seconds since 1970, with fractions."""
    return time.time()


@lru_cache(maxsize=1024)  # lines of a log come many to a millisecond
def rfc3339(unix: float) -> str:
    """A moment as RFC 3339 in UTC with milliseconds: `2026-01-31T08:15:00.250Z`."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 moment; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    return moment.timestamp()
