"""Where every part of the local mesh listens: loopback addresses, one or more for each part.

A mesh owns ``127.<block>.0.0/16``. A service's pod, its application and each of its upstreams have
addresses of their own, so declared ports never clash. Linux answers on all of 127.0.0.0/8.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from zt.effective import Effective, EffectiveService, party_id
from zt.model import ExternalService, Mesh, Service

BLOCKS = range(54, 64)
UNPRIVILEGED = 1024
# Below the range of ephemeral ports (32768 on), which calls from a pod's address are made from.
SHIFT = 10_000

# The third and fourth byte of the first address of each kind; the next kind's is the end.
_INFRASTRUCTURE = 0x0000
_CLIENTS = 0x0400
_EXTERNALS = 0x0800
_PODS = 0x4000
_APPLICATIONS = 0x8000
_OUTBOUND = 0xC000
_END = 0x10000
_POD_PREFIX = 18


class TooLargeError(Exception):
    """A policy with more parts than a block has addresses."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses of one mesh: numbers of its parts, from which each address follows.

    ``services`` maps a service's key (``<cluster>/<name>``) to its number, ``outbound`` to the
    number of its first upstream; ``evaluators`` maps a cluster to its evaluator's number.
    """

    block: int
    services: dict[str, int]
    outbound: dict[str, int]
    externals: dict[str, int]
    evaluators: dict[str, int]

    def pod(self, service: Service) -> str:
        """The address of the service's pod: its Envoy listens there, and calls from there."""
        return self._at(_PODS, self.services[key(service)])

    def application(self, service: Service) -> str:
        """The address on which the application itself listens."""
        return self._at(_APPLICATIONS, self.services[key(service)])

    def upstream(self, service: Service, index: int) -> str:
        """The address of the Envoy's listener for the service's upstream of that number."""
        return self._at(_OUTBOUND, self.outbound[key(service)] + index)

    def client(self, external: ExternalService) -> str:
        """The address that stands for a caller from outside the mesh."""
        return self._at(_CLIENTS, self.externals[external.name])

    def stand_in(self, external: ExternalService) -> str:
        """The address that stands for a host outside the mesh."""
        return self._at(_EXTERNALS, self.externals[external.name])

    def evaluator(self, cluster: str) -> str:
        """The address of a cluster's evaluator."""
        return self._at(_INFRASTRUCTURE, 1 + self.evaluators[cluster])

    @property
    def database(self) -> str:
        """The address of the audit database."""
        return self._at(_INFRASTRUCTURE, 0)

    @property
    def pods(self) -> str:
        """The network of all pods."""
        return f"127.{self.block}.{_PODS >> 8}.0/{_POD_PREFIX}"

    def _at(self, kind: int, number: int) -> str:
        place = kind + 1 + number
        return f"127.{self.block}.{place >> 8}.{place & 255}"


def key(service: Service) -> str:
    """What tells a service from all others."""
    return f"{service.cluster}/{service.name}"


def plan(effective: Effective, block: int = BLOCKS[0]) -> Plan:
    """Number the parts of a mesh.

    Raises:
        TooLargeError: if one kind of part has more members than addresses.
    """
    first: dict[str, int] = {}
    total = 0
    for item in effective.services:
        first[key(item.service)] = total
        total += len(parties(item, effective.mesh))
    _check_room("services", len(effective.services), _APPLICATIONS - _PODS)
    _check_room("upstreams", total, _END - _OUTBOUND)
    _check_room("external services", len(effective.policy.externals), _EXTERNALS - _CLIENTS)
    clusters = [cluster.name for cluster in effective.mesh.clusters]
    return Plan(
        block=block,
        services={key(item.service): at for at, item in enumerate(effective.services)},
        outbound=first,
        externals={item.name: at for at, item in enumerate(effective.policy.externals)},
        evaluators={name: at for at, name in enumerate(clusters)},
    )


def parties(item: EffectiveService, mesh: Mesh) -> tuple[str, ...]:
    """The IDs of the distinct parties that a service calls; an upstream's place is its number."""
    calls = (*item.upstreams, *item.externals)
    return tuple(sorted({party_id(grant.destination, mesh) for grant in calls}))


def claim_block() -> tuple[int, socket.socket]:
    """The first block that no other mesh of this machine uses, and what holds it while it is open.

    Raises:
        OSError: if all are in use.
    """
    for block in BLOCKS:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # A name of Linux's abstract space ends with the process that holds it.
            holder.bind(f"\0hanzo-zt/mesh/{block}")
        except OSError:
            holder.close()
        else:
            return block, holder
    raise OSError(f"{len(BLOCKS)} meshes run on this machine already")


def _check_room(kind: str, count: int, room: int) -> None:
    if count > room - 2:
        raise TooLargeError(f"{count} {kind} do not fit on one machine: it has room for {room - 2}")


def unprivileged(port: int) -> int:
    """The port that stands for a declared one: those below 1024 need root, so they are shifted."""
    return port + SHIFT if port < UNPRIVILEGED else port
