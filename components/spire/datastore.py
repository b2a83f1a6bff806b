"""The database that the servers share, and how they learn its password: from a file of a Secret."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from components.generated_secret import Recipe
from components.postgres import SUPERUSER_KEY, Postgres, postgres_manifests
from components.settings import ClusterDatabase, ExistingDatabase, StackSettings
from components.spire.names import DATASTORE, labels
from zt.wellknown import SPIRE_DATASTORE, SPIRE_NAMESPACE

Json = dict[str, Any]

_FILE = PurePosixPath(SPIRE_DATASTORE)
FOLDER = str(_FILE.parent)
# Beside it: the CA of the database's certificate, for `sslrootcert`.
_CA = "ca.crt"
_ROLE = "spire"


def volume(datastore: ExistingDatabase | ClusterDatabase) -> Json:
    """The file, and the CA where the Secret has one."""
    if isinstance(datastore, ExistingDatabase):
        return _volume(datastore.secret, datastore.key, _CA)
    return _volume(DATASTORE, _FILE.name, "tls.crt")


def _volume(secret: str, key: str, authority: str) -> Json:
    def of(source: str, path: str, **further: bool) -> Json:
        return {"secret": {"name": secret, "items": [{"key": source, "path": path}], **further}}

    sources = [of(key, _FILE.name), of(authority, _CA, optional=True)]
    return {"name": "datastore", "projected": {"sources": sources, "defaultMode": 0o440}}


def recipe() -> Recipe:
    """The Secret of a database in the cluster."""
    connection = (
        f"host={DATASTORE}.{SPIRE_NAMESPACE}.svc dbname={_ROLE} user={_ROLE}"
        f" password={{{_ROLE}}} sslmode=verify-full sslrootcert={FOLDER}/{_CA}"
    )
    text = f'database_type = "postgres"\nconnection_string = "{connection}"\n'
    return Recipe(
        namespace=SPIRE_NAMESPACE,
        secret=DATASTORE,
        passwords=(SUPERUSER_KEY, _ROLE),
        texts={_FILE.name: text},
        certificate=(f"{DATASTORE}.{SPIRE_NAMESPACE}.svc",),
    )


def manifests(settings: StackSettings) -> list[Json]:
    """Service and StatefulSet of a database in the cluster; none where one exists."""
    datastore = settings.spire.datastore
    if isinstance(datastore, ExistingDatabase):
        return []
    return postgres_manifests(
        Postgres(
            name=DATASTORE,
            namespace=SPIRE_NAMESPACE,
            image=settings.images.postgres,
            settings=datastore,
            database=_ROLE,
            owner=_ROLE,
            account=DATASTORE,
            secret=DATASTORE,
            labels=labels(DATASTORE),
            tls=True,
        )
    )
