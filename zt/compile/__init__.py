"""A policy into everything that enforces it in one cluster."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from zt.bundle import Bundle, CompiledFile
from zt.compile.admission import compile_admission
from zt.compile.audit import compile_audit
from zt.compile.decisions import compile_decisions
from zt.compile.envoy import compile_envoy
from zt.compile.injection import compile_injection
from zt.compile.networkpolicy import compile_networkpolicies
from zt.compile.spire import compile_spire
from zt.compile.wireguard import compile_wireguard
from zt.decide import decision_table
from zt.effective import Effective, effective
from zt.facts import facts_of
from zt.memory import collector_paused
from zt.model import Mesh, Policy
from zt.nearest import did_you_mean

# Planes that are of a Kubernetes cluster; a place outside has none of them.
_CLUSTER_PLANES = (
    compile_networkpolicies,
    compile_spire,
    compile_wireguard,
    compile_admission,
    compile_injection,
    compile_audit,
)


def compile_policy(policy: Policy, cluster: str, today: date) -> Bundle:
    """Compile a policy for one cluster, or for a place outside: Envoy and decisions alone.

    Raises:
        ValueError: if the mesh has no such cluster.
    """
    _require(policy.mesh, cluster)
    with collector_paused():
        resolved = effective(policy, today)
        files = (
            *compile_envoy(resolved, cluster),
            *compile_decisions(resolved, cluster, decision_table(policy, today)),
            *_cluster_files(resolved, cluster),
        )
    return Bundle(cluster, files, facts_of(resolved, cluster))


def _cluster_files(resolved: Effective, cluster: str) -> Iterator[CompiledFile]:
    if resolved.mesh.cluster(cluster) is None:
        return
    for plane in _CLUSTER_PLANES:
        yield from plane(resolved, cluster)


def _require(mesh: Mesh, cluster: str) -> None:
    places = [*(item.name for item in mesh.clusters), *mesh.outside]
    if cluster not in places:
        near = did_you_mean(cluster, places)
        raise ValueError(
            f"{cluster!r} is no cluster of mesh {mesh.name!r}{near}: use one of {', '.join(places)}"
        )
