"""The audit database in the cluster: the Service ``zt-audit-db`` of the policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pulumi

from components.audit.access import (
    ADMIN,
    DATABASE,
    ENGINE_LOGIN,
    KEEPER,
    KEEPER_LOGIN,
    Reference,
)
from components.evaluator.pod import injected
from components.generated_secret import Recipe
from components.postgres import PORT, SUPERUSER, SUPERUSER_KEY, Postgres, postgres_manifests
from components.settings import ClusterDatabase, StackSettings
from zt.bundle import Bundle
from zt.model import Service

SERVICE = "zt-audit-db"


def database_of(bundle: Bundle) -> Service:
    """The service that the database runs as.

    Raises:
        pulumi.RunError: if the policy has none that fits.
    """
    for sentence in misplaced(bundle):
        raise pulumi.RunError(sentence)
    assert bundle.facts  # noqa: S101 - see above
    found = bundle.facts.service(SERVICE)
    assert found  # noqa: S101 - see above
    return found


def misplaced(bundle: Bundle) -> Iterator[str]:
    """Why the policy has no such service; a sentence that says what to do."""
    facts = bundle.facts
    database = facts.service(SERVICE) if facts else None
    evaluator = facts.evaluator if facts else None
    if database is None:
        yield (
            f"hanzo-zt:audit.inCluster runs as Service {SERVICE}, which the policy does not declare"
            f" in cluster {bundle.cluster}: declare it there, or set hanzo-zt:audit.existing"
        )
    elif evaluator and database.namespace != evaluator.namespace:
        yield (
            f"Service {SERVICE} is in namespace {database.namespace}, and the evaluator, whose"
            f" Secrets it shares, in {evaluator.namespace}: declare both in one"
        )


def recipes(database: Service, writer: Reference) -> list[Recipe]:
    """The Secrets: one for each login, so that nobody gets another's by the way."""
    logins = {
        writer: (ENGINE_LOGIN, "AUDIT_DATABASE_PASSWORD"),
        KEEPER: (KEEPER_LOGIN, "password"),
        ADMIN: (SUPERUSER, SUPERUSER_KEY),
    }
    host = f"{database.name}.{database.namespace}.svc"
    # The sidecars carry it: between the pods it is mTLS, inside them loopback.
    dsn = "postgresql://{}:{{{}}}@{}:{}/{}?sslmode=disable"
    return [
        Recipe(
            namespace=database.namespace,
            secret=reference.secret,
            passwords=(word,),
            texts={reference.key: dsn.format(user, word, host, PORT, DATABASE)},
        )
        for reference, (user, word) in logins.items()
    ]


def database_manifests(
    bundle: Bundle, settings: StackSettings, storage: ClusterDatabase, database: Service
) -> list[dict[str, Any]]:
    """The database's objects; its pod comes with its sidecar."""
    server = Postgres(
        name=database.name,
        namespace=database.namespace,
        image=settings.images.postgres,
        settings=storage,
        database=DATABASE,
        secret=ADMIN.secret,
        labels=database.labels,
        account=database.account,
        # Its sidecar alone connects to it.
        listen="127.0.0.1",
    )
    *others, stateful_set = postgres_manifests(server)
    spec = stateful_set["spec"]
    template = injected(bundle, settings, database, spec["template"])
    return [*others, {**stateful_set, "spec": {**spec, "template": template}}]
