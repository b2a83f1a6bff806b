"""A new root, in the order of the ceremonies, while all services call each other.

Time is not waited for here, but evidence: nobody relies on what somebody does not have yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from gateway.ca.ceremony import Ceremony
from gateway.ca.certificates import load_certificate
from gateway.ca.plan import Step
from gateway.ca.state import State
from lab.ca.evidence import is_below, trusted_by, until
from lab.ca.servers import issuing_of, renew, roots_of, servers
from lab.ca.store import FIRST, Delivering, adopt, plan_of
from lab.check.model import Place
from lab.check.model import Site as Checked
from lab.cluster.model import LabError
from lab.faults.run import unsteady
from lab.faults.site import Site
from lab.faults.tally import Tally, tally
from lab.faults.traffic import Traffic, running, until_steady
from lab.nodes.pods import Pod
from zt.model import Mesh

Say = Callable[[str], None]

SECOND = "root-2"
_QUIET, _STEADY = 5.0, 90.0
# A kubelet brings a changed Secret or ConfigMap into pods within a minute and a half.
_DELIVERED = 180.0
# The lab confirms for itself.
_CONFIRMED = ("lab",)


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
    """What was done, and what it did to the traffic of all clusters."""

    stages: tuple[Stage, ...]
    tally: Tally

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
    """Carries a lab from its root to the next. ``folder`` is for keys and the transcript."""

    clusters: tuple[Cluster, ...]
    folder: Path
    say: Say
    stages: list[Stage] = field(default_factory=list)

    def run(self) -> Rotated:
        """All steps, under traffic.

        Raises:
            LabError: if somebody does not follow, or traffic is not steady at the beginning.
            CeremonyError: if the lab was carried to the second root before.
        """
        store = self._store()
        if not self._path.exists():
            adopt(self._path, self._mesh, store)
        with self._traffic() as traffic:
            self._announce(store)
            self._issue(store, Step.ACTIVATE, f"issuing CAs below {SECOND}")
            self._issue(store, Step.RENEW, "issuing CAs once more")
            self._hold(store, Step.RETIRE, FIRST)
            seen = [one for item in traffic for one in item.end()]
        return Rotated(tuple(self.stages), tally(seen))

    def _announce(self, store: Delivering) -> None:
        with self._stage(f"{SECOND} beside {FIRST}"):
            state = self._hold(store, Step.ANNOUNCE, SECOND)
            roots = frozenset(root.fingerprint for root in state.published)
            until("servers have both roots", lambda: self._servers_publish(roots), _DELIVERED)
            self._renew()
            until("sidecars trust both roots", lambda: self._sidecars_trust(roots), _DELIVERED)

    def _issue(self, store: Delivering, step: Step, name: str) -> None:
        with self._stage(name):
            state = self._hold(store, step, SECOND)
            issued = {item.cluster: item.certificate for item in state.issuing}
            until("servers have them", lambda: self._servers_have(issued), _DELIVERED)
            self._renew()
            serials = frozenset(load_certificate(t).serial_number for t in issued.values())
            # Each SVID is renewed at half of its life.
            patience = _DELIVERED + self._mesh.lifetimes.svid
            until("SVIDs are below them", lambda: self._svids_are_below(serials), patience)

    def _hold(self, store: Delivering, step: Step, root: str) -> State:
        """A ceremony; what it would wait for is waited for here."""
        ceremony = Ceremony(store, self._path, timedelta(0), self.say)
        return ceremony.carry_out(plan_of(self._path, self._mesh, step, root), _CONFIRMED)

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
            begun = [running(item.site.dial, item.site.flows()) for item in self.clusters]
            found = [stack.enter_context(item) for item in begun]
            for traffic in found:
                if not until_steady(traffic, _QUIET, _STEADY):
                    raise LabError(f"at the beginning, {unsteady(traffic)}")
            yield found

    def _store(self) -> Delivering:
        apis = {item.site.cluster: item.site.api for item in self.clusters}
        return Delivering(self.folder / "kms", apis)

    @property
    def _path(self) -> Path:
        return self.folder / "transcript.jsonl"

    @property
    def _mesh(self) -> Mesh:
        return self.clusters[0].site.effective.mesh
