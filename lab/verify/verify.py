"""Makes the attempts of a plan in a running cluster, and compares the trail with what they left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from components.audit.in_cluster import SERVICE as AUDIT_DATABASE
from lab.attack.certificates import Issuer, Material
from lab.cluster.model import LabError
from lab.nodes.model import Node
from lab.nodes.pods import Pod
from lab.services import program
from lab.verify.attempt import NOWHERE, Attempt, Expected, Json, Origin, Way, surprise
from lab.verify.callers import Caller, Callers
from lab.verify.plan import Plan
from lab.verify.trail import Record
from zt.effective import EffectiveService

# Most of them wait for an answer that does not come.
_AT_ONCE = 48


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt; ``surprise`` says what is not as the policy has it."""

    attempt: Attempt
    origin: Origin
    answer: Json
    surprise: str | None

    @property
    def passed(self) -> bool:
        """Whether it was let in; a refusal in words is an answer as well."""
        return bool(self.answer.get("ok")) and (self.attempt.passes or self.surprise is not None)


@dataclass(frozen=True, slots=True)
class Verification:
    """A cluster: what was tried from it, and how its trail differs from what it should say.

    ``waiting`` are attempts that were not made.
    """

    cluster: str
    outcomes: tuple[Outcome, ...]
    waiting: tuple[Attempt, ...]
    records: int
    missing: Counter[Expected]
    unexpected: Counter[Expected]
    seconds: float

    @property
    def mismatches(self) -> int:
        """Surprises on the wire, and records missing or unexpected."""
        surprises = sum(outcome.surprise is not None for outcome in self.outcomes)
        return surprises + max(self.missing.total(), self.unexpected.total())


@dataclass(frozen=True)
class Stage:
    """A running cluster. ``pods`` has one for each service by name, ``nodes`` are by name."""

    cluster: str
    plan: Plan
    pods: dict[str, Pod]
    nodes: dict[str, Node]
    callers: Callers
    issuer: Issuer
    records: Callable[[datetime, Callable[[Sequence[Record]], bool]], tuple[Record, ...]]


def verify(stages: Sequence[Stage]) -> tuple[Verification, ...]:
    """Make every attempt and read what was recorded of it. Nothing else may call meanwhile.

    Raises:
        LabError: if it can't be tried: a pod has no dialer, the trail can't be read.
    """
    start = datetime.now(UTC)
    tried = [_tried(stage, stages) for stage in stages]
    made = [outcome for one in tried for outcome in one.outcomes]
    return tuple(
        _compared(stage, one, made, start) for stage, one in zip(stages, tried, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Tried:
    outcomes: tuple[Outcome, ...]
    waiting: tuple[Attempt, ...]
    seconds: float


def _tried(stage: Stage, stages: Sequence[Stage]) -> _Tried:
    """All attempts from a cluster."""
    began = time.monotonic()
    planned = tuple(stage.plan.attempts())
    with _dialing(stage, stages) as dial, ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = tuple(pool.map(dial, (item for item in planned if not item.waits)))
    waiting = tuple(item for item in planned if item.waits)
    return _Tried(outcomes, waiting, time.monotonic() - began)


def _compared(
    stage: Stage, tried: _Tried, made: Sequence[Outcome], start: datetime
) -> Verification:
    """A cluster's own attempts, and its trail with what all left there."""
    here = [o for o in made if o.attempt.destination.service.cluster == stage.cluster]
    expected = expected_of(here)
    recorded = counted(stage.records(start, lambda found: not expected - counted(found)))
    return Verification(
        stage.cluster,
        tried.outcomes,
        tried.waiting,
        recorded.total(),
        missing=expected - recorded,
        unexpected=without_own_traffic(recorded - expected),
        seconds=tried.seconds,
    )


def expected_of(outcomes: Sequence[Outcome]) -> Counter[Expected]:
    """The records that attempts should have left."""
    records = (outcome.attempt.expected(outcome.origin) for outcome in outcomes)
    return Counter(record for record in records if record is not None)


def counted(records: Sequence[Record]) -> Counter[Expected]:
    """Records that say the same, counted."""
    return Counter(
        Expected(record.entry, Origin(record.source_pod, record.source_node)) for record in records
    )


def without_own_traffic(records: Counter[Expected]) -> Counter[Expected]:
    """Without what the mesh calls by itself, at its own times: evaluators write their records."""
    return Counter(
        {
            record: count
            for record, count in records.items()
            if not record.entry.destination.endswith(f"/{AUDIT_DATABASE}")
            or record.entry.verdict != "ALLOW"
        }
    )


# --- Calls ----------------------------------------------------------------------------------------


@contextmanager
def _dialing(stage: Stage, stages: Sequence[Stage]) -> Iterator[Callable[[Attempt], Outcome]]:
    """What makes an attempt, from where it is to be made."""
    svids = {item.service.name: _svid(stage, item) for item in stage.plan.sources}
    with ExitStack() as stack:
        hosts = {name: _on_node(node) for name, node in stage.nodes.items()}
        for caller in hosts.values():
            stack.callback(caller.close)

        def dial(attempt: Attempt) -> Outcome:
            if attempt.way is Way.IDENTITY:
                return _by_identity(stage, attempt, hosts, svids)
            pod = _pod_of(stage, attempt.source)
            answer = stage.callers.of(pod).ask(attempt.question)
            origin = _origin(attempt, pod, stages)
            return Outcome(attempt, origin, answer, surprise(attempt, answer))

        yield dial


def _origin(attempt: Attempt, pod: Pod, stages: Sequence[Stage]) -> Origin:
    """Whose address a call comes from: what crosses comes from the gateway of the other side.

    Where that calls itself, by its Service, its node changes the address to its own.
    """
    called = attempt.destination.service
    if not attempt.passes or called.cluster == attempt.source.service.cluster:
        return Origin(pod.name, pod.node)
    there = next(stage for stage in stages if stage.cluster == called.cluster)
    gateway = there.plan.effective.mesh.infrastructure.gateway
    if called.name == gateway:
        return NOWHERE
    return Origin(there.pods[gateway].name, there.pods[gateway].node)


def _by_identity(
    stage: Stage, attempt: Attempt, hosts: dict[str, Caller], svids: dict[str, Material]
) -> Outcome:
    called = _pod_of(stage, attempt.destination)
    shown = svids[attempt.source.service.name]
    tls = {
        **attempt.question["tls"],
        "certificatePem": shown.certificate,
        "keyPem": shown.key,
    }
    asked = {**attempt.question, "host": called.address, "tls": tls}
    answer = hosts[called.node or ""].ask(asked)
    return Outcome(attempt, NOWHERE, answer, surprise(attempt, answer))


def _pod_of(stage: Stage, item: EffectiveService) -> Pod:
    try:
        return stage.pods[item.service.name]
    except KeyError:
        place = f"{item.service.namespace}/{item.service.name}"
        raise LabError(f"no pod of {place} in {stage.cluster} is ready") from None


def _svid(stage: Stage, item: EffectiveService) -> Material:
    return stage.issuer.issue(item.spiffe, datetime.now(UTC))


def _on_node(node: Node) -> Caller:
    """A dialer in the network of a node, with this machine's Python."""
    return Caller(
        ["nsenter", f"--net=/run/netns/{node.namespace}", "--", *program.here()], node.name
    )
