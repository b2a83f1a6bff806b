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
from lab.verify.callers import Caller, Callers
from lab.verify.plan import (
    NOWHERE,
    Attempt,
    Expected,
    Json,
    Origin,
    Plan,
    Way,
    surprise,
)
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
    """A cluster: what was tried, and how the trail differs from what it should say.

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


def verify(stage: Stage) -> Verification:
    """Make every attempt and read what was recorded of it. Nothing else may call meanwhile.

    Raises:
        LabError: if it can't be tried: a pod has no dialer, the trail can't be read.
    """
    began, start = time.monotonic(), datetime.now(UTC)
    planned = tuple(stage.plan.attempts())
    with _dialing(stage) as dial, ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = tuple(pool.map(dial, (item for item in planned if not item.waits)))
    expected = expected_of(outcomes)
    found = stage.records(start, lambda records: not expected - counted(records))
    recorded = counted(found)
    return Verification(
        stage.cluster,
        outcomes,
        tuple(item for item in planned if item.waits),
        recorded.total(),
        missing=expected - recorded,
        unexpected=without_own_traffic(recorded - expected),
        seconds=time.monotonic() - began,
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
def _dialing(stage: Stage) -> Iterator[Callable[[Attempt], Outcome]]:
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
            origin = Origin(pod.name, pod.node)
            return Outcome(attempt, origin, answer, surprise(attempt, answer))

        yield dial


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
