"""Who may connect to the API at all: the policy says, as for every other service of the mesh.

The evaluator ends TLS by itself, so no sidecar asks for it. A connection is decided upon once, when
its handshake is over, and recorded like any other; one that a later policy refuses is closed.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.decider import Decider
from engine.evaluate import Request
from engine.http.callers import NOT_PERMITTED, Caller
from engine.http.problems import Problem
from engine.http.questions import LAYER
from engine.policy.table import Snapshot
from zt.decide import Verdict


@dataclass(frozen=True, slots=True)
class Door:
    """The API of one evaluator: its SPIFFE ID, its port, and its pod's name."""

    decider: Decider
    own: str
    port: int
    replica: str

    @property
    def snapshot(self) -> Snapshot:
        """The policy that decides."""
        return self.decider.view.snapshot

    def admit(self, spiffe: str | None, address: str) -> Caller:
        """The caller at an address; what is refused it is said to each request of it."""
        decided = self.decider.decide(self._request(spiffe, address), LAYER)
        return Caller(spiffe, refused=_refusal(decided.answer.verdict))

    def still_admits(self, caller: Caller, address: str) -> bool:
        """Whether the policy as it is now changes nothing for a caller; if it does, recorded."""
        prepared = self.decider.prepare(self._request(caller.spiffe, address), LAYER)
        if _refusal(prepared.answer.verdict) is caller.refused:
            return True
        self.admit(caller.spiffe, address)
        return False

    def _request(self, spiffe: str | None, address: str) -> Request:
        pod = self.decider.view.locations.find(address)
        name, node = (pod.pod, pod.node) if pod else (None, None)
        return Request(spiffe, self.own, self.port, name, node, self.replica)


def _refusal(verdict: Verdict) -> Problem | None:
    return None if verdict is Verdict.ALLOW else NOT_PERMITTED
