"""All proofs of a tunnel, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lab.check.model import Check
from lab.tunnel.crossing import crossing
from lab.tunnel.killed import killed
from lab.tunnel.leaks import leaks
from lab.tunnel.proofs import Proof, recovery, rotation, wire
from lab.tunnel.sealed import sealed
from lab.tunnel.site import Tunnels
from lab.tunnel.speed import speed

# In this order: what disturbs most comes last, and what was logged meanwhile is looked at.
PROOFS: Mapping[str, Proof] = {
    "crossing": crossing,
    "wire": wire,
    "speed": speed,
    "rotation": rotation,
    "killed": killed,
    "sealed": sealed,
    "recovery": recovery,
    "leaks": leaks,
}


def prove(tunnels: Tunnels, names: Sequence[str] = ()) -> Iterator[Check]:
    """What is seen by the named proofs, or by all of them."""
    for name, proof in PROOFS.items():
        if not names or name in names:
            yield from proof(tunnels)
