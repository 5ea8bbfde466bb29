"""The table of requests, and handles (1.8, 2.1.11, 2.2)."""

import pytest

STORIES = {
    "1.8 start_child: the id runs, restarts, is down, is unknown, fails, ignores": """
        one_for_one
          up
          back backoff=9,1,9
          down
        ---
        0: up start, up up, [up started 1], back start, back up, [back started 1], down start, down up, [down started
            1], (open)
        > back fails
        0: back end, [back ended failed back1]
        > stop down
        0: down cancelled, (stop down: shutdown)
        > start up
        0: (start up: AlreadyStarted)
        > start back
        0: (start back: AlreadyPresent)
        > start down
        0: (start down: AlreadyPresent)
        > start new
        0: new start, new up, [new started 1], (start new: up)
        > start sick starts=fail
        0: sick start, [sick start failed failed sick1], (start sick: ChildStartError(sick1))
        > start not starts=ignore
        0: not start, (start not: down)
        > start gone temporary starts=ignore
        0: gone start, (start gone: down)
        > list
        0: (list: up=up back=restarting down=down new=up not=down)
        > leave
        0: new cancelled, up cancelled, (closed)
    """,
    "1.8 stop_child: running, restarting, down, unknown, temporary": """
        one_for_one
          up
          back backoff=9,1,9
          down
          temp temporary
        ---
        0: up start, up up, [up started 1], back start, back up, [back started 1], down start, down up, [down started
            1], temp start, temp up, [temp started 1], (open)
        > back fails
        0: back end, [back ended failed back1]
        > stop down
        0: down cancelled, (stop down: shutdown)
        > stop up
        0: up cancelled, (stop up: shutdown)
        > stop back
        0: (stop back: failed back1)
        > stop down
        0: (stop down: shutdown)
        > stop new
        0: (stop new: NoSuchChild)
        > stop temp
        0: temp cancelled, (stop temp: shutdown)
        > list
        0: (list: up=down back=down down=down)
        > until 20
        > leave
        20: (closed)
    """,
    "1.8 restart_child: running, restarting, down, unknown": """
        one_for_one
          up
          back backoff=9,1,9
          down
          sick starts=ok,fail
        ---
        0: up start, up up, [up started 1], back start, back up, [back started 1], down start, down up, [down started
            1], sick start, sick up, [sick started 1], (open)
        > back fails
        0: back end, [back ended failed back1]
        > stop down
        0: down cancelled, (stop down: shutdown)
        > stop sick
        0: sick cancelled, (stop sick: shutdown)
        > restart up
        0: (restart up: ChildRunning)
        > restart back
        0: (restart back: ChildRestarting)
        > restart down
        0: down start, down up, [down started 2], (restart down: up)
        > restart new
        0: (restart new: NoSuchChild)
        > restart sick
        0: sick start, [sick start failed failed sick2], (restart sick: ChildStartError(sick2))
        > list
        0: (list: up=up back=restarting down=up sick=down)
        > leave
        0: down cancelled, up cancelled, (closed)
    """,
    "1.8 delete_child: running, restarting, down, unknown": """
        one_for_one
          up
          back backoff=9,1,9
          down
        ---
        0: up start, up up, [up started 1], back start, back up, [back started 1], down start, down up, [down started
            1], (open)
        > back fails
        0: back end, [back ended failed back1]
        > stop down
        0: down cancelled, (stop down: shutdown)
        > delete up
        0: (delete up: ChildRunning)
        > delete back
        0: (delete back: ChildRestarting)
        > delete down
        0: (delete down: gone)
        > delete new
        0: (delete new: NoSuchChild)
        > list
        0: (list: up=up back=restarting)
        > leave
        0: up cancelled, (closed)
    """,
    "1.8 a child comes back at its old place": """
        rest_for_one
          a
          b
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > stop b
        0: b cancelled, (stop b: shutdown)
        > restart b
        0: b start, b up, [b started 2], (restart b: up)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start, b up, [b started
            3], c start, c up, [c started 2]
        > leave
        0: c cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.8 a child whose start failed on restart_child stays down, with no retry and no count": """
        one_for_one limit=0/5
          a starts=ok,fail,ok
        ---
        0: a start, a up, [a started 1], (open)
        > stop a
        0: a cancelled, (stop a: shutdown)
        > restart a
        0: a start, [a start failed failed a2], (restart a: ChildStartError(a2))
        > list
        0: (list: a=down)
        > until 3
        > restart a
        3: a start, a up, [a started 3], (restart a: up)
        > leave
        3: a cancelled, (closed)
    """,
    "1.8 counts: specs, active, supervisors, workers": """
        one_for_one
          a
          b
          s supervisor
            c
          r backoff=9,1,9
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [s/c started 1], [s started 1], r
            start, r up, [r started 1], (open)
        > stop b
        0: b cancelled, (stop b: shutdown)
        > r fails
        0: r end, [r ended failed r1]
        > counts
        0: (counts: 4 specs, 2 active, 1 supervisors, 3 workers)
        > leave
        0: c cancelled, a cancelled, (closed)
    """,
    "1.8 a stop gets in while another child starts": """
        one_for_one
          a cleanup=1
        ---
        0: a start, a up, [a started 1], (open)
        > start b starts=9
        0: b start
        > stop a
        0: a cancelled
        > until 2
        1: a cleaned, (stop a: shutdown)
        > until 10
        9: b up, [b started 1], (start b: up)
        > leave
        10: b cancelled, (closed)
        > until 20
    """,
    "1.8 a stop of a child that starts is a stop, for its starter a failed start": """
        one_for_one
        ---
        0: (open)
        > start a starts=9
        0: a start
        > until 1
        > stop a
        1: a cancelled, (start a: ChildStartError), (stop a: shutdown)
        > list
        1: (list: a=down)
        > leave
        1: (closed)
    """,
    "1.8 requests to a supervisor that stops are refused": """
        one_for_one
          a cleanup=2
        ---
        0: a start, a up, [a started 1], (open)
        > end
        0: a cancelled
        > start b
        0: (start b: NotRunning)
        > restart a
        > wait
        > until 3
        2: a cleaned, (closed), (restart a: NotRunning), (wait: over)
    """,
    "1.8 a stop whose caller is cancelled goes on": """
        one_for_one
          a cleanup=3
        ---
        0: a start, a up, [a started 1], (open)
        > stop a
        0: a cancelled
        > until 1
        > give up
        1: (stop a: cancelled)
        > list
        1: (list: a=stopping)
        > until 5
        3: a cleaned
        > list
        5: (list: a=down)
        > leave
        5: (closed)
    """,
    "1.8 of two starts with one id in one instant one wins": """
        one_for_one unordered
        ---
        0: (open)
        > start a starts=1 & start a starts=1
        0: a start
        > until 2
        1: [a started 1], a up, (start a: AlreadyStarted), (start a: up)
        > list
        2: (list: a=up)
        > leave
        2: a cancelled, (closed)
    """,
    "1.8 start_child after a stop that is under way waits for its outcome": """
        one_for_one unordered
          a cleanup=2
          b temporary cleanup=2
        ---
        0: [a started 1], [b started 1], a start, a up, b start, b up, (open)
        > stop a & stop b
        0: a cancelled, b cancelled
        > start a
        > start b
        > until 3
        2: [b started 1], a cleaned, b cleaned, b start, b up, (start a: AlreadyPresent), (start b: up), (stop a:
            shutdown), (stop b: shutdown)
        > list
        3: (list: a=down b=up)
        > leave
        3: b cancelled, (closed)
    """,
    "1.8 a start by request waits until a group has recovered, and a stop does not": """
        one_for_all
          a
          b starts=ok,5
          c
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start
        > start d
        > stop c
        0: (stop c: shutdown)
        > until 9
        5: b up, [b started 2], d start, d up, [d started 1], (start d: up)
        > list
        9: (list: a=up b=up c=down d=up)
        > leave
        9: d cancelled, b cancelled, a cancelled, (closed)
    """,
    "1.8 stopping a member while its group starts leaves it down, the others go on": """
        one_for_all
          a
          b starts=ok,5
          c starts=ok,2
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], c start, c up, [c started 1], (open)
        > a fails
        0: a end, [a ended failed a1], c cancelled, b cancelled, a start, a up, [a started 2], b start
        > until 1
        > stop b
        1: b cancelled, c start, (stop b: shutdown)
        > until 9
        3: c up, [c started 2]
        > list
        9: (list: a=up b=down c=up)
        > leave
        9: c cancelled, a cancelled, (closed)
    """,
    "2.1.11 wait_exit tells the end of the current incarnation, at once if it is down": """
        one_for_one
          a
        ---
        0: a start, a up, [a started 1], (open)
        > wait_exit a
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2], (wait_exit a: failed a1)
        > wait_exit a
        > stop a
        0: a cancelled, (stop a: shutdown), (wait_exit a: shutdown)
        > wait_exit a
        0: (wait_exit a: shutdown)
        > leave
        0: (closed)
    """,
    "2.1.11 wait_up gives the value of the current or the next incarnation, or says that it never comes back": """
        one_for_one
          a backoff=2,1,2
        ---
        0: a start, a up, [a started 1], (open)
        > wait_up a
        0: (wait_up a: 1)
        > a fails
        0: a end, [a ended failed a1]
        > wait_up a
        > until 3
        2: a start, a up, [a started 2], (wait_up a: 2)
        > a fails
        3: a end, [a ended failed a2]
        > wait_up a
        > stop a
        3: (stop a: failed a2), (wait_up a: NotRunning(a2))
        > wait_up a
        3: (wait_up a: NotRunning(a2))
        > leave
        3: (closed)
    """,
    "2.1.11 a link is cancelled and raises when the incarnation ends abnormally, and only then": """
        one_for_one
          a
          b
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > link a
        > link b
        > a fails
        0: a end, [a ended failed a1], a start, a up, [a started 2], (link a: ActorDied(a1))
        > b returns
        0: b end, [b ended normal], b start, b up, [b started 2]
        > link b
        > give up
        0: (link b: cancelled), (link b: cancelled)
        > leave
        0: b cancelled, a cancelled, (closed)
    """,
    "2.2 stop() is an orderly stop that the block sees end, and is idempotent": """
        one_for_one
          a cleanup=1
          b cleanup=1
        ---
        0: a start, a up, [a started 1], b start, b up, [b started 1], (open)
        > wait
        > end & end
        0: b cancelled
        > end
        > until 5
        1: b cleaned, a cancelled
        2: a cleaned, (closed), (wait: over)
    """,
    "2.2 stop() of a permanent subtree is a planned end, which its supervisor answers with a restart": """
        one_for_one
          s supervisor
            a
        ---
        0: a start, a up, [s/a started 1], [s started 1], (open)
        > in s: end
        0: a cancelled, [s ended shutdown], a start, a up, [s/a started 1], [s started 2]
        > leave
        0: a cancelled, (closed)
    """,
}


@pytest.mark.parametrize("rule", STORIES)
def test_the_rule(rule, follow):
    follow(STORIES[rule])
