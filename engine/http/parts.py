"""What the API and health are made of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

from engine.audit.reader import AuditReader
from engine.decider import Decider
from engine.http.turns import Turns
from engine.identity import own_identity
from engine.policy.store import PolicyStore
from engine.policy.table import Snapshot
from engine.settings import Settings

# A failure to record is over if nothing failed for so long: seconds.
_MEMORY = 5.0


@dataclass(frozen=True)
class Parts:
    """The parts of one worker. ``turns`` bound how many requests of each kind are served at once.

    Nothing but decisions is served without a turn, so that nothing else can hold those up.
    """

    settings: Settings
    policies: PolicyStore
    decider: Decider
    reader: AuditReader
    reading: Turns = field(default_factory=lambda: Turns(8, 2.0))
    streaming: Turns = field(default_factory=lambda: Turns(2, 0.5))
    explaining: Turns = field(default_factory=lambda: Turns(2, 5.0))
    changing: Turns = field(default_factory=lambda: Turns(1, 5.0))

    @property
    def snapshot(self) -> Snapshot:
        """The policy in force."""
        return self.decider.view.snapshot

    @cached_property
    def identity(self) -> str | None:
        """The evaluator's own SPIFFE ID, where it has one."""
        return own_identity(self.settings.svid_path)

    @property
    def is_recording(self) -> bool:
        """Whether decisions can be recorded, as far as was seen of late."""
        return time.monotonic() - self.decider.failed_at > _MEMORY
