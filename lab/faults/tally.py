"""What flows said of themselves, counted. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class Side(StrEnum):
    """Each flow has two: ever new connections, and one that is kept."""

    NEW = "new"
    KEPT = "kept"


class Edge(NamedTuple):
    """Who calls whom on which port, by their SPIFFE IDs, as the audit trail has it."""

    source: str
    destination: str
    port: int

    @property
    def crosses(self) -> bool:
        """Whether it leads into another cluster."""
        ours, theirs = (spiffe.split("/")[3] for spiffe in (self.source, self.destination))
        return ours != theirs


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow out of a pod.

    Attributes:
        edge: Who calls whom; the source is whose certificate is shown.
        origin: The pod that calls, as ``<namespace>/<name>``.
        pods: Pods at both ends, of several replicas all; where one of them breaks, the flow may.
        declared: Whether the policy lets it pass.
        how: In a few words, where it is not as an application calls.
    """

    edge: Edge
    origin: str
    pods: frozenset[str]
    declared: bool = True
    how: str = ""

    def __str__(self) -> str:
        how = f" ({self.how})" if self.how else ""
        return (
            f"{_short(self.edge.source)} -> {_short(self.edge.destination)}:{self.edge.port}{how}"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An attempt that failed, or one that was the first to succeed (then ``error`` is ``None``).

    ``at`` is when it ended, in seconds since the epoch; ``seconds`` is what it took.
    """

    at: float
    side: Side
    seconds: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """Attempts of one side; percentiles are seconds of those answered, ``None`` if none was."""

    tried: int = 0
    failed: int = 0
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a flow said; events are in their order."""

    flow: Flow
    events: tuple[Event, ...]
    new: Sums
    kept: Sums

    @property
    def answered(self) -> int:
        """New and kept connections that were answered: so many decisions were acknowledged."""
        first = sum(item.side is Side.KEPT and item.error is None for item in self.events)
        return self.new.tried - self.new.failed + first


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt of a flow that failed; ``cut`` if it was an open connection that ended."""

    flow: Flow
    at: float
    seconds: float
    error: str
    cut: bool

    @property
    def began(self) -> float:
        """When the attempt was begun."""
        return self.at - self.seconds


def failures(seen: Seen) -> Iterator[Failure]:
    """All attempts that failed, in their order."""
    is_open = False
    for item in seen.events:
        is_kept = item.side is Side.KEPT
        if item.error is not None:
            yield Failure(seen.flow, item.at, item.seconds, item.error, cut=is_kept and is_open)
        if is_kept:
            is_open = item.error is None


@dataclass(frozen=True, slots=True)
class Tally:
    """What the flows of one stretch of time came to.

    Attributes:
        opened: Connections of declared flows that were tried.
        failed: Those that failed.
        asked: Questions on declared connections that were kept.
        cut: Kept connections that ended.
        tried: Connections that should have been refused.
        passed: Those of them that were answered.
        acknowledged: Declared connections that were answered, by edge.
    """

    opened: int
    failed: tuple[Failure, ...]
    asked: int
    cut: tuple[Failure, ...]
    tried: int
    passed: int
    acknowledged: Mapping[Edge, int]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each, for programs."""
        return {
            "opened": self.opened,
            "failed": len(self.failed),
            "asked": self.asked,
            "cut": len(self.cut),
            "disallowed": self.tried,
            "passed": self.passed,
        }

    @property
    def let_in(self) -> tuple[str, ...]:
        """The sentence that tells of who passed and may not; none if nobody did."""
        said = f"{self.passed} connections passed that should have been refused"
        return (said,) if self.passed else ()

    @property
    def surprises(self) -> tuple[str, ...]:
        """What nobody should see where nothing is broken, a sentence each."""
        found = (f"{item.flow}: {item.error}" for item in (*self.failed, *self.cut))
        return (*found, *self.let_in)

    @property
    def outage(self) -> float:
        """Seconds from when the first failure began to when the last one ended; 0 without any."""
        found = (*self.failed, *self.cut)
        if not found:
            return 0.0
        return max(item.at for item in found) - min(item.began for item in found)


def tally(flows: Iterable[Seen], since: float = 0.0) -> Tally:
    """Count; of failures those that began from a moment on, in seconds since the epoch."""
    all_ = tuple(flows)
    declared = [item for item in all_ if item.flow.declared]
    others = [item for item in all_ if not item.flow.declared]
    all_failures = (failure for item in declared for failure in failures(item))
    found = sorted((it for it in all_failures if it.began >= since), key=lambda it: it.at)
    cut = tuple(item for item in found if item.cut)
    failed = tuple(item for item in found if not item.cut)
    reopened = sum(_opened(item) for item in declared)
    acknowledged: Counter[Edge] = Counter()
    for item in declared:
        acknowledged[item.flow.edge] += item.answered
    return Tally(
        opened=sum(item.new.tried for item in declared) + reopened,
        failed=failed,
        asked=sum(item.kept.tried for item in declared) - reopened,
        cut=cut,
        tried=sum(item.new.tried + item.kept.tried for item in others),
        passed=sum(_passed(item.new) + _passed(item.kept) for item in others),
        acknowledged=acknowledged,
    )


def _opened(seen: Seen) -> int:
    """Attempts of the kept side that opened a connection: the first, and each after a failure."""
    failed = sum(item.side is Side.KEPT and item.error is not None for item in seen.events)
    last = next((item for item in reversed(seen.events) if item.side is Side.KEPT), None)
    is_down = last is not None and last.error is not None
    return min(seen.kept.tried, 1 + failed - is_down)


def _passed(sums: Sums) -> int:
    return sums.tried - sums.failed


def lost(answered: Mapping[Edge, int], recorded: Mapping[Edge, int]) -> dict[Edge, int]:
    """Answered connections that the trail has no record of, by edge; others may call as well."""
    short = {edge: count - recorded.get(edge, 0) for edge, count in answered.items()}
    return {edge: count for edge, count in short.items() if count > 0}


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part (0 to 1) of the values does not exceed.

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("no values, so no percentile")
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def event_of(line: Mapping[str, Any]) -> Event | None:
    """An event from a line of ``lab.services.caller``; ``None`` if it tells of something else."""
    match line:
        case {"event": "failed", "side": side, "at": at, "seconds": seconds, "error": error}:
            detail = line.get("detail")
            return Event(at, Side(side), seconds, f"{error}: {detail}" if detail else str(error))
        case {"event": "well", "side": side, "at": at, "seconds": seconds}:
            return Event(at, Side(side), seconds)
    return None


def sums_of(line: Mapping[str, Any]) -> Sums:
    """One side of the caller's last line."""
    return Sums(line["tried"], line["failed"], line.get("p50"), line.get("p99"))


def _short(spiffe: str) -> str:
    """Namespace and account of a SPIFFE ID."""
    return "/".join(spiffe.split("/")[-2:])
