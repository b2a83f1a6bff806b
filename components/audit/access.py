"""Who logs in to the audit database, and in which Secrets their DSNs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.evaluator.pod import DATABASE_CA, DATABASE_CA_FOLDER, dsn_reference
from components.settings import ClusterDatabase, ExistingTrail, ManagedDatabase, StackSettings

DATABASE = "zt_audit"
# The evaluator's login, and that of retention.
ENGINE_LOGIN, KEEPER_LOGIN = "zt_engine", "zt_keeper"
# Where programs find DSNs, each a file.
FOLDER = "/run/zt/audit"

NO_CLUSTER = (
    "hanzo-zt:audit.managed.clusterId is missing: the firewall of a managed database lets in one"
    " Kubernetes cluster, so give the ID that `doctl kubernetes cluster list` shows for it"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A key of a Secret in the evaluator's namespace."""

    secret: str
    key: str


# Where the stack itself puts the owner's DSN, and that of retention.
ADMIN = Reference("zt-audit-admin", "dsn")
KEEPER = Reference("zt-audit-retention", "dsn")


@dataclass(frozen=True, slots=True)
class Access:
    """Where the DSNs are: the evaluator's, the owner's, that of retention.

    ``create`` says that migration makes the logins of the other two itself. ``meshed`` says that
    the way to the database leads through the sidecars.
    """

    writer: Reference
    admin: Reference | None
    keeper: Reference | None
    create: bool
    meshed: bool


def access_of(settings: StackSettings) -> Access:
    """What a stack's audit database is reached by."""
    found = dsn_reference(settings)
    writer = Reference(found["name"], found["key"])
    match settings.audit:
        case ExistingTrail(secret=secret, admin_key=admin, retention_key=retention):
            return Access(
                writer,
                Reference(secret, admin) if admin else None,
                Reference(secret, retention) if retention else None,
                create=False,
                meshed=True,
            )
        case ClusterDatabase():
            return Access(writer, ADMIN, KEEPER, create=True, meshed=True)
        case ManagedDatabase():
            return Access(writer, ADMIN, KEEPER, create=False, meshed=False)


def files(references: dict[str, Reference | None]) -> dict[str, Any]:
    """A volume with DSNs as files, by the names that they get."""
    sources = [
        {
            "secret": {
                "name": reference.secret,
                "items": [{"key": reference.key, "path": name}],
            }
        }
        for name, reference in references.items()
        if reference
    ]
    return {"name": "dsn", "projected": {"defaultMode": 0o440, "sources": sources}}


def volumes(references: dict[str, Reference | None]) -> list[dict[str, Any]]:
    """What a program that connects to the database mounts."""
    ca = {"name": "database-ca", "configMap": {"name": DATABASE_CA, "optional": True}}
    return [files(references), ca]


def mounts() -> Iterator[dict[str, Any]]:
    """Where it mounts them."""
    yield {"name": "dsn", "mountPath": FOLDER, "readOnly": True}
    yield {"name": "database-ca", "mountPath": DATABASE_CA_FOLDER, "readOnly": True}
