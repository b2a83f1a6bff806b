"""What was seen, laid over what is declared: which calls the policy grants, and which not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from engine.audit.reader import Edge
from engine.page.graph import Level, group
from engine.policy.table import Table
from zt.decide import Verdict

Json = dict[str, Any]
Pair = tuple[str, str]

STRAYS_SHOWN = 200


class Kind(StrEnum):
    """How an edge stands to the policy in force."""

    SEEN = "seen"
    UNSEEN = "unseen"
    UNDECLARED = "undeclared"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls added up."""

    allowed: int = 0
    denied: int = 0
    would_deny: int = 0
    last_seen: datetime | None = None

    def __add__(self, other: Traffic) -> Traffic:
        times = [time for time in (self.last_seen, other.last_seen) if time is not None]
        return Traffic(
            self.allowed + other.allowed,
            self.denied + other.denied,
            self.would_deny + other.would_deny,
            max(times, default=None),
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """An edge that the policy declares, and what was seen of it, by port and in all.

    ``rules`` are (port, name of the rule); ``edges`` is how many it stands for.
    """

    source: str
    destination: str
    rules: tuple[tuple[int, str], ...]
    phase: str | None
    crosses: bool
    edges: int
    path: str
    traffic: Traffic
    by_port: dict[int, Traffic]

    @property
    def kind(self) -> Kind:
        """Whether it was seen."""
        return Kind.UNSEEN if self.traffic == Traffic() else Kind.SEEN

    @property
    def troubled(self) -> bool:
        """Whether calls were refused that are granted."""
        return self.traffic.denied > 0


@dataclass(frozen=True, slots=True)
class Stray:
    """Calls that the policy in force does not grant: refused, or let pass while observed."""

    source: str
    destination: str
    kind: Kind
    traffic: Traffic
    by_port: dict[int, Traffic]


@dataclass(frozen=True, slots=True)
class View:
    """All edges of the page; strays with most calls first, and no more than can be looked at.

    ``found`` counts all of them, by kind.
    """

    declared: tuple[Declared, ...]
    strays: tuple[Stray, ...]
    found: Counter[Kind]


@dataclass
class _Sum:
    """Traffic of a pair, by port."""

    by_port: dict[int, Traffic] = field(default_factory=lambda: defaultdict(Traffic))

    def add(self, edge: Edge) -> None:
        seen = Traffic(edge.allowed, edge.denied, edge.would_deny, edge.last_seen)
        self.by_port[edge.port] += seen

    @property
    def traffic(self) -> Traffic:
        return sum(self.by_port.values(), Traffic())


def view(graph: Json, table: Table, seen: Iterable[Edge]) -> View:
    """Lay what was seen over a graph that ``engine.page.graph`` declared."""
    level = Level(graph["level"])
    granted: dict[Pair, _Sum] = defaultdict(_Sum)
    strays: dict[tuple[Pair, Kind], _Sum] = defaultdict(_Sum)
    for edge in seen:
        pair = group(edge.source, level), group(edge.destination, level)
        decision = table.decide(edge.source or "", edge.destination, edge.port)
        if decision.verdict is Verdict.ALLOW:
            granted[pair].add(edge)
        else:
            kind = Kind.REFUSED if edge.denied else Kind.UNDECLARED
            strays[pair, kind].add(edge)
    ordered = _ordered(
        Stray(*pair, kind, found.traffic, dict(found.by_port))
        for (pair, kind), found in strays.items()
    )
    return View(
        tuple(_declared(item, granted) for item in graph["edges"]),
        ordered[:STRAYS_SHOWN],
        Counter(stray.kind for stray in ordered),
    )


def _declared(item: Json, granted: dict[Pair, _Sum]) -> Declared:
    found = granted.get((item["source"], item["destination"]), _Sum())
    return Declared(
        source=item["source"],
        destination=item["destination"],
        rules=tuple((port, rule) for port, rule in item["grants"]),
        phase=item["phase"],
        crosses=item["crosses"],
        edges=item["edges"],
        path=item["path"],
        traffic=found.traffic,
        by_port=dict(found.by_port),
    )


def _ordered(strays: Iterable[Stray]) -> tuple[Stray, ...]:
    def weight(stray: Stray) -> tuple[bool, int, str, str]:
        traffic = stray.traffic
        calls = traffic.denied + traffic.would_deny
        return stray.kind is not Kind.REFUSED, -calls, stray.source, stray.destination

    return tuple(sorted(strays, key=weight))


def undeclared_nodes(nodes: Sequence[Json], strays: Iterable[Stray]) -> list[str]:
    """The ends of strays that the policy does not know, in the order in which they come."""
    known = {node["id"] for node in nodes}
    ends = (end for stray in strays for end in (stray.source, stray.destination))
    return list(dict.fromkeys(end for end in ends if end not in known))
