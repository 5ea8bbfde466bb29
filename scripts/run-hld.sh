#!/usr/bin/env bash
# Runs HumanLayer's daemon for colonies: own socket, database and port (docs/backends.md). With --foreground it stays in this shell.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -x "$root/.venv/bin/colony" ]; then colony=$root/.venv/bin/colony; else colony=colony; fi
exec "$colony" backend hld start "$@"
