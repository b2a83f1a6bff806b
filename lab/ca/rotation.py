"""A new root, in the order of the ceremonies, while all services call each other.

Time is not waited for here, but evidence: nobody relies on what somebody does not have yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from components.spire.authority import refresh_seconds
from gateway.ca.certificates import load_certificate
from gateway.ca.plan import Step
from gateway.ca.state import State
from lab.ca.ceremonies import Ceremonies
from lab.ca.clusters import Clusters
from lab.ca.evidence import until
from lab.ca.report import Rotated, Stage
from lab.cluster.model import LabError
from lab.faults.tally import tally

# A kubelet brings a changed ConfigMap into pods within a minute and a half.
_DELIVERED = 180.0
# KMS may be slow, and the machine.
_SLACK = 30.0


@dataclass
class Rotation:
    """Carries a lab from its root to the next."""

    clusters: Clusters
    ceremonies: Ceremonies
    say: Callable[[str], None]
    stages: list[Stage] = field(default_factory=list)

    def run(self) -> Rotated:
        """All steps, under traffic.

        Raises:
            LabError: if somebody does not follow, or traffic is not steady at the beginning.
        """
        if self.ceremonies.state.active is None:
            raise LabError("the lab has no root: it did not come up whole")
        with self.clusters.traffic() as traffic:
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
            self._fetched("have both roots", lambda: self.clusters.without(roots))
            self.clusters.renew()
            until("sidecars trust both", lambda: self.clusters.distrusting(roots), _DELIVERED)
        return new

    def _issue(self, step: Step, root: str, name: str) -> None:
        with self._stage(name):
            state = self.ceremonies.hold(step, root)
            issued = {item.cluster: item.certificate for item in state.issuing}
            self._fetched("have them", lambda: self.clusters.behind(issued))
            self.clusters.renew()
            serials = frozenset(load_certificate(t).serial_number for t in issued.values())
            self._signed("are below them", lambda: self.clusters.elsewhere(serials))

    def _retire(self, old: str) -> None:
        with self._stage(f"{old} is retired"):
            roots = _roots(self.ceremonies.hold(Step.RETIRE, old))
            self._fetched("have it no more", lambda: self.clusters.without(roots))
            before = self.clusters.signing()
            self.clusters.renew()
            self._signed("are of CAs made since", lambda: self.clusters.below(before))

    def _fetched(self, what: str, lacking: Callable[[], Iterator[str]]) -> None:
        """Wait until servers' pods have what KMS has."""
        patience = 2 * refresh_seconds(self.ceremonies.mesh.lifetimes) + _SLACK
        until(f"servers {what}", lacking, patience)

    def _signed(self, what: str, lacking: Callable[[], Iterator[str]]) -> None:
        """Wait until every SVID was renewed, as each is at half of its life."""
        until(f"SVIDs {what}", lacking, _DELIVERED + self.ceremonies.mesh.lifetimes.svid)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.stages.append(Stage(name, time.monotonic() - began))
        self.say(f"{name}: everywhere after {self.stages[-1].seconds:.0f} s")


def _roots(state: State) -> frozenset[str]:
    return frozenset(root.fingerprint for root in state.published)
