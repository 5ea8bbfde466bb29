"""The commands, one file per noun; `colony_cli.tree` says which is where."""
