"""A grant and its revocation, under traffic: how fast they arrive, and what they cut.

The rules let every team's service of a cluster call one that hardly any may call. They are a file
of its own among the policies of the lab; the grant is that file and `pulumi up`, the revocation
the same without it. Times count from the end of `pulumi up`. Sidecars are dialled at their loopback
address for the new upstream: its name is part of a pod, and these pods were made before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape

from lab.cluster.model import LabError
from lab.faults.flows import asked
from lab.faults.run import Report, unsteady
from lab.faults.site import Site
from lab.faults.tally import Edge, Event, Failure, Flow, Seen, Side, tally
from lab.faults.traffic import Dialled, Traffic, running, until_steady
from lab.services.manifests import team_services
from lab.up.stacks import stacks
from zt.effective import EffectiveService
from zt.model import Service, ServiceAccessPolicy
from zt.placement import InCluster

# Seconds, as the documentation states them.
BOUND = 60.0
_QUIET, _PATIENCE = 5.0, 120.0
_PAUSE = 0.2
_EVERY = 0.25
_FILE = Path("access") / "lab-change.yaml"
_API = "zt.hanzo.ai/v1"


@dataclass(frozen=True, slots=True)
class Change:
    """How a change went. Times are seconds after `pulumi up` had ended, of each flow; may be < 0.

    Attributes:
        up: How long `pulumi up` took.
        concerned: Flows that the change is about.
        new: From when on new connections of each were answered, or refused.
        kept: The same of kept ones: when it was first answered, or when it ended.
        cut: Other connections that ended.
        failed: Attempts of other flows that failed.
        passed: Connections that should have been refused, of flows that the change is not about.
        steady: Whether all other flows were steady afterwards.
    """

    up: float
    concerned: int
    new: tuple[float, ...]
    kept: tuple[float, ...]
    cut: tuple[Failure, ...]
    failed: tuple[Failure, ...]
    passed: int
    steady: bool

    @property
    def last(self) -> float | None:
        """When the change was in force for all flows, on both sides."""
        if min(len(self.new), len(self.kept)) < self.concerned:
            return None
        return max(*self.new, *self.kept)


@dataclass(frozen=True, slots=True)
class Changes:
    """A grant and its revocation."""

    grant: Change
    revocation: Change

    @property
    def surprises(self) -> tuple[str, ...]:
        """What is not as it should be."""
        found = [*_late("grant", self.grant), *_late("revocation", self.revocation)]
        found += [f"the grant cut {item.flow}: {item.error}" for item in self.grant.cut]
        found += [f"the grant failed {item.flow}: {item.error}" for item in self.grant.failed]
        return tuple(found)


def _late(name: str, change: Change) -> Iterator[str]:
    if change.last is None:
        there = min(len(change.new), len(change.kept))
        yield f"the {name} reached {there} of {change.concerned} flows"
    elif change.last > BOUND:
        yield f"the {name} took {change.last:.1f} s, and not {BOUND:.0f} s"
    if change.passed:
        yield f"{change.passed} connections passed beside the {name}"
    if not change.steady:
        yield f"after the {name} other flows were not steady"


def run(site: Site, report: Report) -> Changes:
    """Grant, revoke, and watch.

    Raises:
        LabError: if traffic is not steady, or a stack can't be brought up.
    """
    concerned = tuple(_concerned(site))
    flows = {item.flow for item in concerned}
    with running(site.dial, (*site.flows(), *concerned)) as traffic, _policy(site) as policy:
        if not until_steady(traffic, _QUIET, _PATIENCE):
            raise LabError(f"before the change, {unsteady(traffic)}")
        report(f"granting {len(flows)} flows to {_target(site).name}")
        policy.write_text(_rules(site), encoding="utf-8")
        grant = _changed(site, traffic, flows, granted=True)
        report(f"granted: {_said(grant)}")
        policy.unlink()
        revocation = _changed(site, traffic, flows, granted=False)
        report(f"revoked: {_said(revocation)}")
    return Changes(grant, revocation)


def _changed(site: Site, traffic: Traffic, flows: set[Flow], *, granted: bool) -> Change:
    began = time.time()
    with stacks(site.layout) as opened:
        outcome = opened.up(site.cluster)
    ended = time.time()
    _await(traffic, flows, granted=granted)
    steady = until_steady(traffic, _QUIET, _PATIENCE)
    return measured(traffic.seen(), flows, (began, ended), outcome.seconds, steady=steady)


def _await(traffic: Traffic, flows: set[Flow], *, granted: bool) -> None:
    """Wait until all flows have changed, or will not any more."""
    deadline = time.monotonic() + BOUND * 2
    while time.monotonic() < deadline:
        states = [_states(item) for item in traffic.current() if item.flow in flows]
        if all(state == dict.fromkeys(Side, granted) for state in states):
            return
        time.sleep(_PAUSE)


def _states(seen: Seen) -> dict[Side, bool]:
    return {item.side: item.error is None for item in seen.events}


def measured(
    seen: Iterable[Seen],
    flows: set[Flow],
    moments: tuple[float, float],
    seconds: float,
    *,
    steady: bool,
) -> Change:
    """What flows saw of a change that began and ended at these moments, in seconds of the epoch."""
    began, ended = moments
    late = [replace(item, events=_since(item, began)) for item in seen]
    concerned = [item for item in late if item.flow in flows]
    others = tally(item for item in late if item.flow not in flows)
    return Change(
        up=seconds,
        concerned=len(concerned),
        new=tuple(_moments(concerned, Side.NEW, ended)),
        kept=tuple(_moments(concerned, Side.KEPT, ended)),
        cut=others.cut,
        failed=others.failed,
        passed=others.passed,
        steady=steady,
    )


def _since(seen: Seen, began: float) -> tuple[Event, ...]:
    """The events from a moment on, after the last before it of each side."""
    before = {item.side: item for item in seen.events if item.at < began}
    return (*before.values(), *(item for item in seen.events if item.at >= began))


def _moments(concerned: Sequence[Seen], side: Side, ended: float) -> Iterator[float]:
    """When each flow turned for the last time: from refused to answered, or the other way."""
    for item in concerned:
        turned = None
        events = [event for event in item.events if event.side is side]
        for before, event in pairwise(events):
            if (before.error is None) != (event.error is None):
                turned = event.at
        if turned is not None:
            yield turned - ended


# --- What is granted ------------------------------------------------------------------------------


def _concerned(site: Site) -> Iterator[Dialled]:
    """A flow from each pod of each service that is to be granted it."""
    to, number = _target(site), _target(site).ports[0].port
    placement, mesh = InCluster(site.effective), site.effective.mesh
    pods = frozenset(site.pods_of(to))
    for source in _sources(site):
        host = placement.outbound(source, to, number).host
        edge = Edge(source.spiffe(mesh), to.spiffe(mesh), number)
        for pod in site.callable(source):
            flow = Flow(edge, pod, frozenset({pod, *pods}), declared=False, how=f"from {pod}")
            yield Dialled(flow, {**asked(to, number, host), "interval": _EVERY})


def _sources(site: Site) -> Iterator[Service]:
    """Services that may not call the target yet."""
    to = _target(site)
    for item in site.effective.in_cluster(site.cluster):
        if item.service in _teams(site) and item.service is not to and not _calls(item, to):
            yield item.service


def _target(site: Site) -> Service:
    """The service whose callers are fewest, of those that have one."""
    services = [
        item
        for item in site.effective.in_cluster(site.cluster)
        if item.service in _teams(site) and item.inbound and item.inbound[0].clients
    ]
    return min(services, key=lambda item: len(item.inbound[0].clients)).service


def _teams(site: Site) -> tuple[Service, ...]:
    return team_services(site.effective.policy, site.cluster)


def _calls(item: EffectiveService, to: Service) -> bool:
    return any(grant.destination is to for grant in item.upstreams)


def _rules(site: Site) -> str:
    to, mesh = _target(site), site.effective.mesh
    destination = {"spiffe": to.spiffe(mesh), "ports": [to.ports[0].port]}
    rules = [
        {"from": {"spiffe": source.spiffe(mesh)}, "to": [dict(destination)]}
        for source in _sources(site)
    ]
    document = {
        "apiVersion": _API,
        "kind": ServiceAccessPolicy.KIND,
        "metadata": {"name": "lab-change"},
        "spec": {"rules": rules, "defaultAction": "DENY"},
    }
    return yaml.safe_dump(document, sort_keys=False)


@contextmanager
def _policy(site: Site) -> Iterator[Path]:
    """The file of the rules, which is not there before, and not afterwards."""
    path = site.layout.policies / _FILE
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


# --- What is said ---------------------------------------------------------------------------------


def as_json(found: Changes) -> dict[str, Any]:
    """The figures for programs."""
    return {
        "held": not found.surprises,
        "bound_seconds": BOUND,
        "grant": _change_json(found.grant),
        "revocation": _change_json(found.revocation),
        "surprises": list(found.surprises),
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "up_seconds": round(change.up, 2),
        "flows": change.concerned,
        "new_seconds": _span(change.new),
        "kept_seconds": _span(change.kept),
        "others_cut": len(change.cut),
        "others_failed": len(change.failed),
    }


def _span(found: Sequence[float]) -> dict[str, float] | None:
    if not found:
        return None
    return {"first": round(min(found), 2), "last": round(max(found), 2)}


def show(console: Console, found: Changes) -> None:
    """Print the figures."""
    for name, change in (("grant", found.grant), ("revocation", found.revocation)):
        console.print(f"{name}: {_said(change)}", highlight=False)
    for sentence in found.surprises:
        console.print(f"[red]{escape(sentence)}")


def _said(change: Change) -> str:
    when = "never for all" if change.last is None else f"for all {change.last:.1f} s after its end"
    return (
        f"`pulumi up` took {change.up:.1f} s; in force {when}; of others {len(change.cut)} "
        f"connections were cut, {len(change.failed)} failed"
    )
