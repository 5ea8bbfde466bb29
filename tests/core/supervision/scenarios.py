"""Trees to be played: what each child does, and what is asked of the supervisors meanwhile."""

from math import inf

import attrs
from hypothesis import strategies as st

from colony_core.supervision import AutoShutdown, Limit, Restart, Strategy


@attrs.frozen
class Leaf:
    """What a child does: seconds up for each incarnation, then how it ends; how its start goes; how long it cleans up."""

    lives: tuple[tuple[float, str], ...]
    start: tuple[str, ...]
    cleanup: float
    soft: bool
    restart: Restart
    backoff: bool
    grace: float
    significant: bool


@attrs.frozen
class Branch:
    children: tuple["Leaf | Branch", ...]
    strategy: Strategy | None
    """None is a dynamic supervisor; its children are started once the whole tree is up."""
    limit: Limit
    restart: Restart
    auto: AutoShutdown


leaves = st.builds(
    Leaf,
    lives=st.lists(
        st.tuples(st.sampled_from([0, 0.5, 1, 3, 50]), st.sampled_from(["fail", "return", "plan"])),
        min_size=1,
        max_size=3,
    ).map(tuple),
    start=st.lists(st.sampled_from(["ok", "ok", "ok", "slow", "fail", "ignore"]), min_size=1, max_size=3).map(tuple),
    cleanup=st.sampled_from([0, 0, 1, 5]),
    soft=st.booleans(),
    restart=st.sampled_from(Restart),
    backoff=st.booleans(),
    grace=st.sampled_from([0, 2, 2, inf]),
    significant=st.booleans(),
)
branches = st.recursive(
    leaves,
    lambda inner: st.builds(
        Branch,
        children=st.lists(inner, max_size=4).map(tuple),
        strategy=st.sampled_from([*Strategy, None]),
        limit=st.builds(Limit, st.integers(0, 3), st.sampled_from([1.0, 5.0])),
        restart=st.sampled_from(Restart),
        auto=st.sampled_from([AutoShutdown.NEVER, *AutoShutdown]),
    ),
    max_leaves=10,
).filter(lambda node: isinstance(node, Branch) and node.strategy is not None)


def branch_of(crowd: Branch) -> Branch:
    """A root above one crowd."""
    return Branch((crowd,), Strategy.ONE_FOR_ONE, Limit(1, 5.0), Restart.PERMANENT, AutoShutdown.NEVER)


unruly = st.builds(
    Leaf,
    lives=st.sampled_from([0.5, 1, 1.5]).map(lambda seconds: ((seconds, "fail"),)),
    start=st.sampled_from([("ok",), ("ok",), ("ok", "fail", "ok"), ("ok", "slow")]),
    cleanup=st.sampled_from([0, 0, 1]),
    soft=st.just(False),
    restart=st.sampled_from([Restart.PERMANENT, Restart.PERMANENT, Restart.TEMPORARY]),
    backoff=st.booleans(),
    grace=st.just(2),
    significant=st.just(False),
)
crowds = st.builds(
    Branch,
    children=st.lists(unruly, min_size=1, max_size=3).map(tuple),
    strategy=st.sampled_from([*Strategy, None]),
    limit=st.builds(Limit, st.integers(1, 3), st.sampled_from([1.0, 2.0])),
    restart=st.sampled_from(Restart),
    auto=st.just(AutoShutdown.NEVER),
)
"""Children that fall again and again, so that the limit is what matters, and often just missed or just passed."""
trees = branches | crowds.map(branch_of)
requests = st.lists(
    st.tuples(
        st.sampled_from([0, 0.5, 2]),
        st.sampled_from(["stop", "restart", "delete", "start", "give up"]),
        st.integers(0, 3),  # of which supervisor
        st.integers(0, 5),  # which child
    ),
    max_size=8,
)
