"""What a benchmark says: one figure, what it is compared with in the same run, and the goal it is held to."""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Metric:
    """One measured figure. `ratio` is value / baseline's value in this run; `goal` is said for people, `ok` is None without a goal."""

    metric: str
    value: float
    unit: str
    n: int
    baseline: str = ""
    ratio: float | None = None
    better: Literal["higher", "lower"]
    goal: str = ""
    ok: bool | None = None
