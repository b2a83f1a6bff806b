"""A local mesh as it is planned, before anything of it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.mesh import policies
from lab.mesh.addresses import Plan, TooLargeError, plan
from lab.mesh.database import Database
from lab.mesh.folders import Folders
from lab.mesh.placement import LocalPlacement
from lab.mesh.processes import MeshError, State
from zt.effective import Effective, effective
from zt.model import Service


@dataclass(frozen=True, slots=True)
class Options:
    """What ``up`` was asked for."""

    policies: Path
    phase: str | None = None
    svid_lifetime: int | None = None


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh as planned: everything that its parts are started from."""

    folders: Folders
    effective: Effective
    plan: Plan
    placement: LocalPlacement
    svid_lifetime: int

    @property
    def services(self) -> tuple[Service, ...]:
        """All services, in the clusters and outside."""
        return tuple(item.service for item in self.effective.services)

    @property
    def database(self) -> Database:
        """The audit database."""
        return Database(self.plan.database, self.folders.passwords)

    @property
    def clusters(self) -> tuple[str, ...]:
        """Clusters that have an evaluator of their own."""
        name = self.effective.mesh.infrastructure.evaluator
        return tuple(c for c in self.plan.evaluators if self.effective.find(c, name))


def mesh_of(folders: Folders, block: int, svid_lifetime: int | None) -> Mesh:
    """Plan the mesh of a run folder's policies, in a block of addresses.

    Raises:
        MeshError: if they have errors, no evaluator, or do not fit on one machine.
    """
    policy = effective(policies.read(folders.policies), policies.today())
    evaluator = policy.mesh.infrastructure.evaluator
    if not any(policy.find(cluster.name, evaluator) for cluster in policy.mesh.clusters):
        raise MeshError(f"no Service is the evaluator {evaluator!r}: nothing could be decided")
    try:
        planned = plan(policy, block)
    except TooLargeError as error:
        raise MeshError(str(error)) from None
    lifetime = svid_lifetime or policy.mesh.lifetimes.svid
    return Mesh(folders, policy, planned, LocalPlacement(policy, planned, folders), lifetime)


def running_mesh(folders: Folders, state: State) -> Mesh:
    """The mesh that a state file tells of."""
    return mesh_of(folders, state.facts["block"], state.facts["svid"])
