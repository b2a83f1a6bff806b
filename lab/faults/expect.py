"""What each fault may do to the traffic, by the design, and how fast it is to be over. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from lab.faults.tally import Edge, Failure, Flow, Tally


class Reach(StrEnum):
    """Which flows a fault may touch: those that end in a pod that broke, or all."""

    TOUCHED = "those of the pods that broke"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Allowance:
    """Failures that are no surprise.

    Attributes:
        reach: Of which flows.
        cuts: Whether open connections may end, or only new ones fail.
        lasts: For so many seconds after the fault; ``None``: until the part is back, and a little.
    """

    reach: Reach
    cuts: bool = False
    lasts: float | None = None

    def __str__(self) -> str:
        what = "open and new connections" if self.cuts else "new connections"
        until = "until it is back" if self.lasts is None else f"for {self.lasts:.0f} s"
        return f"{what}, {self.reach}, {until}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the design says of a fault: what may fail, and within how many seconds it is over."""

    why: str
    back: float
    allowances: tuple[Allowance, ...] = ()

    @property
    def may_fail(self) -> str:
        """In words."""
        return "; ".join(map(str, self.allowances)) or "nothing"


@dataclass(frozen=True, slots=True)
class Injury:
    """What was broken: pods, as ``<namespace>/<name>``, when, and when it was back, if it was.

    Times are in seconds since the epoch.
    """

    pods: frozenset[str]
    at: float
    back: float | None

    @property
    def recovery(self) -> float | None:
        """Seconds until it was back."""
        return None if self.back is None else self.back - self.at


# A sidecar's Envoy tries again a second after a refused connection, and a kube-proxy leads to a pod
# about a second after its Service does.
_SETTLED = 3.0
# Sidecars ask another evaluator when one dies; one whose node died is silent, and is given up after
# four seconds, and others on that node may be dialled before one that answers.
_GIVEN_UP = 15.0

EXPECTATIONS: Mapping[str, Expectation] = {
    "spire-server": Expectation("agents go to the other server, and certificates last", 60),
    "spire-servers": Expectation("certificates in use last for half their life", 90),
    "spire-agent": Expectation("sidecars keep their certificates", 60),
    "evaluator": Expectation("what it is asked meanwhile the others are asked", 90),
    "evaluators": Expectation(
        "enforced services are fail-closed: no decision, no connection", 90, (Allowance(Reach.ALL),)
    ),
    "audit-database": Expectation("records wait in the evaluators' spools", 90),
    "coredns": Expectation("sidecars keep the addresses that they know", 60),
    "api-server": Expectation("nothing on the way of a connection asks it", 60),
    "kubelet": Expectation(
        "pods run on; once it is there again, it calls them ready when it has asked them",
        60,
        (Allowance(Reach.TOUCHED),),
    ),
    "sidecar": Expectation(
        "what leads through it ends; the kubelet starts it again",
        60,
        (Allowance(Reach.TOUCHED, cuts=True),),
    ),
    "node": Expectation(
        "its pods are gone until they run again; an evaluator may be among them",
        180,
        (Allowance(Reach.TOUCHED, cuts=True), Allowance(Reach.ALL, lasts=_GIVEN_UP)),
    ),
}


def surprises(
    expected: Expectation, injury: Injury, seen: Tally, unrecorded: Mapping[Edge, int]
) -> Iterator[str]:
    """What is not as the design says, a sentence each; flows of a kind are told of once."""
    yield from seen.let_in
    for edge, count in unrecorded.items():
        yield f"{count} answered connections of {Flow(edge, '', frozenset())} are not in the trail"
    if injury.recovery is None:
        yield f"it was not back after {expected.back:.0f} s"
    elif injury.recovery > expected.back:
        yield f"it was back after {injury.recovery:.1f} s, and not within {expected.back:.0f} s"
    yield from _of_flows("open connections ended", expected, injury, seen.cut)
    yield from _of_flows("new connections failed", expected, injury, seen.failed)


def _of_flows(
    what: str, expected: Expectation, injury: Injury, found: tuple[Failure, ...]
) -> Iterator[str]:
    odd: dict[Flow, list[Failure]] = {}
    for item in found:
        if not any(_covers(allowance, injury, item) for allowance in expected.allowances):
            odd.setdefault(item.flow, []).append(item)
    for flow, items in odd.items():
        first = items[0]
        when = first.at - injury.at
        yield f"{len(items)} {what} of {flow}: the first {when:+.1f} s, {first.error}"


def _covers(allowance: Allowance, injury: Injury, failure: Failure) -> bool:
    if failure.cut and not allowance.cuts:
        return False
    if allowance.reach is Reach.TOUCHED and not failure.flow.pods & injury.pods:
        return False
    if failure.at < injury.at:
        return False
    if allowance.lasts is not None:
        return failure.began <= injury.at + allowance.lasts
    return injury.back is None or failure.began <= injury.back + _SETTLED
