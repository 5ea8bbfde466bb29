"""Restarts that fail, and restarts that wait (1.5, 2.1.10)."""

import pytest

STORIES = {
    "1.5 one_for_one retries that child, each retry counts and none is delayed": """
        one_for_one limit=3/5
          a
          b starts=ok,fail,fail,ok
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b fails
        0: b end, [b ended failed b1], b start, [b start failed failed b2], b start, [b start failed failed b3], b
            start, b up, [b started 4]
        > list
        0: (list: a=up b=up c=up)
        > leave
        0: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.5 retries that pass the limit end the supervisor": """
        one_for_one limit=2/5
          a
          b starts=ok,fail
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1], b start, [b start failed failed b2], b start, [b start failed failed b3], [root
            limit 2/5 failed b3], a cancelled, (raises RestartLimit[b1 b2 b3])
    """,
    "1.5 rest_for_one retries from the failed child on, members before it stay up": """
        rest_for_one
          a
          b
          c starts=ok,fail,ok
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > a fails
        0: a end, [a ended failed a1], d cancelled, c cancelled, b cancelled, a start, a up, [a started 2], b start, b
            up, [b started 2], c start, [c start failed failed c2], c start, c up, [c started 3], d start, d up, [d
            started 2]
        > leave
        0: d cancelled, c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.5 one_for_all retries with the whole group, members that had come up stop again first": """
        one_for_all
          a
          b
          c starts=ok,fail,ok
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > a fails
        0: a end, [a ended failed a1], d cancelled, c cancelled, b cancelled, a start, a up, [a started 2], b start, b
            up, [b started 2], c start, [c start failed failed c2], b cancelled, a cancelled, a start, a up, [a started
            3], b start, b up, [b started 3], c start, c up, [c started 3], d start, d up, [d started 2]
        > leave
        0: d cancelled, c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.5 requests get in between while a child is restarting": """
        one_for_one
          a backoff=5,1,5
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > list
        0: (list: a=restarting)
        > restart a
        0: (restart a: ChildRestarting)
        > delete a
        0: (delete a: ChildRestarting)
        > start a
        0: (start a: AlreadyPresent)
        > start b
        0: b start, b up, [b started 1], (start b: up)
        > until 6
        5: a start, a up, [a started 2]
        > leave
        6: b cancelled, a cancelled, (closed)
    """,
    "1.5 a stop cancels the retries": """
        one_for_one
          a backoff=5,1,5
          b
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > stop a
        0: (stop a: failed a1)
        > list
        0: (list: a=down b=up)
        > until 20
        > restart a
        20: a start, a up, [a started 2], (restart a: up)
        > leave
        20: b cancelled, a cancelled, (closed)
    """,
    "1.5 a stop of the fallen member cancels the restart of its group": """
        rest_for_one
          a
          b backoff=5,1,5
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b fails
        0: b end, [b ended failed b1], c cancelled
        > list
        0: (list: a=up b=restarting c=restarting)
        > stop b
        0: (stop b: failed b1)
        > list
        0: (list: a=up b=down c=down)
        > until 20
        > leave
        20: a cancelled, (closed)
    """,
    "1.5 an ignore on restart leaves a permanent child down without retry": """
        one_for_one
          a starts=ok,ignore,ok
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start
        > list
        0: (list: a=down)
        > until 9
        > restart a
        9: a start, a up, [a started 3], (restart a: up)
        > leave
        9: a cancelled, (closed)
    """,
    "1.5 an ignore in a group restart leaves that member down and goes on": """
        one_for_all
          a
          b starts=ok,ignore
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start, c start, c up,
            [c started 2]
        > list
        0: (list: a=up b=down c=up)
        > leave
        0: c cancelled, a cancelled, (closed)
    """,
    "1.5 a temporary member that ignores a start by request is forgotten": """
        one_for_one
        ---
        0: (open)
        > start a temporary starts=ignore
        0: a start, (start a: down)
        > start b starts=ignore
        0: b start, (start b: down)
        > list
        0: (list: b=down)
        > leave
        0: (closed)
    """,
    "1.5 a failed restart is reported as a failed start, not as an end": """
        one_for_one
          a starts=ok,exit,plan,ok
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, [a start failed failed RuntimeError], a start, [a start failed failed
            PlannedStop], a start, a up, [a started 4]
        > leave
        0: a cancelled, (closed)
    """,
    "1.5 a member that falls while the others of its group still start is mended afterwards, and counts": """
        one_for_all limit=2/9
          a
          b starts=ok,3,ok
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1], a cancelled, a start, a up, [a started 2], b start
        > until 1
        > a fails
        1: a end, [a ended failed a2]
        > until 9
        3: b up, [b started 2], b cancelled, a start, a up, [a started 3], b start, b up, [b started 3]
        > leave
        9: b cancelled, a cancelled, (closed)
    """,
    "1.5 a fall of one before a group that waits takes the group along": """
        rest_for_one limit=9/9
          a
          b
          c backoff=5,1,5
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > c fails
        0: c end, [c ended failed c1]
        > until 1
        > b fails
        1: b end, [b ended failed b1], b start, b up, [b started 2], c start, c up, [c started 2]
        > until 9
        > leave
        9: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "2.1.10 backoff grows per child up to the most, is forgotten after reset seconds up": """
        one_for_one limit=99/1
          a backoff=1,2,3 reset=10
          b
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > until 1
        1: a start, a up, [a started 2]
        > a fails
        1: a end, [a ended failed a2]
        > until 3
        3: a start, a up, [a started 3]
        > a fails
        3: a end, [a ended failed a3]
        > until 6
        6: a start, a up, [a started 4]
        > b fails
        6: b end, [b ended failed b1], b start, b up, [b started 2]
        > until 16
        > a fails
        16: a end, [a ended failed a4]
        > until 17
        17: a start, a up, [a started 5]
        > leave
        17: b cancelled, a cancelled, (closed)
    """,
    "2.1.10 a failed restart is one more in the row": """
        one_for_one limit=99/1
          a starts=ok,fail,fail,ok backoff=1,2,9
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > until 9
        1: a start, [a start failed failed a2]
        3: a start, [a start failed failed a3]
        7: a start, a up, [a started 4]
        > leave
        9: a cancelled, (closed)
    """,
    "2.1.10 the wait ends at once on stop": """
        one_for_one
          a backoff=99,1,99
          b cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > until 5
        > leave
        5: b cancelled
        > until 9
        6: b cleaned, (closed)
    """,
    "2.1.10 with a backoff a group stops at once and starts after the delay, together": """
        one_for_all
          a backoff=3,1,3
          b
          c cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled
        > until 2
        1: c cleaned, b cancelled
        > list
        2: (list: a=restarting b=restarting c=restarting)
        > until 9
        4: a start, a up, [a started 2], b start, b up, [b started 2], c start, c up, [c started 2]
        > leave
        9: c cancelled
        > until 20
        10: c cleaned, b cancelled, a cancelled, (closed)
    """,
    "2.1.10 a follower that is stopped while its group waits stays down": """
        rest_for_one
          a backoff=3,1,3
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled
        > stop b
        0: (stop b: shutdown)
        > until 9
        3: a start, a up, [a started 2], c start, c up, [c started 2]
        > list
        9: (list: a=up b=down c=up)
        > leave
        9: c cancelled, a cancelled, (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
