"""All clusters of a lab during a rotation: who of them has what by now, and the traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from lab.ca.evidence import above, trusted_by
from lab.ca.servers import issuing_of, renew, roots_of, servers
from lab.check.model import Place
from lab.check.model import Site as Checked
from lab.cluster.model import LabError
from lab.faults.run import unsteady
from lab.faults.site import Site
from lab.faults.traffic import Dialled, Traffic, running, until_steady
from lab.nodes.pods import Pod

_QUIET, _STEADY = 5.0, 90.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, as traffic and as checks see it; ``checked`` looks anew."""

    site: Site
    checked: Callable[[], Checked]


@dataclass(frozen=True, slots=True)
class Clusters:
    """What is asked of each server and each sidecar: those are named that lack something."""

    all: tuple[Cluster, ...]

    def without(self, roots: frozenset[str]) -> Iterator[str]:
        """Servers that would publish other roots than these."""
        return (pod.name for _, pod in self._servers() if roots_of(pod) != roots)

    def behind(self, issued: Mapping[str, str]) -> Iterator[str]:
        """Servers that would sign below another issuing CA than that of their cluster."""
        pairs = self._servers()
        return (pod.name for cluster, pod in pairs if issuing_of(pod) != issued[cluster])

    def distrusting(self, roots: frozenset[str]) -> Iterator[str]:
        """Pods whose sidecars do not trust all of these roots."""
        return (place.name for place in self._sidecars() if not trusted_by(place) >= roots)

    def elsewhere(self, issuing: frozenset[int]) -> Iterator[str]:
        """Pods whose SVIDs are below none of these issuing CAs."""
        return (place.name for place in self._sidecars() if issuing.isdisjoint(above(place)))

    def signing(self) -> frozenset[int]:
        """The CAs of SPIRE's servers that have signed the SVIDs of now, but of pods that end."""
        found = set()
        for place in self._sidecars():
            with suppress(LabError, OSError):
                found.add(above(place)[0])
        return frozenset(found)

    def below(self, signing: frozenset[int]) -> Iterator[str]:
        """Pods whose SVIDs are still of one of these."""
        return (place.name for place in self._sidecars() if above(place)[0] in signing)

    def renew(self) -> None:
        """Each server takes a CA below what it has: by itself it would within half of a life."""
        for _, pod in self._servers():
            renew(pod)

    @contextmanager
    def traffic(self) -> Iterator[list[Traffic]]:
        """Every service calls its upstreams, also those beyond the tunnel.

        Raises:
            LabError: if that is not steady at the beginning, or nothing crosses the tunnel.
        """
        flows = [(item.site, self._flows(item)) for item in self.all]
        if not any(one.flow.edge.crosses for _, found in flows for one in found):
            raise LabError("nothing that the policies declare crosses the tunnel now")
        with ExitStack() as stack:
            begun = [running(site.dial, found) for site, found in flows]
            traffics = [stack.enter_context(item) for item in begun]
            for traffic in traffics:
                if not until_steady(traffic, _QUIET, _STEADY):
                    raise LabError(f"at the beginning, {unsteady(traffic)}")
            yield traffics

    def _flows(self, cluster: Cluster) -> tuple[Dialled, ...]:
        others = [item.site for item in self.all if item is not cluster]
        return (*cluster.site.flows(), *cluster.site.crossing(others))

    def _servers(self) -> Iterator[tuple[str, Pod]]:
        for item in self.all:
            for pod in servers(item.site.api):
                yield item.site.cluster, pod

    def _sidecars(self) -> Iterator[Place]:
        for item in self.all:
            yield from (place for place in item.checked().places if place.has_sidecar)
