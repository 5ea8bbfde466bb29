"""Starts: the order, the acknowledgement, and what goes wrong on the way (1.3, 2.1.2)."""

import pytest

STORIES = {
    "1.3 static children start left to right, each awaited": """
        one_for_one
          a starts=2
          b
          c starts=1
        ---
        0: a start
        > until 5
        2: a up, [a started 1], b start, b up, [b started 1], c start
        3: c up, [c started 1], (open)
        > list
        5: (list: a=up b=up c=up)
        > leave
        5: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.3 a failed start stops those up right to left, and those after it never start": """
        one_for_one
          a cleanup=1
          b cleanup=2
          c starts=fail
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, [c start failed failed c1], b cancelled
        > until 9
        2: b cleaned, a cancelled
        3: a cleaned, (raises ChildStartError(c1))
    """,
    "1.3 nested start failures make a chain": """
        one_for_one
          a
          s supervisor
            b
            t supervisor
              c starts=fail
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, [s/t/c start failed failed c1], [s/t
            start failed failed ChildStartError(c1)], b cancelled, [s start failed failed
            ChildStartError(ChildStartError(c1))], a cancelled, (raises
            ChildStartError(ChildStartError(ChildStartError(c1))))
        > leave
    """,
    "1.3 an end without acknowledgement is a failed start, also a planned one": """
        one_for_one
        ---
        0: (open)
        > start a starts=exit
        0: a start, [a start failed failed RuntimeError], (start a: ChildStartError(RuntimeError))
        > start b starts=plan
        0: b start, [b start failed failed PlannedStop], (start b: ChildStartError(PlannedStop))
        > start c starts=fail
        0: c start, [c start failed failed c1], (start c: ChildStartError(c1))
        > list
        0: (list: nobody)
        > leave
        0: (closed)
    """,
    "1.3 ignore keeps the spec with no process, unless it is temporary": """
        one_for_one
          a starts=ignore
          b
          c temporary starts=ignore
        ---
        0: a start, b start, b up, [b started 1], c start, (open)
        > list
        0: (list: a=down b=up)
        > leave
        0: b cancelled, (closed)
    """,
    "1.3 ignore after the start is a failure as any other": """
        one_for_one
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a ignores
        0: a end, [a ended failed Ignore], a start, a up, [a started 2]
        > leave
        0: a cancelled, (closed)
    """,
    "1.3 an end of another child while one starts is acted upon afterwards": """
        one_for_one
          a
        ---
        0: a start, a up, [a started 1], (open)
        > start b starts=5
        0: b start
        > a fails
        0: a end, [a ended failed a1]
        > until 9
        5: b up, [b started 1], a start, a up, [a started 2], (start b: up)
        > leave
        9: b cancelled, a cancelled, (closed)
    """,
    "1.3 starts by request take turns, in order": """
        one_for_one
        ---
        0: (open)
        > start a starts=3
        0: a start
        > start b starts=1
        > start c
        > until 9
        3: a up, [a started 1], b start, (start a: up)
        4: b up, [b started 1], c start, c up, [c started 1], (start b: up), (start c: up)
        > list
        9: (list: a=up b=up c=up)
        > leave
        9: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.3 cancelled while it starts, the whole is undone in order": """
        one_for_one
          a cleanup=1
          b starts=9 cleanup=1
          c
        ---
        0: a start, a up, [a started 1], b start
        > until 2
        > cancel
        2: b cancelled
        > until 9
        3: b cleaned, a cancelled
        4: a cleaned, (cancelled)
    """,
    "1.3 an empty supervisor is up at once": """
        rest_for_one
        ---
        0: (open)
        > counts
        0: (counts: 0 specs, 0 active, 0 supervisors, 0 workers)
        > leave
        0: (closed)
    """,
    "1.3 of a child that ends while the first starts go on, the restart comes after them": """
        one_for_one
          a
          b starts=3
          c starts=1
        ---
        0: a start, a up, [a started 1], b start
        > a fails
        0: a end, [a ended failed a1]
        > until 9
        3: b up, [b started 1], c start
        4: c up, [c started 1], a start, a up, [a started 2], (open)
        > leave
        9: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.3 a group restart waits for the first starts, too": """
        rest_for_one
          a
          b starts=3,ok
          c starts=1,ok
        ---
        0: a start, a up, [a started 1], b start
        > a fails
        0: a end, [a ended failed a1]
        > until 9
        3: b up, [b started 1], c start
        4: c up, [c started 1], c cancelled, b cancelled, a start, a up, [a started 2], b start, b up, [b started 2], c
            start, c up, [c started 2], (open)
        > leave
        9: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.3 a failure during the first starts that passes the limit ends all once they are done": """
        one_for_one limit=0/9
          a
          b starts=3
          c
        ---
        0: a start, a up, [a started 1], b start
        > a fails
        0: a end, [a ended failed a1]
        > until 9
        3: b up, [b started 1], c start, c up, [c started 1], [root limit 0/9 failed a1], c cancelled, b cancelled,
            (open), (raises RestartLimit[a1])
    """,
    "2.1.2 a start whose caller is cancelled: the child is cancelled, waited for, and Cancelled goes on": """
        one_for_one
          a
        ---
        0: a start, a up, [a started 1], (open)
        > start b starts=9 cleanup=2
        0: b start
        > until 1
        > give up
        1: b cancelled
        > list
        1: (list: a=up b=stopping)
        > until 5
        3: b cleaned, (start b: cancelled)
        > list
        5: (list: a=up)
        > start b
        5: b start, b up, [b started 1], (start b: up)
        > leave
        5: b cancelled, a cancelled, (closed)
    """,
    "2.1.2 a start that waits for its turn is taken back at once": """
        one_for_one
        ---
        0: (open)
        > start a starts=5
        0: a start
        > start b
        > give up
        0: a cancelled, (start a: cancelled), (start b: cancelled)
        > list
        0: (list: nobody)
        > until 9
        > leave
        9: (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
