"""Proves the mesh: every service calls every other, and the audit trail is asked what it saw.

What the policy allows must pass, all else be refused where it is enforced, and each attempt must
have exactly one record that says so and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from engine.locate import surroundings
from lab.mesh.addresses import key
from lab.mesh.dial import DialError, Tls, ask, context
from lab.mesh.model import Mesh
from lab.mesh.policies import today
from lab.mesh.trail import Entry, Trail
from zt.decide import Decision, DecisionTable, Verdict, decide, decision_table
from zt.effective import EXTERNAL
from zt.model import ExternalService, Phase, Service
from zt.placement import Address
from zt.wellknown import server_name

_AT_ONCE = 8
_EVALUATOR, _HANDSHAKE = "evaluator", "handshake"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call to be made.

    ``address`` is where the source dials: its own sidecar's listener for the destination, or the
    destination's sidecar itself.
    """

    source: Service | ExternalService
    destination: Service
    port: int
    address: Address
    through_sidecar: bool
    decision: Decision
    phase: Phase

    @property
    def should_pass(self) -> bool:
        """Whether it passes if all is right."""
        return self.decision.verdict is Verdict.ALLOW or self.phase is Phase.OBSERVE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt; ``problem`` is set where it was neither answered nor refused."""

    attempt: Attempt
    passed: bool
    problem: str | None = None

    @property
    def surprise(self) -> str | None:
        """What is not as the policy says."""
        if self.problem is not None:
            return self.problem
        if self.passed == self.attempt.should_pass:
            return None
        return "passed, and should not have" if self.passed else "was refused, and should not be"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was tried, and how the trail differs from what it should say."""

    outcomes: tuple[Outcome, ...]
    records: int
    missing: Counter[Entry]
    unexpected: Counter[Entry]

    @property
    def allowed(self) -> int:
        """Calls that passed."""
        return sum(outcome.passed for outcome in self.outcomes)

    @property
    def mismatches(self) -> int:
        """Surprises on the wire, and records missing or unexpected."""
        surprises = sum(outcome.surprise is not None for outcome in self.outcomes)
        return surprises + max(self.missing.total(), self.unexpected.total())


def verify(mesh: Mesh, trail: Trail) -> Verification:
    """Make every attempt and read what was recorded of it. Nothing else may call meanwhile."""
    planned = tuple(attempts(mesh))
    start = trail.begin()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = tuple(pool.map(_Caller(mesh), planned))
    expected = Counter(expected_entry(mesh, attempt) for attempt in planned)
    recorded = trail.since(start, len(planned))
    return Verification(
        outcomes, recorded.total(), missing=expected - recorded, unexpected=recorded - expected
    )


def attempts(mesh: Mesh) -> Iterator[Attempt]:
    """Every service and every caller from outside, against every declared port."""
    table = decision_table(mesh.effective.policy, today())
    for destination in mesh.services:
        parties: list[Service | ExternalService] = [*mesh.services, *callers(mesh)]
        for source in (party for party in parties if party is not destination):
            for port in destination.ports:
                yield _attempt(mesh, table, source, destination, port.port)


def callers(mesh: Mesh) -> Iterator[ExternalService]:
    """What is outside and may call from a loopback address: the rest can't be played here."""
    policy = mesh.effective.policy
    networks = surroundings(policy)
    for external in policy.externals:
        if networks.external(mesh.plan.client(external)) == external.name:
            yield external


def _attempt(
    mesh: Mesh,
    table: DecisionTable,
    source: Service | ExternalService,
    destination: Service,
    port: int,
) -> Attempt:
    identity = identity_of(mesh, source)
    to = destination.spiffe(mesh.effective.mesh)
    listener = _listener(mesh, source, destination, port)
    return Attempt(
        source=source,
        destination=destination,
        port=port,
        address=listener or mesh.placement.inbound(destination, port),
        through_sidecar=listener is not None,
        decision=decide(table, identity, to, port),
        phase=table.phases[to],
    )


def _listener(
    mesh: Mesh, source: Service | ExternalService, destination: Service, port: int
) -> Address | None:
    """Where the source's own sidecar listens for calls to the destination, if it does."""
    own = mesh.effective.find(source.cluster, source.name) if isinstance(source, Service) else None
    for grant in own.upstreams if own else ():
        if own and grant.destination is destination and grant.port == port:
            return mesh.placement.outbound(own.service, destination, port)
    return None


def identity_of(mesh: Mesh, party: Service | ExternalService) -> str:
    """A party's ID as decisions name it."""
    if isinstance(party, ExternalService):
        return EXTERNAL + party.name
    return party.spiffe(mesh.effective.mesh)


def expected_entry(mesh: Mesh, attempt: Attempt) -> Entry:
    """The one record that an attempt should leave."""
    refused = not attempt.should_pass
    at_handshake = refused and attempt.phase is Phase.ENFORCE
    source: str | None = identity_of(mesh, attempt.source)
    if at_handshake and isinstance(attempt.source, ExternalService):
        source = None  # it spoke no TLS, so there is nobody to name
    return Entry(
        source,
        attempt.destination.spiffe(mesh.effective.mesh),
        attempt.port,
        Verdict.DENY if refused else Verdict.ALLOW,
        attempt.decision.verdict,
        attempt.decision.rule,
        _HANDSHAKE if at_handshake else _EVALUATOR,
    )


class _Caller:
    """Makes attempts, each as its source would."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        bundle = mesh.folders.bundle / "bundle.pem"
        self._context = cache(lambda source: context(bundle, mesh.folders.svid(source)))

    def __call__(self, attempt: Attempt) -> Outcome:
        expected = attempt.destination.spiffe(self._mesh.effective.mesh)
        try:
            answer = self._ask(attempt)
        except DialError as error:
            return Outcome(attempt, passed=False, problem=str(error))
        if answer not in (None, expected):
            return Outcome(attempt, passed=True, problem=f"{answer!r} answered")
        return Outcome(attempt, passed=answer is not None)

    def _ask(self, attempt: Attempt) -> str | None:
        if isinstance(attempt.source, ExternalService):
            return ask(attempt.address, self._mesh.plan.client(attempt.source))
        if attempt.through_sidecar:
            return ask(attempt.address, None)
        tls = Tls(
            self._context(key(attempt.source)),
            name_of(attempt.destination, attempt.port),
            attempt.destination.spiffe(self._mesh.effective.mesh),
        )
        return ask(attempt.address, self._mesh.plan.pod(attempt.source), tls)


def name_of(service: Service, port: int) -> str:
    """The SNI of a service's port."""
    return server_name(port, service.name, service.namespace, service.cluster)
