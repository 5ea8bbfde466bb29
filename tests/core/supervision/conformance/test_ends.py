"""A child's own end, and who is restarted along with it (1.2, 1.4, 2.1.4)."""

import pytest

STORIES = {
    "1.2 permanent: every end is reported, restarted and counted, also a planned one": """
        one_for_one limit=2/5
          a
        ---
        0: a start, a up, [a started 1], (open)
        > a returns
        0: a end, [a ended normal], a start, a up, [a started 2]
        > a plans
        0: a end, [a ended shutdown], a start, a up, [a started 3]
        > a fails
        0: a end, [a ended failed a3], [root limit 2/5 failed a3], (raises RestartLimit[EndedUnasked EndedUnasked a3])
    """,
    "1.4 temporary, abnormal: reported, the spec is forgotten": """
        one_for_one
          a temporary
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1]
        > list
        0: (list: nobody)
        > leave
        0: (closed)
    """,
    "1.4 temporary, planned: silent, the spec is forgotten": """
        one_for_one
          a temporary
          b temporary
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a returns
        0: a end
        > b plans
        0: b end
        > list
        0: (list: nobody)
        > leave
        0: (closed)
    """,
    "1.4 transient, planned: silent, the spec is kept with no process": """
        one_for_one
          a transient
          b transient
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > a returns
        0: a end
        > b plans
        0: b end
        > list
        0: (list: a=down b=down)
        > leave
        0: (closed)
    """,
    "1.4 transient, abnormal: reported and restarted": """
        one_for_one
          a transient
        ---
        0: a start, a up, [a started 1], (open)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2]
        > list
        0: (list: a=up)
        > leave
        0: a cancelled, (closed)
    """,
    "1.4 one_for_one: it is started again in its place, the others see nothing": """
        one_for_one
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b fails
        0: b end, [b ended failed b1], b start, b up, [b started 2]
        > list
        0: (list: a=up b=up c=up)
        > leave
        0: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.4 rest_for_one: those after it stop in reverse, then it and they start in order": """
        rest_for_one
          a
          b
          c cleanup=1
          d cleanup=2
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > b fails
        0: b end, [b ended failed b1], d cancelled
        > until 9
        2: d cleaned, c cancelled
        3: c cleaned, b start, b up, [b started 2], c start, c up, [c started 2], d start, d up, [d started 2]
        > leave
        9: d cancelled
        > until 20
        11: d cleaned, c cancelled
        12: c cleaned, b cancelled, a cancelled, (closed)
    """,
    "1.4 one_for_all: all others stop in reverse, then all start in order": """
        one_for_all
          a
          b
          c
          d
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], d start, d up, [d
            started 1], (open)
        > b fails
        0: b end, [b ended failed b1], d cancelled, c cancelled, a cancelled, a start, a up, [a started 2], b start, b
            up, [b started 2], c start, c up, [c started 2], d start, d up, [d started 2]
        > leave
        0: d cancelled, c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.4 groups start every spec, also those stopped by request or ended normally": """
        one_for_all
          a
          b transient
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > stop c
        0: c cancelled, (stop c: shutdown)
        > b returns
        0: b end
        > list
        0: (list: a=up b=down c=down)
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2], b start, b up, [b started 2], c start, c up, [c
            started 2]
        > list
        0: (list: a=up b=up c=up)
        > leave
        0: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.4 groups start those after the fallen, whatever they were, and leave those before alone": """
        rest_for_one
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > stop a
        0: a cancelled, (stop a: shutdown)
        > stop c
        0: c cancelled, (stop c: shutdown)
        > b fails
        0: b end, [b ended failed b1], b start, b up, [b started 2], c start, c up, [c started 2]
        > list
        0: (list: a=down b=up c=up)
        > leave
        0: c cancelled, b cancelled, (closed)
    """,
    "1.4 temporary members of a group are dropped": """
        one_for_all
          a
          b temporary
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > c fails
        0: c end, [c ended failed c1], b cancelled, a cancelled, a start, a up, [a started 2], c start, c up, [c started
            2]
        > list
        0: (list: a=up c=up)
        > leave
        0: c cancelled, a cancelled, (closed)
    """,
    "1.4 a temporary child that fails never triggers a group restart": """
        one_for_all
          a
          b temporary
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1]
        > list
        0: (list: a=up)
        > leave
        0: a cancelled, (closed)
    """,
    "1.4 a transient child that ends normally never triggers a group restart": """
        one_for_all
          a
          b transient
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b returns
        0: b end
        > list
        0: (list: a=up b=down)
        > leave
        0: a cancelled, (closed)
    """,
    "1.4 one group restart is one count, whatever its size": """
        one_for_all limit=1/5
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start, b up, [b started
            2], c start, c up, [c started 2]
        > b fails
        0: b end, [b ended failed b2], [root limit 1/5 failed b2], c cancelled, a cancelled, (raises RestartLimit[a1
            b2])
    """,
    "1.4 when the limit is passed nothing is started and all stop in reverse": """
        one_for_one limit=1/5
          a cleanup=1
          b
          c cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b fails
        0: b end, [b ended failed b1], b start, b up, [b started 2]
        > b fails
        0: b end, [b ended failed b2], [root limit 1/5 failed b2], c cancelled
        > until 9
        1: c cleaned, a cancelled
        2: a cleaned, (raises RestartLimit[b1 b2])
    """,
    "1.4 when a group's limit is passed nobody of the group is started": """
        rest_for_one limit=0/5
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b fails
        0: b end, [b ended failed b1], [root limit 0/5 failed b1], c cancelled, a cancelled, (raises RestartLimit[b1])
    """,
    "1.4 children that fall in one instant are mended one by one": """
        one_for_one limit=3/5 unordered
          a
          b
          c
        ---
        0: [a started 1], [b started 1], [c started 1], a start, a up, b start, b up, c start, c up, (open)
        > a fails & b fails & c fails
        0: [a ended failed a1], [a started 2], [b ended failed b1], [b started 2], [c ended failed c1], [c started 2], a
            end, a start, a up, b end, b start, b up, c end, c start, c up
        > list
        0: (list: a=up b=up c=up)
        > leave
        0: a cancelled, b cancelled, c cancelled, (closed)
    """,
    "2.1.4 KeyboardInterrupt is never restarted: orderly stop, then it goes on": """
        one_for_one
          a cleanup=1
          b
          c cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > b interrupts
        0: b end, [b ended failed KeyboardInterrupt], c cancelled
        > until 5
        1: c cleaned, a cancelled
        2: a cleaned, (raises KeyboardInterrupt)
    """,
    "2.1.4 the same from a subtree": """
        one_for_one
          a cleanup=1
          s supervisor
            b
            c cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [s/b started 1], c start, c up, [s/c started 1], [s started 1],
            (open)
        > b interrupts
        0: b end, [s/b ended failed KeyboardInterrupt], c cancelled
        > until 5
        1: c cleaned, [s ended failed KeyboardInterrupt], a cancelled
        2: a cleaned, (raises KeyboardInterrupt)
    """,
    "2.1.4 a sibling's error cancels nobody": """
        one_for_one
          a
          b temporary
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > b fails
        0: b end, [b ended failed b1]
        > a returns
        0: a end, [a ended normal], a start, a up, [a started 2]
        > leave
        0: a cancelled, (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
