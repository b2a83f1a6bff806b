"""What a stack has of the audit trail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pulumi

from components.audit.access import NO_CLUSTER, Access, access_of
from components.audit.in_cluster import database_manifests, database_of, misplaced, recipes
from components.audit.programs import migration_manifest, retention_manifest, schema_manifest
from components.evaluator import evaluator_of
from components.generated_secret import GeneratedSecrets
from components.kube import register
from components.settings import Adopted, ClusterDatabase, ManagedDatabase, StackSettings
from zt.bundle import Bundle
from zt.model import Service

_CIRCLE = (
    "hanzo-zt:evaluator.durability db can't be had with audit.inCluster: the evaluator is asked"
    " whether it may reach the database, and could not answer before the answer is recorded there;"
    " set disk, or use a managed database"
)


class Audit(pulumi.ComponentResource):
    """The database, or what leads to it; its migration, and its retention.

    Nothing here waits for anything else of it: pods wait for their Secrets, and programs for the
    database. Nor does the evaluator wait for it; rather the other way round, since a connection to
    a database in the cluster is one that the evaluator is asked about.
    """

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Audit", name, None, opts)
        service, access = evaluator_of(bundle), access_of(settings)
        match settings.audit:
            case ClusterDatabase() as storage:
                self._register(_in_cluster(name, bundle, settings, storage, self))
            case ManagedDatabase() as managed:
                self._register(_managed(name, managed, service, access, self))
        if access.admin:
            schema = register(schema_manifest(bundle, service), self)
            job = migration_manifest(bundle, settings, service, access)
            register(job, self, depends_on=[schema])
        if access.keeper:
            register(retention_manifest(bundle, settings, service, access), self)
        self.register_outputs({"secret": f"{service.namespace}/{access.writer.secret}"})

    def _register(self, manifests: Iterable[dict[str, Any]]) -> None:
        for manifest in manifests:
            register(manifest, self)


def refusals(bundle: Bundle, settings: StackSettings) -> tuple[str, ...]:
    """What is wrong with a stack's settings for this policy: sentences that say what to do."""
    match settings.audit:
        case ClusterDatabase():
            circle = (_CIRCLE,) if settings.evaluator.durability == "db" else ()
            return (*misplaced(bundle), *circle)
        case ManagedDatabase(cluster_id=None) if isinstance(settings.kubernetes, Adopted):
            return (NO_CLUSTER,)
        case _:
            return ()


def _in_cluster(
    name: str,
    bundle: Bundle,
    settings: StackSettings,
    storage: ClusterDatabase,
    parent: pulumi.ComponentResource,
) -> list[dict[str, Any]]:
    database = database_of(bundle)
    GeneratedSecrets(
        f"{name}-passwords",
        recipes(database, access_of(settings).writer),
        settings.images.evaluator,
        pulumi.ResourceOptions(parent=parent),
    )
    return database_manifests(bundle, settings, storage, database)


def _managed(
    name: str,
    settings: ManagedDatabase,
    service: Service,
    access: Access,
    parent: pulumi.ComponentResource,
) -> list[dict[str, Any]]:
    # As for a cluster: DigitalOcean's types take long to import.
    from components.audit.managed import (  # noqa: PLC0415
        ca_manifest,
        managed_database,
        secret_manifests,
    )

    managed = managed_database(name, settings, parent)
    secrets = secret_manifests(managed, service.namespace, access.writer)
    return [*secrets, ca_manifest(managed, service.namespace)]
