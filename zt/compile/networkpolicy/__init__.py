"""NetworkPolicies (``networking.k8s.io/v1``) of one cluster: what the kernel lets through.

HIP-54, "Microsegmentation via Network Policies". A connection to a service follows the phase of its
destination, one to the outside that of its source. Kubernetes has no observe mode, so whatever is
not in phase ``enforce`` is not restricted at all, and an enforced service may always call it.

- ``<service>-ingress`` and ``<service>-egress`` of each enforced service: what the rules grant, and
  what its own pods say to each other on its ``peerPorts``.
  What crosses clusters goes through the pods of the own cluster's gateway. The evaluator, the
  gateway and who scrapes metrics find here also what that role needs.
- ``allow-dns``, ``allow-evaluator``, ``allow-metrics``, ``allow-probes`` in each namespace that has
  an enforced service: what every sidecar needs. They select the enforced services by name, because
  to select a pod is to isolate it. A selector that is no plain ``app`` label gets a policy of its
  own, ``allow-dns.<first service so selected>``.
- Where the step of the rollout is ``declaredOnly``: ``default-deny`` in each namespace that has a
  service, and ``<service>-observed``, which lifts it from a service that is not enforced.
"""

from __future__ import annotations

from collections.abc import Iterator

from zt.bundle import CompiledFile
from zt.compile.networkpolicy.grants import among_peers, from_clients, to_externals, to_upstreams
from zt.compile.networkpolicy.objects import Pods, policy, rules
from zt.compile.networkpolicy.roles import baseline, egress_roles, ingress_roles
from zt.compile.networkpolicy.view import View
from zt.effective import Effective, EffectiveService


def compile_networkpolicies(effective: Effective, cluster: str) -> Iterator[CompiledFile]:
    """All NetworkPolicies of a cluster, at ``networkpolicies/<namespace>/<name>.yaml``."""
    home = effective.mesh.cluster(cluster)
    if home is None:
        return
    view = View(effective, home)
    for item in view.enforced:
        yield _ingress(view, item)
        yield _egress(view, item)
    yield from baseline(view)
    rollout = effective.policy.rollout
    step = rollout.step() if rollout else None
    if step and step.declared_only:
        yield from _default_deny(view)


def _ingress(view: View, item: EffectiveService) -> CompiledFile:
    service = item.service
    flows = [
        *from_clients(view, item),
        *among_peers(view, service),
        *ingress_roles(view, service),
    ]
    items = rules("from", service.namespace, flows)
    header = f"Who may connect to {service.name}; whoever is not here is refused."
    return policy(f"{service.name}-ingress", view.pods(service), header, ingress=items)


def _egress(view: View, item: EffectiveService) -> CompiledFile:
    service = item.service
    flows = [
        *to_upstreams(view, item),
        *among_peers(view, service),
        *to_externals(view, item),
        *egress_roles(view, service),
    ]
    items = [*rules("to", service.namespace, flows), *view.open_egress]
    header = f"What {service.name} may connect to; whatever is not here is refused."
    return policy(f"{service.name}-egress", view.pods(service), header, egress=items)


def _default_deny(view: View) -> Iterator[CompiledFile]:
    for namespace in sorted({item.service.namespace for item in view.services}):
        header = "declaredOnly: what no Service declares has no network at all."
        yield policy("default-deny", Pods(namespace, ()), header, ingress=[], egress=[])
    for item in view.observed:
        service = item.service
        header = f"{service.name} is in phase {item.phase}: default-deny must not cut it."
        name = f"{service.name}-observed"
        yield policy(name, view.pods(service), header, ingress=[{}], egress=[{}])
