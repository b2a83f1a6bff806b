"""A new root, in the order of the ceremonies, while all services call each other.

Time is not waited for here, but evidence: nobody relies on what somebody does not have yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
        if self.ceremonies.state.active is None:
            raise LabError("the lab has no root: it did not come up whole")
        with self._traffic() as traffic:
            new = self._announce()
            self._issue(Step.ACTIVATE, new, f"issuing CAs below {new}")
            self._issue(Step.RENEW, new, "issuing CAs once more")
            for root in self.ceremonies.state.published:
                if root.name != new:
                    self._retire(root.name)
            seen = [one for item in traffic for one in item.end()]
        across = [one for one in seen if one.flow.edge.crosses]
        return Rotated(tuple(self.stages), tally(seen), tally(across))

    def _announce(self) -> str:
        """A new root, or one that a run before has announced and not come to use; its name."""
        state = self.ceremonies.state
        pending = next((root.name for root in state.published if root.active is None), None)
        new = pending or self.ceremonies.next_root
        with self._stage(f"{new} is announced"):
            roots = _roots(state if pending else self.ceremonies.hold(Step.ANNOUNCE, new))
            until("servers have both roots", lambda: self._without(roots), self._fetched)
            self._renew()
            until("sidecars trust both", lambda: self._distrusting(roots), _DELIVERED)
        return new

    def _issue(self, step: Step, root: str, name: str) -> None:
        with self._stage(name):
            state = self.ceremonies.hold(step, root)
            issued = {item.cluster: item.certificate for item in state.issuing}
            until("servers have them", lambda: self._behind(issued), self._fetched)
            self._renew()
            serials = frozenset(load_certificate(t).serial_number for t in issued.values())
            # Each SVID is renewed at half of its life.
            patience = _DELIVERED + self.ceremonies.mesh.lifetimes.svid
            until("SVIDs are below them", lambda: self._elsewhere(serials), patience)

    def _retire(self, old: str) -> None:
        with self._stage(f"{old} is retired"):
            roots = _roots(self.ceremonies.hold(Step.RETIRE, old))
            until("servers have one root", lambda: self._without(roots), self._fetched)
            self._renew()

    def _renew(self) -> None:
        """Each server takes a CA below what it has: by itself it would within half of a life."""
        for _, pod in self._each_server():
            renew(pod)

    # --- Evidence ---------------------------------------------------------------------------------

    def _without(self, roots: frozenset[str]) -> Iterator[str]:
        """Servers that would publish other roots than these."""
        return (pod.name for _, pod in self._each_server() if roots_of(pod) != roots)

    def _behind(self, issued: Mapping[str, str]) -> Iterator[str]:
        """Servers that would sign below another issuing CA than that of their cluster."""
        pairs = self._each_server()
        return (pod.name for cluster, pod in pairs if issuing_of(pod) != issued[cluster])

    def _distrusting(self, roots: frozenset[str]) -> Iterator[str]:
        """Pods whose sidecars do not trust all of these roots."""
        return (place.name for place in self._sidecars() if not trusted_by(place) >= roots)

    def _elsewhere(self, serials: frozenset[int]) -> Iterator[str]:
        """Pods whose SVIDs are below none of these issuing CAs."""
        return (place.name for place in self._sidecars() if not is_below(place, serials))

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
