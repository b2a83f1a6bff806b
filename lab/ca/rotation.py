"""A new root, in the order of the ceremonies, while all services call each other.

Time is not waited for here, but evidence: nobody relies on what somebody does not have yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from components.spire.authority import refresh_seconds
from gateway.ca.certificates import load_certificate
from gateway.ca.plan import Step
from gateway.ca.state import State
from lab.ca.ceremonies import Ceremonies
from lab.ca.evidence import is_below, trusted_by, until
from lab.ca.servers import issuing_of, renew, roots_of, servers
from lab.check.model import Place
from lab.check.model import Site as Checked
from lab.cluster.model import LabError
from lab.faults.run import unsteady
from lab.faults.site import Site
from lab.faults.tally import Tally, tally
from lab.faults.traffic import Dialled, Traffic, running, until_steady
from lab.nodes.pods import Pod

Say = Callable[[str], None]

_QUIET, _STEADY = 5.0, 90.0
# A kubelet brings a changed ConfigMap into pods within a minute and a half.
_DELIVERED = 180.0
# KMS may be slow, and the machine.
_SLACK = 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, as traffic and as checks see it; ``checked`` looks anew."""

    site: Site
    checked: Callable[[], Checked]


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the rotation, and how long it took until everybody had followed."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was done, and what it did to the traffic; ``across`` is what crosses the tunnel."""

    stages: tuple[Stage, ...]
    tally: Tally
    across: Tally

    @property
    def surprises(self) -> tuple[str, ...]:
        """What should not have been."""
        seen = self.tally
        found = [f"{item.flow}: {item.error}" for item in (*seen.failed, *seen.cut)]
        if seen.passed:
            found.append(f"{seen.passed} connections passed that should have been refused")
        return tuple(found)


@dataclass
class Rotation:
    """Carries a lab from its root to the next."""

    clusters: tuple[Cluster, ...]
    ceremonies: Ceremonies
    say: Say
    stages: list[Stage] = field(default_factory=list)

    def run(self) -> Rotated:
        """All steps, under traffic.

        Raises:
            LabError: if somebody does not follow, or traffic is not steady at the beginning.
        """
        active, new = self.ceremonies.state.active, self.ceremonies.next_root
        if active is None:
            raise LabError("the lab has no root: it did not come up whole")
        with self._traffic() as traffic:
            self._announce(active.name, new)
            self._issue(Step.ACTIVATE, new, f"issuing CAs below {new}")
            self._issue(Step.RENEW, new, "issuing CAs once more")
            self._retire(active.name)
            seen = [one for item in traffic for one in item.end()]
        across = [one for one in seen if one.flow.edge.crosses]
        return Rotated(tuple(self.stages), tally(seen), tally(across))

    def _announce(self, old: str, new: str) -> None:
        with self._stage(f"{new} beside {old}"):
            state = self.ceremonies.hold(Step.ANNOUNCE, new)
            roots = _roots(state)
            until("servers have both roots", lambda: self._servers_publish(roots), self._fetched)
            self._renew()
            until("sidecars trust both roots", lambda: self._sidecars_trust(roots), _DELIVERED)

    def _issue(self, step: Step, root: str, name: str) -> None:
        with self._stage(name):
            state = self.ceremonies.hold(step, root)
            issued = {item.cluster: item.certificate for item in state.issuing}
            until("servers have them", lambda: self._servers_have(issued), self._fetched)
            self._renew()
            serials = frozenset(load_certificate(t).serial_number for t in issued.values())
            # Each SVID is renewed at half of its life.
            patience = _DELIVERED + self.ceremonies.mesh.lifetimes.svid
            until("SVIDs are below them", lambda: self._svids_are_below(serials), patience)

    def _retire(self, old: str) -> None:
        with self._stage(f"{old} is retired"):
            roots = _roots(self.ceremonies.hold(Step.RETIRE, old))
            until("servers have one root", lambda: self._servers_publish(roots), self._fetched)
            self._renew()

    def _renew(self) -> None:
        """Each server takes a CA below what it has: by itself it would within half of a life."""
        for _, pod in self._each_server():
            renew(pod)

    # --- Evidence ---------------------------------------------------------------------------------

    def _servers_publish(self, roots: frozenset[str]) -> bool:
        return all(roots_of(pod) == roots for _, pod in self._each_server())

    def _servers_have(self, issued: dict[str, str]) -> bool:
        return all(issuing_of(pod) == issued[cluster] for cluster, pod in self._each_server())

    def _sidecars_trust(self, roots: frozenset[str]) -> bool:
        return all(trusted_by(place) >= roots for place in self._sidecars())

    def _svids_are_below(self, serials: frozenset[int]) -> bool:
        return all(is_below(place, serials) for place in self._sidecars())

    def _each_server(self) -> Iterator[tuple[str, Pod]]:
        for item in self.clusters:
            for pod in servers(item.site.api):
                yield item.site.cluster, pod

    def _sidecars(self) -> Iterator[Place]:
        for item in self.clusters:
            yield from (place for place in item.checked().places if place.has_sidecar)

    # --- Around -----------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.stages.append(Stage(name, time.monotonic() - began))
        self.say(f"{name}: everywhere after {self.stages[-1].seconds:.0f} s")

    @contextmanager
    def _traffic(self) -> Iterator[list[Traffic]]:
        with ExitStack() as stack:
            flows = {item.site: self._flows(item) for item in self.clusters}
            if not any(one.flow.edge.crosses for found in flows.values() for one in found):
                raise LabError("nothing that the policies declare crosses the tunnel now")
            begun = [running(site.dial, found) for site, found in flows.items()]
            found = [stack.enter_context(item) for item in begun]
            for traffic in found:
                if not until_steady(traffic, _QUIET, _STEADY):
                    raise LabError(f"at the beginning, {unsteady(traffic)}")
            yield found

    def _flows(self, cluster: Cluster) -> tuple[Dialled, ...]:
        """All flows within a cluster, and those from it through the tunnel."""
        others = [item.site for item in self.clusters if item is not cluster]
        return (*cluster.site.flows(), *cluster.site.crossing(others))

    @property
    def _fetched(self) -> float:
        """Seconds within which servers' pods have what KMS has."""
        return 2 * refresh_seconds(self.ceremonies.mesh.lifetimes) + _SLACK


def _roots(state: State) -> frozenset[str]:
    return frozenset(root.fingerprint for root in state.published)
