"""The declared part of the service graph."""

from __future__ import annotations

from typing import Any

from zt.effective import Effective


def declared(effective: Effective) -> dict[str, Any]:
    """Nodes and edges that the policy declares."""
    del effective
    return {}
