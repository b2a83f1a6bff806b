"""A running lab as it is verified: a pod for each service, dialers, and the trails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from components.audit.in_cluster import SERVICE as AUDIT_DATABASE
from lab.attack.certificates import own_issuer
from lab.cluster.client import Client, client
from lab.cluster.model import LabError, Layout, clusters_of
from lab.kms.reach import near
from lab.mesh.policies import read, today
from lab.mesh.processes import read_state
from lab.nodes.model import Node, nodes_of
from lab.nodes.pods import Pod, pods
from lab.services.manifests import waiting_job
from lab.verify.callers import Callers
from lab.verify.plan import Plan
from lab.verify.trail import trail_of
from lab.verify.verify import Stage
from zt.decide import decision_table
from zt.effective import effective
from zt.model import Policy, Service

_PATIENCE = 120.0
_JOBS = "/apis/batch/v1/namespaces/{}/jobs/{}"


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that runs. ``nodes`` are those of all clusters."""

    layout: Layout
    policy: Policy
    nodes: tuple[Node, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that have nodes."""
        return tuple(dict.fromkeys(node.cluster for node in self.nodes))

    def api(self, cluster: str) -> Client:
        """A cluster's API server, as the administrator."""
        return client(self.layout.kubeconfig(cluster))


def lab_of(layout: Layout) -> Lab:
    """The lab that runs in a folder.

    Raises:
        LabError: if none does.
    """
    state = read_state(layout.run)
    if state is None:
        raise LabError(f"no lab is running in {layout.root}: start one with `zt lab up`")
    nodes = nodes_of(layout, clusters_of(state.facts["clusters"]))
    return Lab(layout, read(layout.policies), nodes)


@contextmanager
def stages_of(lab: Lab, clusters: Iterable[str], callers: Callers) -> Iterator[tuple[Stage, ...]]:
    """Clusters, with a pod to call from for each service, also for those that are Jobs.

    Raises:
        LabError: if they can't be had.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(_stage(lab, cluster, callers)) for cluster in clusters]
        # What crosses is seen on both sides alone.
        name = lab.policy.mesh.infrastructure.gateway
        wanted = {cluster.name for cluster in lab.policy.mesh.clusters}
        tunnel = {stage.cluster for stage in found if name in stage.pods} == wanted
        yield tuple(replace(stage, plan=replace(stage.plan, tunnel=tunnel)) for stage in found)


@contextmanager
def _stage(lab: Lab, cluster: str, callers: Callers) -> Iterator[Stage]:
    api, policy = lab.api(cluster), lab.policy
    resolved = effective(policy, today())
    own = frozenset({policy.mesh.infrastructure.evaluator, AUDIT_DATABASE})
    services = tuple(item.service for item in resolved.in_cluster(cluster))
    with ExitStack() as stack:
        for service in services:
            if not service.ports:
                stack.enter_context(_waiting(api, service))
        trail = stack.enter_context(closing(trail_of(api, policy, cluster)))
        yield Stage(
            cluster=cluster,
            plan=Plan(resolved, decision_table(policy, today()), cluster, own, tunnel=False),
            pods=dict(_pods(api, services)),
            nodes={node.name: node for node in lab.nodes if node.cluster == cluster},
            callers=callers,
            issuer=own_issuer(near(lab.layout), cluster, policy.mesh.trust_domain),
            records=trail.settled,
        )


def _pods(api: Client, services: tuple[Service, ...]) -> Iterator[tuple[str, Pod]]:
    """The first ready pod of each service that has one."""
    ready = sorted(filter(_is_ready, pods(api)), key=lambda pod: pod.name, reverse=True)
    by_account = {(pod.namespace, pod.account): pod for pod in ready}
    for service in services:
        found = by_account.get((service.namespace, service.account))
        if found:
            yield service.name, found


def _is_ready(pod: Pod) -> bool:
    return pod.phase == "Running" and pod.ready and bool(pod.address)


@contextmanager
def _waiting(api: Client, service: Service) -> Iterator[None]:
    """A Job of a service that waits to be called from."""
    name = f"{service.name}-verify"
    path = _JOBS.format(service.namespace, name)
    api.apply(path, waiting_job(service, name))
    try:
        api.wait(path, partial(_has, "ready"), _PATIENCE)
        yield
    finally:
        api.delete(f"{path}?propagationPolicy=Background")


def _has(field: str, job: dict[str, dict[str, int]] | None) -> bool:
    return bool(job and job.get("status", {}).get(field))
