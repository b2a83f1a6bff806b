"""Who is behind an IP address: pods, from a table, and what is outside, from the policy.

The table is a JSON file: ``{"10.240.0.7": {"pod": "gateway-7f8b9c6d4-x2k9p", "node": "worker-3",
"spiffe": "spiffe://hanzo.ai/hanzo-k8s/hanzo/gateway"}}``. It fills in pods and nodes of audit
records; an identity comes from it only where a connection carried no certificate. While it is live
(whoever keeps it says so by touching a file beside it), it also speaks against certificates: a pod
shows none but its own.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from zt.model import Policy
from zt.values import Network

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Seconds for which a table is believed after its keeper was last heard of.
_LIVE = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """The pod that has an address."""

    pod: str
    node: str
    spiffe: str
    # Its address may soon be another's.
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Locations:
    """Pods by address. ``canaries``: the first pod name of each service, by SPIFFE ID.

    ``live``: whether the cluster is being watched, so that an address is nobody else's by now.
    """

    by_address: Mapping[IpAddress, Location] = field(default_factory=dict)
    canaries: Mapping[str, str] = field(default_factory=dict)
    live: bool = False

    def find(self, address: str) -> Location | None:
        """The pod that has an address, if it is known."""
        parsed = parse_address(address)
        return self.by_address.get(parsed) if parsed else None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Networks of what is outside the mesh, most specific first, and those of pods.

    ``gateways`` are the SPIFFE IDs of those through which other clusters' callers come.
    """

    externals: tuple[tuple[Network, str], ...] = ()
    pods: tuple[Network, ...] = ()
    gateways: frozenset[str] = frozenset()

    def contradicts(self, pod: Location, principal: str) -> bool:
        """Whether a pod can't be who a certificate says; a gateway is anyone of elsewhere."""
        if pod.spiffe in self.gateways:
            return principal != pod.spiffe and _cluster(principal) == _cluster(pod.spiffe)
        return principal != pod.spiffe

    def external(self, address: str) -> str | None:
        """Name of the ExternalService that an address belongs to; a pod's belongs to none."""
        parsed = parse_address(address)
        if parsed is None or self.is_pod(address):
            return None
        return next((name for network, name in self.externals if parsed in network), None)

    def is_pod(self, address: str) -> bool:
        """Whether an address is of a cluster's pod network."""
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.pods)


def surroundings(policy: Policy) -> Surroundings:
    """The networks that a policy declares."""
    externals = [(cidr, external.name) for external in policy.externals for cidr in external.cidrs]
    return Surroundings(
        externals=tuple(sorted(externals, key=lambda item: (-item[0].prefixlen, item[1]))),
        pods=tuple(cluster.pod_cidr for cluster in policy.mesh.clusters),
        gateways=frozenset(
            service.spiffe(policy.mesh)
            for service in policy.services
            if service.name == policy.mesh.infrastructure.gateway
        ),
    )


def _cluster(spiffe: str) -> str:
    """Trust domain and cluster of a SPIFFE ID."""
    return "/".join(spiffe.split("/")[:4])


def parse_address(text: str) -> IpAddress | None:
    """An IP address; IPv4 inside IPv6 (``::ffff:10.0.0.1``) as IPv4. ``None`` for anything else."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_locations(text: str) -> Locations:
    """Read the table.

    Raises:
        ValueError: if it is not of the form above.
    """
    try:
        found = {_address(address): Location(**item) for address, item in json.loads(text).items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"should map addresses to pod, node and spiffe: {error}") from None
    canaries: dict[str, str] = {}
    for location in found.values():
        canaries[location.spiffe] = min(location.pod, canaries.get(location.spiffe, location.pod))
    return Locations(found, canaries)


def _address(text: str) -> IpAddress:
    address = parse_address(text)
    if address is None:
        raise ValueError(f"{text!r} is not an IP address")
    return address


def live_sign(path: Path) -> Path:
    """The file that whoever keeps a table touches while it is live."""
    return path.with_name(f"{path.name}.live")


class LocationFile:
    """The table in a file, read again when it changes; a bad change leaves the last good one."""

    def __init__(self, path: Path | None) -> None:
        """Nothing is read before ``refresh``; without a path nobody is known."""
        self._path = path
        self._sign = live_sign(path) if path else None
        self._seen: tuple[int, int, int] | None = None
        self.current = Locations()

    def refresh(self) -> bool:
        """Read the file if it changed since; whether ``current`` is another than before."""
        if self._path is None:
            return False
        # Looked at first: what is read later is no older than the sign says.
        before, live = self.current, self._is_live()
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._seen = seen
                self.current = parse_locations(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _log.warning("%s stays as it was last read: %s", self._path, error)
            live = False
        if self.current.live != live:
            self.current = replace(self.current, live=live)
        return self.current is not before

    def _is_live(self) -> bool:
        try:
            return self._sign is not None and time.time() - self._sign.stat().st_mtime < _LIVE
        except OSError:
            return False
