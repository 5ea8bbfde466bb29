"""Supervisors of many alike children (1.8, 1.9, 1.11, 2.2)."""

import pytest

STORIES = {
    "1.8 dynamic: addressed by handle, restart and delete are refused, what is down is forgotten": """
        dynamic
          t
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > spawn b
        0: b start, b up, (spawn b: up)
        > list
        0: (list: 1=up 2=up)
        > restart 1
        0: (restart 1: NotForDynamic)
        > delete 1
        0: (delete 1: NotForDynamic)
        > stop handle 0
        0: a cancelled, (stop handle: shutdown)
        > list
        0: (list: 2=up)
        > stop 2
        0: b cancelled, (stop 2: shutdown)
        > stop 2
        0: (stop 2: NoSuchChild)
        > leave
        0: (closed)
    """,
    "1.8 dynamic: arguments are kept for restarts": """
        dynamic limit=9/5
          t
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > spawn b
        0: b start, b up, (spawn b: up)
        > a fails
        0: [1 ended failed a1], a end, a start, a up
        > b returns
        0: [2 ended normal], b end, b start, b up
        > list
        0: (list: 1=up 2=up)
        > leave
        0: a cancelled, b cancelled, (closed)
    """,
    "1.8 dynamic: most counts those that restart too": """
        dynamic most=2
          t backoff=5,1,5
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > spawn b
        0: b start, b up, (spawn b: up)
        > a fails
        0: [1 ended failed a1], a end
        > spawn c
        0: (spawn c: TooManyChildren)
        > stop 1
        0: (stop 1: failed a1)
        > spawn c
        0: c start, c up, (spawn c: up)
        > leave
        0: b cancelled, c cancelled, (closed)
    """,
    "1.8 dynamic: a failed start keeps nothing": """
        dynamic
          t starts=fail
        ---
        0: (open)
        > spawn a
        0: [1 start failed failed a1], a start, (spawn a: ChildStartError(a1))
        > list
        0: (list: nobody)
        > counts
        0: (counts: 0 specs, 0 active, 0 supervisors, 0 workers)
        > leave
        0: (closed)
    """,
    "1.8 dynamic: an ignore on restart removes the child": """
        dynamic
          t permanent starts=ok,ignore
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > a fails
        0: [1 ended failed a1], a end, a start
        > list
        0: (list: nobody)
        > leave
        0: (closed)
    """,
    "1.8 dynamic: starts do not wait for one another": """
        dynamic
          t
        ---
        0: (open)
        > start a starts=3
        0: a start
        > start b starts=1
        0: b start
        > start c
        0: c start, c up, (start c: up)
        > until 5
        1: b up, (start b: up)
        3: a up, (start a: up)
        > leave
        5: a cancelled, b cancelled, c cancelled, (closed)
    """,
    "1.9 all_significant in a dynamic supervisor": """
        dynamic auto=all
          t transient significant
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > spawn b
        0: b start, b up, (spawn b: up)
        > a returns
        0: a end
        > list
        0: (list: 2=up)
        > b returns
        0: b end, (closed)
    """,
    "1.11 a mass stop folds equal ends into one event with a count": """
        dynamic
          t bad
        ---
        0: (open)
        > start a cleanup=9 grace=1
        0: a start, a up, (start a: up)
        > start b cleanup=9 grace=1
        0: b start, b up, (start b: up)
        > start c cleanup=9 grace=2
        0: c start, c up, (start c: up)
        > leave
        0: a cancelled, b cancelled, c cancelled
        > until 5
        1: a cut, b cut
        2: [root stop failed killed x3], c cut, (closed)
    """,
    "1.11 dynamic supervisors do not tell of starts, but of failures": """
        dynamic
          t starts=ok,fail,ok
        ---
        0: (open)
        > spawn a
        0: a start, a up, (spawn a: up)
        > a fails
        0: [1 ended failed a1], [1 start failed failed a2], a end, a start, a start, a up
        > leave
        0: a cancelled, (closed)
    """,
    "2.2 run: one temporary task, its result or its error is ours": """
        dynamic
          t
        ---
        0: (open)
        > run ok
        0: (run ok: True)
        > run fail
        0: (run fail: run)
        > run 3
        > until 5
        3: (run 3: True)
        > run 9
        > give up
        5: (run 9: cancelled)
        > list
        5: (list: nobody)
        > leave
        5: (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
