"""Who reaches the API server of the cluster: those whom the policy lets call it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address, ip_address

from lab.check.model import BrokenError, Check, Place, Site, each
from lab.check.names import KUBERNETES
from zt.decide import Verdict, decide
from zt.effective import EXTERNAL

_PORT = 443
_PATIENCE = 10.0
_REFUSED = 3.0


def api_server(site: Site) -> Iterator[Check]:
    """Whether each pod reaches the API server as the policy says."""
    service = site.api.get("/api/v1/namespaces/default/services/kubernetes")
    address = ip_address(service["spec"]["clusterIP"])
    assert isinstance(address, IPv4Address)  # noqa: S101 - the lab has no others
    yield from each("API server", site.places, partial(_reached, site, address))


def _reached(site: Site, address: IPv4Address, place: Place) -> str:
    may = _may(site, place, address)
    answer = site.ask(
        place,
        mode="connect",
        host=KUBERNETES,
        port=_PORT,
        timeout=_PATIENCE if may else _REFUSED,
        tls={},
    )
    if answer["ok"] is not may:
        raise BrokenError(f"it should {'' if may else 'not '}reach it: {answer}")
    return "reached" if may else f"refused ({answer['error']})"


def _may(site: Site, place: Place, address: IPv4Address) -> bool:
    """Whether a rule grants what is outside and has that address."""
    return any(
        decide(site.table, place.declared.spiffe, EXTERNAL + item.name, _PORT).verdict
        is Verdict.ALLOW
        for item in site.policy.externals
        if any(address in network for network in item.cidrs)
    )
