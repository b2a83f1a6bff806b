"""What can go wrong with a tunnel."""

from __future__ import annotations


class TunnelError(Exception):
    """It can't be done; the message is a sentence, and holds no key but public ones."""
