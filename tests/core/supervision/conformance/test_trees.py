"""Automatic shutdown, subtrees, escalation and what is told (1.9, 1.10, 1.11, 2.1.7, 2.1.13)."""

import pytest

STORIES = {
    "1.9 any_significant: a transient child's planned end ends all, in reverse": """
        one_for_one auto=any
          a cleanup=1
          b transient significant
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b returns
        0: b end, c cancelled, a cancelled
        > until 5
        1: a cleaned, (closed)
    """,
    "1.9 any_significant: a temporary child's end, whatever it is": """
        one_for_one auto=any
          a
          b temporary significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1], a cancelled, (closed)
    """,
    "1.9 any_significant: a transient child's failure is restarted and ends nothing": """
        one_for_one auto=any
          a
          b transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1], b start, b up, [b started 2]
        > leave
        0: b cancelled, a cancelled, (closed)
    """,
    "1.9 any_significant: an insignificant end changes nothing": """
        one_for_one auto=any
          a transient
          b transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a returns
        0: a end
        > leave
        0: b cancelled, (closed)
    """,
    "1.9 all_significant: the last one, when no other has a process": """
        one_for_one auto=all
          a
          b transient significant
          c transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b returns
        0: b end
        > list
        0: (list: a=up b=down c=up)
        > c returns
        0: c end, a cancelled, (closed)
    """,
    "1.9 all_significant: one that restarts still counts as there": """
        one_for_one auto=all
          a transient significant backoff=5,1,5
          b transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > b returns
        0: b end
        > list
        0: (list: a=restarting b=down)
        > until 6
        5: a start, a up, [a started 2]
        > a returns
        6: a end, (closed)
    """,
    "1.9 a requested stop never triggers, but takes the child out of the count": """
        one_for_one auto=all
          a
          b transient significant
          c transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > stop b
        0: b cancelled, (stop b: shutdown)
        > list
        0: (list: a=up b=down c=up)
        > c plans
        0: c end, a cancelled, (closed)
    """,
    "1.9 any_significant: a requested stop never triggers": """
        one_for_one auto=any
          a
          b temporary significant
          c transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > stop b
        0: b cancelled, (stop b: shutdown)
        > stop c
        0: c cancelled, (stop c: shutdown)
        > list
        0: (list: a=up c=down)
        > leave
        0: a cancelled, (closed)
    """,
    "1.9 a stop for the sake of a sibling's group restart never triggers": """
        one_for_all auto=any
          a
          b temporary significant
          c transient significant
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], c start, c up, [c started
            2]
        > list
        0: (list: a=up c=up)
        > leave
        0: c cancelled, a cancelled, (closed)
    """,
    "1.9 for the supervisor above it is a planned end: a transient subtree stays down": """
        one_for_one
          s supervisor transient auto=any
            a transient significant
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > a returns
        0: a end
        > list
        0: (list: s=down)
        > leave
        0: (closed)
    """,
    "1.9 and a permanent one is restarted": """
        one_for_one
          s supervisor auto=any
            a transient significant
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > a returns
        0: a end, [s ended shutdown], a start, a up, [s/a started 1], [s started 2]
        > list
        0: (list: s=up)
        > leave
        0: a cancelled, (closed)
    """,
    "1.9 any_significant: an end while another child starts does not wait for it, other than in OTP": """
        one_for_one auto=any
          a transient significant
          b cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > start c starts=9 cleanup=1
        0: c start
        > a returns
        0: a end, c cancelled
        > until 5
        1: c cleaned, b cancelled, (start c: ChildStartError)
        2: b cleaned, (closed)
    """,
    "1.10 a subtree's end is an ordinary child's end: counted once, and started with its static children only": """
        one_for_one limit=1/5
          a
          s supervisor limit=1/5
            b
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > in s: start c
        0: c start, c up, [s/c started 1], (in s: start c: up)
        > b fails
        0: b end, [s/b ended failed b1], b start, b up, [s/b started 2]
        > b fails
        0: b end, [s/b ended failed b2], [s limit 1/5 failed b2], c cancelled, [s ended failed RestartLimit[b1 b2]], b
            start, b up, [s/b started 1], [s started 2]
        > in s: list
        0: (in s: list: b=up)
        > leave
        0: b cancelled, a cancelled, (closed)
    """,
    "1.10 the worst case of starts multiplies per level": """
        one_for_one limit=1/5
          s supervisor limit=2/5
            a
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > a fails
        0: a end, [s/a ended failed a1], a start, a up, [s/a started 2]
        > a fails
        0: a end, [s/a ended failed a2], a start, a up, [s/a started 3]
        > a fails
        0: a end, [s/a ended failed a3], [s limit 2/5 failed a3], [s ended failed RestartLimit[a1 a2 a3]], a start, a
            up, [s/a started 1], [s started 2]
        > a fails
        0: a end, [s/a ended failed a4], a start, a up, [s/a started 2]
        > a fails
        0: a end, [s/a ended failed a5], a start, a up, [s/a started 3]
        > a fails
        0: a end, [s/a ended failed a6], [s limit 2/5 failed a6], [s ended failed RestartLimit[a4 a5 a6]], [root limit
            1/5 failed RestartLimit[a4 a5 a6]], (raises RestartLimit[RestartLimit[a1 a2 a3] RestartLimit[a4 a5 a6]])
    """,
    "1.10 a subtree stops in its turn, its children in reverse": """
        one_for_one
          a
          s supervisor rest_for_one
            b cleanup=1
            c cleanup=1
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s started 1],
            d start, d up, [d started 1], (open)
        > leave
        0: d cancelled, c cancelled
        > until 5
        1: c cleaned, b cancelled
        2: b cleaned, a cancelled, (closed)
    """,
    "1.10 a group restart above stops and starts the subtree as one child": """
        one_for_all
          a
          s supervisor
            b cleanup=1
            c
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s started 1],
            (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled
        > until 5
        1: b cleaned, a start, a up, [a started 2], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s
            started 2]
        > leave
        5: c cancelled, b cancelled
        > until 9
        6: b cleaned, a cancelled, (closed)
    """,
    "1.10 a failed restart of a subtree is a failed start, retried and counted": """
        one_for_one limit=2/5
          s supervisor limit=0/5
            a
            b starts=ok,fail,ok
        ---
        0: a start, a up, [s/a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > a fails
        0: a end, [s/a ended failed a1], [s limit 0/5 failed a1], b cancelled, [s ended failed RestartLimit[a1]], a
            start, a up, [s/a started 1], b start, [s/b start failed failed b2], a cancelled, [s start failed failed
            ChildStartError(b2)], a start, a up, [s/a started 1], b start, b up, [s/b started 1], [s started 3]
        > leave
        0: b cancelled, a cancelled, (closed)
    """,
    "1.10 a dynamic supervisor as a child comes back empty": """
        one_for_one
          d dynamic limit=0/5
            t permanent
        ---
        0: [d started 1], (open)
        > in d: spawn x
        0: x start, x up, (in d: spawn x: up)
        > in d: spawn y
        0: y start, y up, (in d: spawn y: up)
        > x fails
        0: x end, [d/1 ended failed x1], [d limit 0/5 failed x1], y cancelled, [d ended failed RestartLimit[x1]], [d
            started 2]
        > in d: list
        0: (in d: list: nobody)
        > leave
        0: (closed)
    """,
    "1.10 deleting and restarting a subtree by hand": """
        one_for_one
          s supervisor
            a
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > stop s
        0: a cancelled, (stop s: normal)
        > restart s
        0: a start, a up, [s/a started 1], [s started 2], (restart s: up)
        > stop s
        0: a cancelled, (stop s: normal)
        > delete s
        0: (delete s: gone)
        > list
        0: (list: nobody)
        > leave
        0: (closed)
    """,
    "1.11 the whole story: start, end, failed start, limit, failed stop, each with the path of the offender": """
        one_for_one limit=0/9
          a bad
          s supervisor rest_for_one limit=1/9
            b bad
            c starts=ok,fail
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s started 1],
            (open)
        > c fails
        0: c end, [s/c ended failed c1], c start, [s/c start failed failed c2], [s limit 1/9 failed c2], b cancelled,
            [s/b stop failed failed b1], [s ended failed RestartLimit[c1 c2]], [root limit 0/9 failed RestartLimit[c1
            c2]], a cancelled, [a stop failed failed a1], (raises RestartLimit[RestartLimit[c1 c2]])
    """,
    "2.1.7 the limit ends a subtree with an error: transient, it is restarted, other than in OTP": """
        one_for_one
          s supervisor transient limit=0/5
            a
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > a fails
        0: a end, [s/a ended failed a1], [s limit 0/5 failed a1], [s ended failed RestartLimit[a1]], a start, a up, [s/a
            started 1], [s started 2]
        > list
        0: (list: s=up)
        > leave
        0: a cancelled, (closed)
    """,
    "2.1.7 a temporary subtree that passes its limit harms nobody": """
        one_for_one limit=0/5
          a
          s supervisor temporary limit=0/5
            b
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > b fails
        0: b end, [s/b ended failed b1], [s limit 0/5 failed b1], [s ended failed RestartLimit[b1]]
        > list
        0: (list: a=up)
        > leave
        0: a cancelled, (closed)
    """,
    "2.1.7 escalation carries the errors of each window to the top": """
        one_for_one limit=0/5
          s supervisor limit=1/5
            a
            b
        ---
        0: a start, a up, [s/a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > a fails
        0: a end, [s/a ended failed a1], a start, a up, [s/a started 2]
        > b fails
        0: b end, [s/b ended failed b1], [s limit 1/5 failed b1], a cancelled, [s ended failed RestartLimit[a1 b1]],
            [root limit 0/5 failed RestartLimit[a1 b1]], (raises RestartLimit[RestartLimit[a1 b1]])
    """,
    "2.1.13 between events nothing happens for as long as one likes": """
        one_for_one
          a backoff=1,1,1
          s supervisor
            b
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], [s started 1], (open)
        > until 1000000
        > b fails
        1e+06: b end, [s/b ended failed b1], b start, b up, [s/b started 2]
        > until 2000000
        > leave
        2e+06: b cancelled, a cancelled, (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
