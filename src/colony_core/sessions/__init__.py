"""The agents at work in colonies: one session each, its feed, its questions, its budget.

The story: `Sessions` knows every agent and writes down what is wanted before anything is done; a `Session` carries one instruction out
after another, each in a run of a backend; a `Watch` takes what a run tells, keeps it in the `Feed`, asks people what the agent asks, and
ends the run when its time or its purse is used up. Accounts that have reached a limit pause together.
"""

from .sessions import Sessions
from .state import State
from .surroundings import agent_environment

__all__ = ["Sessions", "State", "agent_environment"]
