"""SPIRE: servers, agents, and who is registered with them.

Trust domain, lifetimes and key type are in the compiled configuration; nothing here repeats them.
"""

from components.spire.component import Spire, refusals

__all__ = ["Spire", "refusals"]
