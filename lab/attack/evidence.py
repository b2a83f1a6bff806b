"""Which layer stopped an attempt, by what was seen of it.

What the trail says counts first. A connection of which no packet came to the destination's pod was
dropped on its way; all else is read from how it ended.
"""

from __future__ import annotations

from collections.abc import Collection

from lab.attack.model import Layer, Plane, Seen

# Words of ``lab.services.dialing``, and of those who make objects or run programs.
REFUSED = "refused"
# It could not be tried: nobody stopped it, and nobody knows whether anybody would have.
UNTRIED = "untried"
FORBIDDEN, HARMLESS, PAGE = "forbidden", "harmless", "no page"
KERNEL, ATTESTATION = "kernel", "attestation"

_BY_WORD = {
    FORBIDDEN: Layer.ADMISSION,
    HARMLESS: Layer.ADMISSION,
    PAGE: Layer.ROUTE,
    KERNEL: Layer.KERNEL,
    ATTESTATION: Layer.ATTESTATION,
}
_CLOSED = ("closed", "reset", "tls")
_DENY = "DENY"


def layer_of(
    seen: Seen, removed: Collection[Plane] = (), *, by_gateway: bool = False
) -> Layer | None:
    """The layer that stopped an attempt; ``None`` if it got in, or nobody knows.

    ``by_gateway``: it went to the gateway's Envoy, which closes what has no route, unrecorded.
    """
    if seen.got_in or seen.how == UNTRIED:
        return None
    recorded = next((r.layer for r in seen.records if r.verdict == _DENY), None)
    return (
        Layer(recorded)
        if recorded
        else _BY_WORD.get(seen.how) or _by_packets(seen, removed, by_gateway=by_gateway)
    )


def _by_packets(seen: Seen, removed: Collection[Plane], *, by_gateway: bool) -> Layer | None:
    if seen.packets == 0:
        return Layer.NETWORK_POLICY
    if seen.how == REFUSED:
        return Layer.NOBODY
    if by_gateway and seen.packets and seen.how in _CLOSED:
        return Layer.GATEWAY
    return Layer.APPLICATION if Plane.REDIRECT in removed and seen.packets else None
