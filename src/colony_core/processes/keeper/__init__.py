"""The keeper: a small program that holds the processes of one daemon and outlives it.

It starts commands in their namespaces, owns their pipes, drains them into numbered log segments, records how they ended, and stops
whole process trees. It uses the standard library alone and imports nothing of `colony_core`, so that it stays small and an upgrade of
Colony never touches a running one. The same engine runs inside a program that embeds Colony (`processes.open_inline_keeper`).

    __main__   the program: becomes a session of its own, gives up what children must not have, serves
    engine     the loop: connections, pipes, ends, timers
    requests   what a daemon may ask, and how each question is answered
    terminals  programs on pseudo-terminals
    viewers    those who look at them
    scrollback what a terminal has said last; pure
    children   starting, ending and the last words of processes
    tree       who belongs to a process, found in /proc
    segments   a log on disk in numbered segments
    records    the line format of a log; pure
    wire       JSON lines and file descriptors on a Unix socket
    kernel     prctl, capabilities and setns, which the standard library lacks
"""
