"""The order in which a lab comes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.cluster import controlplane
from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane, LabError, Layout
from lab.images.build import images, missing
from lab.images.importing import import_all
from lab.mesh.policies import read
from lab.nodes import dns
from lab.nodes.model import nodes_of
from lab.services.manifests import namespaces, workloads
from lab.services.policies import lay
from lab.up.furnish import furnishing
from lab.up.gather import gather
from lab.up.kms import make_root, open_kms, public_keys, remember
from lab.up.known import wait_known
from lab.up.objects import apply_all
from lab.up.ready import wait_ready
from lab.up.stacks import Stacks, stacks
from zt.model import Policy

Report = Callable[[str], None]

# Pods of one cluster become ready within so many seconds, also on a machine with two cores.
_PATIENCE = 300.0
# And are known to whoever may call them within so many more.
_KNOWN = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a lab is made of: the policies, and whether certificates live for minutes only."""

    policies: Path
    short: bool = False


@dataclass(frozen=True, slots=True)
class _Lab:
    layout: Layout
    planes: tuple[ControlPlane, ...]
    policy: Policy
    report: Report

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(plane.name for plane in self.planes)

    def api(self, cluster: str) -> Client:
        return client(self.layout.kubeconfig(cluster))


def bring_up(folder: Path, options: Options, report: Report) -> tuple[ControlPlane, ...]:
    """Bring both clusters up, with nodes, the mesh, and the teams' services.

    What was begun goes on if it fails, so that it can be looked at; ``zt lab down`` ends it.

    Raises:
        LabError: with what went wrong, and where its logs were gathered.
    """
    layout = Layout(folder.absolute())
    policy = read(options.policies)
    if lacks := (*controlplane.missing(nodes=True, kms=True), *missing()):
        raise LabError(f"a lab needs what is missing here: {'; '.join(dict.fromkeys(lacks))}")
    built = images(report)
    planes = controlplane.up(folder, policy.mesh.clusters, report, nodes=True, kms=True)
    report("laying the lab's own policies over the product's")
    lay(options.policies, layout.policies, short=options.short)
    lab = _Lab(layout, planes, read(layout.policies), report)
    clusters = controlplane.clusters_in(layout)
    import_all(built, [node.containerd for node in nodes_of(layout, clusters)], report)
    for cluster in clusters:
        dns.install(lab.api(cluster.name), cluster)
        apply_all(lab.api(cluster.name), namespaces(lab.policy, cluster.name))
    _install(lab)
    _deploy(lab)
    return planes


def _install(lab: _Lab) -> None:
    """Both stacks, one after the other: the engine runs one program in a process at a time."""
    lab.report("opening the KMS")
    kms = open_kms(lab.layout, lab.policy, lab.clusters)
    root = make_root(lab.layout, kms, lab.policy, lab.report)
    with stacks(lab.layout) as opened:
        for cluster in lab.clusters:
            with furnishing(lab.api(cluster), root):
                _up(lab, opened, cluster)
        remember(lab.layout, public_keys(kms, lab.clusters, lab.report))
        for cluster in lab.clusters:
            _up(lab, opened, cluster)
    _settled(lab, "the mesh")


def _up(lab: _Lab, opened: Stacks, cluster: str) -> None:
    lab.report(f"pulumi up of lab-{cluster}")
    outcome = opened.up(cluster)
    lab.report(f"{outcome.resources} resources in {outcome.seconds:.1f} s")


def _deploy(lab: _Lab) -> None:
    """The teams' services, once there is who injects their sidecars."""
    for plane in lab.planes:
        found = workloads(lab.policy, plane.name)
        lab.report(f"{plane.name}: deploying {len(found)} objects of the teams")
        apply_all(lab.api(plane.name), found)
    _settled(lab, "the services")
    for plane in lab.planes:
        with _gathered(lab, plane.name) as api:
            wait_known(api, lab.clusters, _KNOWN)


def _settled(lab: _Lab, what: str) -> None:
    for plane in lab.planes:
        with _gathered(lab, plane.name) as api:
            wait_ready(api, plane.name, lab.report, _PATIENCE)
        lab.report(f"{plane.name}: {what} runs")


@contextmanager
def _gathered(lab: _Lab, cluster: str) -> Iterator[Client]:
    """The API of a cluster. Whoever waits for it in vain finds its logs in one folder."""
    api = lab.api(cluster)
    try:
        yield api
    except LabError as error:
        folder = gather(lab.layout, cluster, api)
        raise LabError(f"{error}; logs are in {folder}") from None
