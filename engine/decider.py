"""Answers a request: evaluates it, has it recorded, counts it. The one way to an answer.

What a connection's answer is depends on the view alone (policy and locations), so whoever answers
often prepares it once and appends it many times, until the view is another.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter_ns, time_ns
from typing import NamedTuple, Protocol
from uuid import UUID

from engine.audit.outcome import Outcome, clean, encode, record_id
from engine.evaluate import Answer, Request, answer_of, without_audit
from engine.locate import Locations
from engine.metrics.cells import SHARED
from engine.metrics.metrics import UNKNOWN, Metrics
from engine.policy.table import Snapshot

NOT_RECORDED = 0
# Half the time that a named tuple's own constructor takes.
_new = tuple.__new__

_log = logging.getLogger(__name__)


class Spool(Protocol):
    """Where records go before an answer is given."""

    @property
    def writer(self) -> int:
        """The number of this process in the trail."""

    def append(self, outcome: bytes, time_us: int, latency_us: int) -> int:
        """Append a record; its sequence number, from 1.

        Raises:
            OSError: if it could not be appended.
        """


class Durability(Protocol):
    """When an appended record is safe enough to be answered."""

    @property
    def immediate(self) -> bool:
        """Whether that is at once."""

    def when(self, sequence: int, settle: Callable[[bool], None]) -> None:
        """Call ``settle``, soon or later, with whether the record is as safe as was asked for."""


@dataclass(frozen=True, slots=True)
class View:
    """What is in force. Another one is another object."""

    snapshot: Snapshot
    locations: Locations


class Prepared(NamedTuple):
    """A connection's answer under one view; ``outcome`` is its record, encoded."""

    answer: Answer
    outcome: bytes
    counter: int
    request: Request

    @property
    def refused(self) -> Answer:
        """The answer where it can't be recorded."""
        return without_audit(self.answer)


@dataclass(frozen=True, slots=True)
class Decided:
    """An answer, and its place in the trail (``NOT_RECORDED`` if it has none)."""

    answer: Answer
    writer: int
    sequence: int
    latency_us: int

    @property
    def id(self) -> UUID | None:
        """The ID of its record."""
        return record_id(self.writer, self.sequence) if self.sequence else None


class Decider:
    """What answering takes. ``view`` is swapped by assignment."""

    def __init__(self, view: View, spool: Spool, durability: Durability, metrics: Metrics) -> None:
        """Answer by a view, record in a spool."""
        self.view = view
        self.durability = durability
        self.metrics = metrics
        self.spool = spool
        # When a record last could not be appended (``time.monotonic``).
        self.failed_at = -math.inf
        self._append = spool.append
        self._observe = metrics.observe
        self._counter_of = metrics.counter_of
        self._counts = metrics.values
        # Numbers of parties for counters, by their numbers in this table; 0 where none was asked.
        self._table = view.snapshot.table
        self._numbers = array("I", bytes(4 * len(self._table.names)))

    def prepare(self, request: Request, layer: str) -> Prepared:
        """The answer to a request under the present view, not yet recorded."""
        view = self.view
        snapshot, numbers = view.snapshot, self._numbers
        table = snapshot.table
        if table is not self._table:
            numbers = array("I", bytes(4 * len(table.names)))
            self._table, self._numbers = table, numbers
        ruling = table.rule(request[0] or "", request[1] or "", request[2])
        answer = answer_of(ruling, snapshot, view.locations, request)
        _, _, _, caller, called = ruling
        counter = self._counter_of(
            answer[0],
            numbers[caller] or self._number(caller),
            numbers[called] or self._number(called),
        )
        outcome = record_of(request, answer, layer, plain=table.plain)
        return _new(Prepared, (answer, outcome, counter, request))

    def append(self, prepared: Prepared, started: int) -> int:
        """Record an answer that was asked for at ``started`` (``perf_counter_ns``).

        Returns the sequence number, or ``NOT_RECORDED``: then ``prepared.refused`` is the answer.
        """
        latency = (perf_counter_ns() - started) // 1000
        try:
            sequence = self._append(prepared.outcome, time_ns() // 1000, latency)
        except OSError as error:
            self._lost(prepared, error)
            return NOT_RECORDED
        self._counts[prepared.counter] += 1
        self._observe(perf_counter_ns() - started)
        return sequence

    def decide(self, request: Request, layer: str) -> Decided:
        """Answer a request and append its record; durability is the caller's to wait for."""
        started = perf_counter_ns()
        prepared = self.prepare(request, layer)
        sequence = self.append(prepared, started)
        latency = (perf_counter_ns() - started) // 1000
        answer = prepared.answer if sequence else prepared.refused
        return Decided(answer, self.spool.writer, sequence, latency)

    def record(self, request: Request, answer: Answer, layer: str) -> bool:
        """Record what another layer decided; whether that could be done."""
        outcome = encode(outcome_of(request, answer, layer))
        try:
            self._append(outcome, time_ns() // 1000, 0)
        except OSError as error:
            self.not_appended(error)
            return False
        return True

    def counter(self, answer: Answer) -> int:
        """The counter of an answer, under the identities that the policy declares."""
        return self.metrics.counter(
            answer.verdict,
            answer.source or UNKNOWN,
            answer.destination or UNKNOWN,
        )

    def _number(self, party: int) -> int:
        """A party's number for counters, by its number in the table."""
        number = self.metrics.number(self._table.names[party] or UNKNOWN)
        if number != SHARED:
            self._numbers[party] = number
        return number

    def _lost(self, prepared: Prepared, error: OSError) -> None:
        self.not_appended(error)
        refused = prepared.refused
        self.metrics.bump(self.counter(refused))
        self.metrics.lost(refused.verdict)

    def not_appended(self, error: OSError) -> None:
        """Count and tell that a record could not be appended."""
        self.failed_at = monotonic()
        self.metrics.append_failure()
        _log.error("a record cannot be appended to the spool: %s", error.strerror or error)


def known(snapshot: Snapshot, party: str | None) -> str:
    """A party's ID if the policy declares it."""
    return party if party is not None and snapshot.table.declares(party) else UNKNOWN


def record_of(request: Request, answer: Answer, layer: str, *, plain: bool) -> bytes:
    """What is recorded of an answer, encoded.

    ``plain``: whether all names of the answer's table are in JSON as they are. Between parties of
    such a table a record is put together at half the price of writing it as JSON, by a test the
    same.
    """
    _, _, port, pod, node, _, _, behalf = request
    verdict, would_be, phase, _, rule, reason, revision, caller, called = answer
    if caller is None or called is None or not plain:
        return encode(outcome_of(request, answer, layer))
    if pod is not None or node is not None or behalf is not None:
        return encode(outcome_of(request, answer, layer))
    return "".join((
        '["', verdict, '","', would_be, '","', phase, '","', caller, '",null,null,"', called, '",',
        str(port), ',"', rule, '","', reason, '","', layer, '","', revision, '",null]',
    )).encode()  # fmt: skip


def outcome_of(request: Request, answer: Answer, layer: str) -> Outcome:
    """What is recorded of an answer. What the policy declares needs no cleaning."""
    source, destination, port, pod, node, _, _, behalf = request
    verdict, would_be, phase, _, rule, reason, revision, caller, called = answer
    source = caller or clean(source)
    destination = called or clean(destination) or UNKNOWN
    if pod is not None or node is not None or behalf is not None:
        pod, node, behalf = clean(pod), clean(node), clean(behalf)
    # In the order of ``Outcome``'s columns; a third of the time that ``Outcome(...)`` takes.
    connection = source, pod, node, destination, port
    why = rule, reason, layer, revision, behalf
    return _new(Outcome, (verdict, would_be, phase, *connection, *why))
