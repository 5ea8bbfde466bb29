"""Stops: in which order, how gently, for how long (1.7, 2.1.5, 2.1.6, 2.1.8)."""

import pytest

STORIES = {
    "1.7 right to left, one at a time: the total time is the sum": """
        one_for_one
          a cleanup=1
          b cleanup=2
          c cleanup=4
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > leave
        0: c cancelled
        > until 9
        4: c cleaned, b cancelled
        6: b cleaned, a cancelled
        7: a cleaned, (closed)
    """,
    "1.7 asked, then cut when the grace is over, then waited for without limit": """
        one_for_one
          a cleanup=60 grace=5
          b refuse=9 grace=2
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > leave
        0: b cancelled
        > until 20
        3: [b overdue since 2]
        9: b gone, [b stop failed killed], a cancelled
        14: a cut, [a stop failed killed], (closed)
    """,
    "1.7 brutal kill: at once, and being killed is the expected end": """
        one_for_one
          a cleanup=9 grace=0
          b soft=9 grace=0
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > leave
        0: b cancelled, a cancelled, a cut, (closed)
    """,
    "1.7 infinity: waits for ever": """
        one_for_one
          a cleanup=100000 grace=inf
        ---
        0: a start, a up, [a started 1], (open)
        > leave
        0: a cancelled
        > until 99999
        > until 100000
        100000: a cleaned, (closed)
    """,
    "1.7 an end by an error after the request is reported, and stopping goes on": """
        one_for_one
          a
          b bad
          c transient bad
          d temporary bad
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > leave
        0: d cancelled, [d stop failed failed d1], c cancelled, [c stop failed failed c1], b cancelled, [b stop failed
            failed b1], a cancelled, (closed)
    """,
    "1.7 a child that ends by itself meanwhile is not restarted, its real end is kept": """
        one_for_one
          a
          b
          c cleanup=3
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > wait_exit a
        > leave
        0: c cancelled
        > a fails
        0: a end, [a stop failed failed a1], (wait_exit a: failed a1)
        > b returns
        0: b end
        > until 9
        3: c cleaned, (closed)
    """,
    "1.7 a child in restarting is skipped": """
        one_for_one
          a backoff=100,1,100
          b
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > leave
        0: b cancelled, (closed)
    """,
    "1.7 dynamic: all are asked at once, the total time is the longest, graces expire one by one": """
        dynamic
          t
        ---
        0: (open)
        > start a cleanup=1
        0: a start, a up, (start a: up)
        > start b cleanup=60 grace=2
        0: b start, b up, (start b: up)
        > start c cleanup=60 grace=4
        0: c start, c up, (start c: up)
        > leave
        0: a cancelled, b cancelled, c cancelled
        > until 9
        1: a cleaned
        2: b cut
        4: [root stop failed killed x2], c cut, (closed)
    """,
    "1.7 the same holds while a group stops for a restart": """
        rest_for_one
          a
          b cleanup=60 grace=2
          c bad
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, [c stop failed failed c1], b cancelled
        > until 9
        2: b cut, [b stop failed killed], a start, a up, [a started 2], b start, b up, [b started 2], c start, c up, [c
            started 2]
        > leave
        9: c cancelled, [c stop failed failed c2], b cancelled
        > until 20
        11: b cut, [b stop failed killed], a cancelled, (closed)
    """,
    "1.7 a member that ends by itself while its group stops is started with the group, counts nothing and triggers nothing": """
        one_for_all limit=1/9 auto=any
          a
          b transient significant
          c
          d cleanup=3
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > a fails
        0: a end, [a ended failed a1], d cancelled
        > until 1
        > b returns
        1: b end
        > c fails
        1: c end, [c stop failed failed c1]
        > until 9
        3: d cleaned, a start, a up, [a started 2], b start, b up, [b started 2], c start, c up, [c started 2], d start,
            d up, [d started 2]
        > leave
        9: d cancelled
        > until 20
        12: d cleaned, c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.7 a subtree whose grace is over is cut to the last leaf, at once": """
        one_for_one unordered
          s supervisor grace=2
            b cleanup=60 grace=30
            t supervisor
              c cleanup=60 grace=30
              d refuse=9 grace=30
        ---
        0: [s started 1], [s/b started 1], [s/t started 1], [s/t/c started 1], [s/t/d started 1], b start, b up, c
            start, c up, d start, d up, (open)
        > leave
        0: d cancelled
        > until 40
        2: [s/b stop failed killed], [s/t/c stop failed killed], b cancelled, b cut, c cancelled, c cut
        3: [s overdue since 2], [s/t overdue since 2], [s/t/d overdue since 2]
        9: [s stop failed killed], [s/t stop failed killed], [s/t/d stop failed killed], d gone, (closed)
    """,
    "1.7 a subtree asked to stop while it starts stops what it has": """
        one_for_one
          s supervisor
            a cleanup=1
            b starts=ok,9
        ---
        0: a start, a up, [s/a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > stop s
        0: b cancelled, a cancelled
        > until 1
        1: a cleaned, (stop s: normal)
        > restart s
        1: a start, a up, [s/a started 1], b start
        > until 3
        > stop s
        3: b cancelled, a cancelled
        > until 9
        4: a cleaned, (restart s: ChildStartError), (stop s: normal)
        > list
        9: (list: s=down)
        > leave
        9: (closed)
    """,
    "2.1.5 a child that touched status.stopping is asked, and cancelled only when its grace is over": """
        one_for_one
          a soft=3
          b soft=60 grace=2 cleanup=9
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > leave
        0: b asked
        > until 9
        2: b cancelled, b cut, [b stop failed killed], a asked
        5: a end, (closed)
    """,
    "2.1.5 one that did not is cancelled at once": """
        one_for_one
          a
        ---
        0: a start, a up, [a started 1], (open)
        > stop a
        0: a cancelled, (stop a: shutdown)
        > leave
        0: (closed)
    """,
    "2.1.5 when the grace is over the shields of status.cleanup() drop, a shield of one's own is waited for and told": """
        one_for_one
          a cleanup=60 grace=3
          b refuse=60 grace=3
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > stop a
        0: a cancelled
        > until 5
        3: a cut, [a stop failed killed], (stop a: killed)
        > stop b
        5: b cancelled
        > until 70
        9: [b overdue since 8]
        65: b gone, [b stop failed killed], (stop b: killed)
        > leave
        70: (closed)
    """,
    "2.1.6 outer cancellation: reverse order, bounded by the graces, then Cancelled goes on": """
        one_for_one
          a cleanup=1
          b cleanup=60
          c cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > until 10
        > cancel
        10: c cancelled
        > until 30
        11: c cleaned, b cancelled
        16: b cut, [b stop failed killed], a cancelled
        17: a cleaned, (cancelled)
    """,
    "2.1.6 the same through a subtree": """
        one_for_one
          a cleanup=1
          s supervisor
            b cleanup=60
            c cleanup=1
          d cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s started 1],
            d start, d up, [d started 1], (open)
        > until 10
        > cancel
        10: d cancelled
        > until 30
        11: d cleaned, c cancelled
        12: c cleaned, b cancelled
        17: b cut, [s/b stop failed killed], a cancelled
        18: a cleaned, (cancelled)
    """,
    "2.1.6 cancelled while it recovers, it stops what is up": """
        one_for_all
          a
          b starts=ok,9
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start
        > until 1
        > cancel
        1: b cancelled, a cancelled, (cancelled)
    """,
    "2.1.8 a normal end after a request is clean also for permanent children": """
        one_for_one
          a soft=1
        ---
        0: a start, a up, [a started 1], (open)
        > stop a
        0: a asked
        > until 2
        1: a end, (stop a: normal)
        > leave
        2: (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
