"""Answers a request: evaluates it, has it recorded, counts it. The one way to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4

from engine.audit import AuditRecord, clean
from engine.evaluate import Answer, Request, evaluate, without_audit
from engine.locate import Locations
from engine.metrics import UNKNOWN, Metrics
from engine.snapshot import Snapshot


class Trail(Protocol):
    """Where records go."""

    async def write(self, record: AuditRecord) -> bool:
        """Write a record; whether it is committed."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An answer, the ID of its record, and how long it took to decide."""

    answer: Answer
    id: UUID
    latency_us: int


@dataclass(frozen=True, slots=True)
class Decider:
    """What answering takes. ``snapshot`` and ``locations`` give what is in force now."""

    snapshot: Callable[[], Snapshot]
    locations: Callable[[], Locations]
    trail: Trail
    metrics: Metrics

    async def decide(self, request: Request, layer: str) -> Decided:
        """Answer a request once its record is committed; if it can't be, see ``without_audit``."""
        snapshot = self.snapshot()
        started = time.perf_counter_ns()
        answer = evaluate(snapshot, self.locations(), request)
        elapsed = time.perf_counter_ns() - started
        self.metrics.duration(elapsed / 1e9)
        record = record_of(request, answer, layer, elapsed // 1000)
        if not await self.trail.write(record):
            self.metrics.audit_failure()
            answer = without_audit(answer)
        self.count(snapshot, request, answer)
        return Decided(answer, record.id, record.latency_us)

    def count(self, snapshot: Snapshot, request: Request, answer: Answer) -> None:
        """Count an answer under the identities that the policy declares."""
        self.metrics.decision(
            answer.verdict,
            known(snapshot, request.source),
            known(snapshot, request.destination),
        )


def known(snapshot: Snapshot, party: str | None) -> str:
    """A party's ID if the policy declares it."""
    return party if party is not None and party in snapshot.table.selectors else UNKNOWN


def record_of(request: Request, answer: Answer, layer: str, latency_us: int) -> AuditRecord:
    """The audit record of an answer, now."""
    return AuditRecord(
        id=uuid4(),
        time=datetime.now(UTC),
        verdict=answer.verdict,
        would_be=answer.would_be,
        phase=answer.phase,
        source_id=clean(request.source),
        source_pod=clean(request.pod),
        source_node=clean(request.node),
        destination_id=clean(request.destination) or UNKNOWN,
        destination_port=request.port,
        rule=answer.rule,
        reason=answer.reason,
        layer=layer,
        revision=answer.revision,
        latency_us=latency_us,
    )
