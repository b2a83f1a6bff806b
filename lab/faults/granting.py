"""Grants calls and revokes them, under traffic.

The rules let every team's service of a cluster call one that hardly any may call. They are a file
of its own among the policies of the lab; the grant is that file and `pulumi up`, the revocation
the same without it. Times count from the end of `pulumi up`. Sidecars are dialled at their loopback
address for the new upstream: its name is part of a pod, and these pods were made before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from lab.cluster.model import LabError
from lab.faults.change import BOUND, Change, Changes, measured, said
from lab.faults.flows import asked
from lab.faults.run import Report, unsteady
from lab.faults.site import Site
from lab.faults.tally import Edge, Flow, Seen, Side
from lab.faults.traffic import Dialled, Traffic, running, until_steady
from lab.services.manifests import team_services
from lab.up.stacks import stacks
from zt.effective import EffectiveService
from zt.model import Service, ServiceAccessPolicy
from zt.placement import InCluster

_QUIET, _PATIENCE = 5.0, 120.0
_PAUSE = 0.2
_EVERY = 0.25
_FILE = Path("access") / "lab-change.yaml"
_API = "zt.hanzo.ai/v1"


def run(site: Site, report: Report) -> Changes:
    """Grant and revoke, twice, and watch. The second time NetworkPolicies have no part in it.

    Raises:
        LabError: if traffic is not steady, or a stack can't be brought up.
    """
    concerned = tuple(_concerned(site))
    flows = {item.flow for item in concerned}
    with _policy(site) as policy:
        _settle(site, report)
        with running(site.dial, (*site.flows(), *concerned)) as traffic:
            if not until_steady(traffic, _QUIET, _PATIENCE):
                raise LabError(f"before the change, {unsteady(traffic)}")
            report(f"granting {len(flows)} flows to {_target(site).name}")
            rules = _rules(site)
            grant = _granted(site, traffic, flows, policy, rules)
            report(f"granted: {said(grant)}")
            revocation = _revoked(site, traffic, flows, policy)
            report(f"revoked: {said(revocation)}")
            _granted(site, traffic, flows, policy, rules)
            with site.network_policies_held():
                alone = _revoked(site, traffic, flows, policy)
            report(f"revoked, by sidecars alone: {said(alone)}")
    return Changes(grant, revocation, alone)


def _settle(site: Site, report: Report) -> None:
    """Bring the stack up as it is: what else is new in it is not to be measured."""
    with stacks(site.layout) as opened:
        outcome = opened.up(site.cluster)
    if outcome.changes:
        report(f"{len(outcome.changes)} resources had to follow first; waiting until they have")
        time.sleep(BOUND)


def _granted(site: Site, traffic: Traffic, flows: set[Flow], policy: Path, rules: str) -> Change:
    policy.write_text(rules, encoding="utf-8")
    return _changed(site, traffic, flows, granted=True)


def _revoked(site: Site, traffic: Traffic, flows: set[Flow], policy: Path) -> Change:
    policy.unlink()
    return _changed(site, traffic, flows, granted=False)


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
