"""Walks through the house, says what is missing and how to mend it; and clears what a killed daemon left, when somebody asks for it."""

from .checks import Finding, examine
from .leftovers import Leftover, clear_leftovers

__all__ = ["Finding", "Leftover", "clear_leftovers", "examine"]
