"""The ceremonies of a lab: the product's own, by the identity that people have for them.

Nobody confirms them, and what they would wait for is for the caller to see to: a lab lives for an
hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gateway.ca import transcript
from gateway.ca.ceremony import Ceremony, CeremonyError
from gateway.ca.plan import Step, plan_of
from gateway.ca.state import State, state_of
from gateway.keys import KeyStoreError
from lab.cluster.model import LabError, Layout
from lab.kms.reach import ceremony_store
from lab.kms.server import Kms
from zt.model import Mesh

_CONFIRMED = ("lab",)


@dataclass(frozen=True, slots=True)
class Ceremonies:
    """What was done so far is in the transcript at ``path``; keys are in KMS."""

    kms: Kms
    path: Path
    mesh: Mesh
    say: Callable[[str], None]

    @property
    def state(self) -> State:
        """The roots and issuing CAs that there are."""
        return state_of(transcript.read(self.path))

    @property
    def next_root(self) -> str:
        """A name that no root has had."""
        return f"root-{len(self.state.roots) + 1}"

    def hold(self, step: Step, root: str) -> State:
        """One ceremony.

        Raises:
            LabError: if it may not be held now, or KMS fails.
        """
        try:
            plan = plan_of(self.mesh, step, root, transcript.head(transcript.read(self.path)))
            with ceremony_store(self.kms) as store:
                ceremony = Ceremony(store, self.path, timedelta(0), self.say)
                return ceremony.carry_out(plan, _CONFIRMED)
        except (CeremonyError, KeyStoreError, transcript.TranscriptError) as error:
            raise LabError(f"the ceremony to {step} {root}: {error}") from None


def transcript_of(layout: Layout) -> Path:
    """Where a lab keeps the transcript: it goes with the KMS that it is about."""
    return layout.kms / "ca-transcript.jsonl"
