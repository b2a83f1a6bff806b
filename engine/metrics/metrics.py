"""What a process of the evaluator counts; ``engine.metrics.render`` makes the text of it.

Labels hold only identities that the policy declares; everybody else is ``unknown``, so that no
caller can make series without end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.metrics.cells import FIRST_PAIR, SHARED, Cells, Reading
from engine.metrics.families import (
    APPEND_FAILURES,
    DECISIONS,
    LOST,
    OTHER,
    OVERFLOWS,
    ROTATIONS,
    UNKNOWN_CALLERS,
    WITHOUT_IDENTITY,
    Series,
)
from engine.metrics.histogram import observer
from engine.metrics.pairs import DESTINATION, SOURCE
from engine.metrics.rotations import Rotations
from zt.decide import Verdict

UNKNOWN = "unknown"
_ALLOW = Verdict.ALLOW


class Metrics:
    """The counters of this process, to be made after a fork. Not for several threads.

    ``folder`` is where the processes of an evaluator keep theirs side by side; ``None`` is memory
    that nobody else sees. ``observe`` notes how long a decision took, in nanoseconds; ``values``
    holds the counters, for who counts so often that ``bump`` would take its time.
    """

    observe: Callable[[int], None]

    def __init__(self, folder: Path | None = None) -> None:
        """Count on where a process that ended stopped."""
        self._cells = Cells(folder)
        self.values = self._cells.values
        self._indices = self._cells.indices()
        self._numbers = self._cells.numbers()
        self._find = self._cells.pairs.find
        self._rotations = Rotations(folder)
        self.observe = observer(self.values)

    def counter(self, verdict: Verdict, source: str, destination: str) -> int:
        """The counter of a decision, the same for the life of the process; for ``bump``."""
        return self.counter_of(verdict, self.number(source), self.number(destination))

    def number(self, party: str) -> int:
        """The number of a party for ``counter_of``, for the life of the process."""
        found = self._numbers.get(party) or self._cells.add_party(party)
        if found is None:
            self._count(OVERFLOWS)
            return SHARED
        self._numbers[party] = found
        return found

    def counter_of(self, verdict: Verdict, source: int, destination: int) -> int:
        """The counter of a decision between parties whose numbers are known."""
        # ``pairs.key_of``: the call would take longer than all of it.
        place = self._find(source << SOURCE | destination << DESTINATION | (verdict is _ALLOW))
        return FIRST_PAIR + place if place else self._shared(verdict)

    def bump(self, counter: int) -> None:
        """Count one more."""
        self.values[counter] += 1

    def lost(self, verdict: Verdict) -> None:
        """Count a decision that was given without a record, if it let a connection pass."""
        if verdict is Verdict.ALLOW:
            self._count(LOST)

    def append_failure(self) -> None:
        """Count a record that could not be appended."""
        self._count(APPEND_FAILURES)

    def refused_without_identity(self, reason: str) -> None:
        """Count a refused peer that showed no identity."""
        self._count(WITHOUT_IDENTITY, reason)

    def unknown_caller(self, reason: str) -> None:
        """Count a caller of the evaluator itself who may not ask; the reason is one of a few."""
        self._count(UNKNOWN_CALLERS, reason)

    def certificate(self, service: str, address: str, certificate: str | bytes) -> None:
        """Note the certificate of a caller: another one from the same address is a rotation.

        ``service`` is a declared identity, or ``UNKNOWN``.
        """
        if self._rotations.changed(service, address, certificate):
            self._count(ROTATIONS, service)

    def reading(self) -> Reading:
        """What this process has counted."""
        return self._cells.reading()

    def _count(self, *series: str) -> None:
        self.values[self._index(series)] += 1

    def _index(self, series: Series) -> int:
        """The cell of a series: its own, or one that many share."""
        found = self._indices.get(series)
        if found is not None:
            return found
        added = self._cells.add(series)
        if added is None:
            self._count(OVERFLOWS)
            return self._indices[OVERFLOWS,]
        self._indices[series] = added
        return added

    def _shared(self, verdict: Verdict) -> int:
        """The counter of decisions for which there is no counter left."""
        self._count(OVERFLOWS)
        return self._indices[DECISIONS, "allow" if verdict is _ALLOW else "deny", OTHER, OTHER]
