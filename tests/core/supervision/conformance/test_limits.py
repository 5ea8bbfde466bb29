"""The window of restarts (1.6, 2.1.9)."""

import pytest

STORIES = {
    "1.6 intensity n allows n restarts in a period": """
        one_for_one limit=2/5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2]
        > until 4
        > a fails
        4: a end, [a ended failed a2], a start, a up, [a started 3]
        > a fails
        4: a end, [a ended failed a3], [root limit 2/5 failed a3], (raises RestartLimit[a1 a2 a3])
    """,
    "1.6 intensity 0 allows none": """
        one_for_one limit=0/5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], [root limit 0/5 failed a1], (raises RestartLimit[a1])
    """,
    "1.6 a restart exactly one period old still counts": """
        one_for_one limit=1/5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2]
        > until 5
        > a fails
        5: a end, [a ended failed a2], [root limit 1/5 failed a2], (raises RestartLimit[a1 a2])
    """,
    "1.6 a restart older than the period counts no more": """
        one_for_one limit=1/5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2]
        > until 5.001
        > a fails
        5.001: a end, [a ended failed a2], a start, a up, [a started 3]
        > until 10.002
        > a fails
        10.002: a end, [a ended failed a3], a start, a up, [a started 4]
        > leave
        10.002: a cancelled, (closed)
    """,
    "1.6 one window is shared by all children": """
        one_for_one limit=2/5
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2]
        > b fails
        0: b end, [b ended failed b1], b start, b up, [b started 2]
        > c fails
        0: c end, [c ended failed c1], [root limit 2/5 failed c1], b cancelled, a cancelled, (raises RestartLimit[a1 b1
            c1])
    """,
    "1.6 manual restarts, failed starts by request and temporary ends do not count": """
        one_for_one limit=0/5
          a
          t temporary
        ---
        0: a start, a up, [a started 1], t start, t up, [t started 1], (open)
        > stop a
        0: a cancelled, (stop a: shutdown)
        > restart a
        0: a start, a up, [a started 2], (restart a: up)
        > t fails
        0: t end, [t ended failed t1]
        > start b starts=fail
        0: b start, [b start failed failed b1], (start b: ChildStartError(b1))
        > stop a
        0: a cancelled, (stop a: shutdown)
        > restart a
        0: a start, a up, [a started 3], (restart a: up)
        > leave
        0: a cancelled, (closed)
    """,
    "2.1.9 the clock is Trio's, in fractions": """
        one_for_one limit=1/0.5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > until 0.25
        > a fails
        0.25: a end, [a ended failed a1], a start, a up, [a started 2]
        > until 0.75
        > a fails
        0.75: a end, [a ended failed a2], [root limit 1/0.5 failed a2], (raises RestartLimit[a1 a2])
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
