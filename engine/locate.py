"""Who is behind an IP address: pods, from a table, and what is outside, from the policy.

The table is a JSON file: ``{"10.240.0.7": {"pod": "gateway-7f8b9c6d4-x2k9p", "node": "worker-3",
"spiffe": "spiffe://hanzo.ai/hanzo-k8s/hanzo/gateway"}}``. It fills in pods and nodes of audit
records; an identity comes from it only where a connection carried no certificate.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zt.model import Policy
from zt.values import Network

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Location:
    """The pod that has an address."""

    pod: str
    node: str
    spiffe: str


@dataclass(frozen=True, slots=True)
class Locations:
    """Pods by address. ``canaries``: the first pod name of each service, by SPIFFE ID."""

    by_address: Mapping[IpAddress, Location] = field(default_factory=dict)
    canaries: Mapping[str, str] = field(default_factory=dict)

    def find(self, address: str) -> Location | None:
        """The pod that has an address, if it is known."""
        parsed = parse_address(address)
        return self.by_address.get(parsed) if parsed else None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Networks of what is outside the mesh, most specific first, and those of pods."""

    externals: tuple[tuple[Network, str], ...] = ()
    pods: tuple[Network, ...] = ()

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
    )


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


class LocationFile:
    """The table in a file, read again when it changes; a bad change leaves the last good one."""

    def __init__(self, path: Path | None) -> None:
        """Nothing is read before ``refresh``; without a path nobody is known."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.current = Locations()

    def refresh(self) -> bool:
        """Read the file if it changed since; whether ``current`` is another than before."""
        if self._path is None:
            return False
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            self._seen = seen
            self.current = parse_locations(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            _log.warning("%s stays as it was last read: %s", self._path, error)
            return False
        return True
