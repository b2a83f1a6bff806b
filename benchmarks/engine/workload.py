"""The same rules and the same requests for every contender.

A rule is one edge: a source, a destination and a port, all exact, because that is what each
contender is fastest at. Ten rules to a service, as ``benchmarks.generate`` makes them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from benchmarks.generate import PORTS, generated_policy
from zt.decide import DEFAULT_RULE
from zt.effective import named_rules
from zt.model import Policy

TODAY = date(2026, 11, 23)
RULES_OF_A_SERVICE = 10
FEWEST_SERVICES = 10
UNDECLARED_PORT = 8002
_PREFIX = "spiffe://hanzo.ai/hanzo-k8s/"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the rule that grants it (``default`` where none does)."""

    source: str
    destination: str
    port: int
    rule: str

    @property
    def allowed(self) -> bool:
        """Whether a rule grants it."""
        return self.rule != DEFAULT_RULE


Edge = tuple[str, str, int]


@dataclass(frozen=True)
class Workload:
    """A policy of so many rules."""

    size: int
    policy: Policy

    @cached_property
    def edges(self) -> dict[Edge, str]:
        """What is granted, each with its first rule: nobody is asked twice about one edge."""
        found: dict[Edge, str] = {}
        for named in named_rules(self.policy):
            (to,) = named.rule.to
            (port,) = to.ports
            found.setdefault((str(named.rule.source.spiffe), str(to.spiffe), port), named.name)
        return found

    @cached_property
    def services(self) -> tuple[str, ...]:
        """The SPIFFE IDs that rules may name."""
        ids = (service.spiffe(self.policy.mesh) for service in self.policy.services)
        return tuple(name for name in ids if "/service-" in name)

    def asks(self, count: int, seed: int = 1) -> list[Ask]:
        """Requests in random order: half granted, half refused, each kind of refusal as often.

        All are distinct, as far as a policy of this size has that many.
        """
        dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
        granted = [Ask(*edge, rule) for edge, rule in self.edges.items()]
        dice.shuffle(granted)
        half = count // 2
        allowed = (granted * (half // len(granted) + 1))[:half]
        asks = allowed + self._refused(count - half, dice)
        dice.shuffle(asks)
        return asks

    def _refused(self, count: int, dice: random.Random) -> list[Ask]:
        kinds: tuple[Callable[[random.Random], Edge], ...] = (
            self._no_rule,
            self._backwards,
            self._other_port,
            self._itself,
            self._stranger,
            self._nowhere,
        )
        seen: set[Edge] = set()
        refused: list[Ask] = []
        tries = 0
        while len(refused) < count:
            edge = kinds[tries % len(kinds)](dice)
            tries += 1
            if edge in self.edges or (edge in seen and tries < 2 * count):
                continue
            seen.add(edge)
            refused.append(Ask(*edge, DEFAULT_RULE))
        return refused

    def _no_rule(self, dice: random.Random) -> Edge:
        return dice.choice(self.services), dice.choice(self.services), dice.choice(PORTS)

    def _backwards(self, dice: random.Random) -> Edge:
        source, destination, port = dice.choice(self._edge_list)
        return destination, source, port

    def _other_port(self, dice: random.Random) -> Edge:
        source, destination, _ = dice.choice(self._edge_list)
        return source, destination, UNDECLARED_PORT

    def _itself(self, dice: random.Random) -> Edge:
        service = dice.choice(self.services)
        return service, service, dice.choice(PORTS)

    def _stranger(self, dice: random.Random) -> Edge:
        source = f"{_PREFIX}nowhere/stranger-{dice.randrange(1 << 30)}"
        return source, dice.choice(self.services), dice.choice(PORTS)

    def _nowhere(self, dice: random.Random) -> Edge:
        destination = f"{_PREFIX}nowhere/nothing-{dice.randrange(1 << 30)}"
        return dice.choice(self.services), destination, dice.choice(PORTS)

    @cached_property
    def _edge_list(self) -> list[Edge]:
        return list(self.edges)


def workload(size: int) -> Workload:
    """Rules of that number, the same each time."""
    return Workload(size, generated_policy(max(size // RULES_OF_A_SERVICE, FEWEST_SERVICES), size))
