"""The audit database as DigitalOcean manages it.

Its passwords are made by DigitalOcean, so they pass through the state, as encrypted secrets.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_digitalocean as digitalocean

from components.audit.access import (
    ADMIN,
    DATABASE,
    ENGINE_LOGIN,
    KEEPER,
    KEEPER_LOGIN,
    NO_CLUSTER,
    Reference,
)
from components.evaluator.pod import DATABASE_CA, DATABASE_CA_FOLDER
from components.pods import metadata
from components.settings import ManagedDatabase

_CA_FILE = "ca.crt"
# Whoever it is that answers has a certificate of DigitalOcean's CA for this project's databases;
# which names are in it is not documented.
_TLS = f"sslmode=verify-ca&sslrootcert={DATABASE_CA_FOLDER}/{_CA_FILE}"


@dataclass(frozen=True, slots=True)
class Managed:
    """The resources that others need."""

    cluster: digitalocean.DatabaseCluster
    database: digitalocean.DatabaseDb
    engine: digitalocean.DatabaseUser
    keeper: digitalocean.DatabaseUser


def managed_database(
    name: str, settings: ManagedDatabase, parent: pulumi.ComponentResource
) -> Managed:
    """The database cluster, which the Kubernetes cluster alone may reach, and what is in it."""
    inside = pulumi.ResourceOptions(parent=parent)
    cluster = digitalocean.DatabaseCluster(
        name,
        name=name,
        engine="pg",
        version=settings.version,
        size=settings.size,
        node_count=settings.nodes,
        region=settings.region,
        private_network_uuid=settings.network,
        # A year of evidence: nobody deletes it by the way.
        opts=pulumi.ResourceOptions(parent=parent, protect=True),
    )
    digitalocean.DatabaseFirewall(
        name,
        cluster_id=cluster.id,
        rules=[{"type": "k8s", "value": _required(settings.cluster_id)}],
        opts=inside,
    )
    database = digitalocean.DatabaseDb(name, cluster_id=cluster.id, name=DATABASE, opts=inside)
    users = [
        digitalocean.DatabaseUser(f"{name}-{user}", cluster_id=cluster.id, name=user, opts=inside)
        for user in (ENGINE_LOGIN, KEEPER_LOGIN)
    ]
    return Managed(cluster, database, *users)


def secret_manifests(managed: Managed, namespace: str, writer: Reference) -> list[dict[str, Any]]:
    """The Secrets with the DSNs, by name and key as ``access_of`` says."""
    cluster = managed.cluster
    logins = {
        writer: (managed.engine.name, managed.engine.password),
        KEEPER: (managed.keeper.name, managed.keeper.password),
        ADMIN: (cluster.user, cluster.password),
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(reference.secret, namespace),
            "type": "Opaque",
            "data": {reference.key: _dsn(managed, user, password).apply(_encoded)},
        }
        for reference, (user, password) in logins.items()
    ]


def ca_manifest(managed: Managed, namespace: str) -> dict[str, Any]:
    """The CA of the server's certificate; it is public."""
    ca = digitalocean.get_database_ca_output(cluster_id=managed.cluster.id)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(DATABASE_CA, namespace),
        "data": {_CA_FILE: ca.certificate},
    }


def _dsn(
    managed: Managed, user: pulumi.Output[str], password: pulumi.Output[str]
) -> pulumi.Output[str]:
    """Names the database by its own resource, so that nothing connects before that is there."""
    cluster = managed.cluster
    parts = pulumi.Output.all(
        user, password, cluster.private_host, cluster.port, managed.database.name
    )
    dsn = parts.apply(lambda found: "postgresql://{}:{}@{}:{}/{}?{}".format(*found, _TLS))
    return pulumi.Output.secret(dsn)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _required(cluster_id: Any) -> Any:  # noqa: ANN401 - text, or an output of it
    if cluster_id is None:
        raise pulumi.RunError(NO_CLUSTER)
    return cluster_id
