"""The coding agents that Colony knows, by name."""

from collections.abc import Sequence

from .acp import AcpBackend
from .backend import Backend
from .claude import ClaudeBackend
from .fake import FakeBackend
from .hld import HldBackend
from .script import ScriptBackend


def standard_backends(*, acp_command: Sequence[str] = ()) -> dict[str, Backend]:
    """All of them; whether one can work on this machine it tells itself (`Backend.check`). `acp_command` is the ACP agent to run,
    empty: the first that is installed of those that are known. The fake works only where it is asked for by name."""
    own = (HldBackend(), ClaudeBackend(), AcpBackend(acp_command))
    backends: tuple[Backend, ...] = (*own, ScriptBackend(), FakeBackend())
    return {backend.name: backend for backend in backends}
