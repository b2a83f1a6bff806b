"""KMS is sealed: tunnels that run do not mind, and a rotation is refused with the reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from lab.check.model import BrokenError, Check, all_of
from lab.cluster.network import NAMESPACES
from lab.kms.server import kms_of, open_up, seal
from lab.tunnel.site import Gateway, Tunnels
from lab.tunnel.traffic import pinging
from lab.verify.network import within

_SEALED = 10.0


def sealed(tunnels: Tunnels) -> Iterator[Check]:
    """KMS is sealed for a while, under traffic."""
    tunnels.say("KMS is sealed")
    yield from all_of("KMS is sealed", [("a tunnel that runs", partial(_sealed, tunnels))])


def _sealed(tunnels: Tunnels) -> str:
    near, far = tunnels.pair()
    kms, internet = kms_of(tunnels.lab.layout), NAMESPACES / tunnels.lab.layout.internet
    before = near.tell("status")
    within(internet, lambda: seal(kms))
    try:
        with pinging(near.end, far.end) as pings:
            said = _refused(near)
            time.sleep(_SEALED)
            if not (near.is_up(far.cluster) and far.is_up(near.cluster)):
                raise BrokenError("the tunnel says that it is down")
    finally:
        within(internet, lambda: open_up(kms))
    if pings.received != pings.sent:
        raise BrokenError(f"{pings.sent - pings.received} of {pings.sent} pings lost")
    after = near.tell("status")
    if (after["publicKey"], after["step"]) != (before["publicKey"], None):
        raise BrokenError(f"it began a rotation that was refused: {after}")
    return f"0 of {pings.sent} pings lost; a rotation: {said}"


def _refused(gateway: Gateway) -> str:
    try:
        gateway.tell("rotate")
    except BrokenError as error:
        return str(error)
    raise BrokenError("a rotation is begun although its key can't be kept")
