"""The command `colony`: reads what a person types, asks the daemon over HTTP, shows the answer.

    main       entry: runs the tree, turns every error into words and an exit code
    root       the click group; a branch is imported when it is asked for
    commands   one file per noun; a command asks, waits if it must, and shows
    waiting    follows a colony until it is where it should be
    context    flags, server and output of this run
    output     tables for people, JSON for programs, colour where welcome; the only place that prints
    tree tables words exits prompts complete   pure helpers

Nothing here knows the house from inside: but for `serve` and `doctor` everything goes through `colony_core.remote`. A process that
lives for a tenth of a second pays for every import, so branches, Trio and the serialiser are imported where they are needed.
"""
