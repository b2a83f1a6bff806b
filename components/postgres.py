"""A PostgreSQL in the cluster: one pod, a volume, and passwords from a Secret made there.

The volume stays when the stack is destroyed. Since its passwords go then, each start sets those of
the Secret. Another major version needs a dump and a new volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.pods import container_security, metadata, pod_security, resources
from components.rbac import service_account
from components.settings import ClusterDatabase

SUPERUSER = "postgres"
# The key of the superuser's password in the Secret.
SUPERUSER_KEY = "superuser"
PORT = 5432
# The user of PostgreSQL's own images.
_USER = 999
_VOLUME, _DATA = "/var/lib/zt", "/var/lib/zt/data"
_PASSWORDS, _TLS = "/run/zt/passwords", "/run/zt/tls"

# In single-user mode nobody else can connect yet. What is half made has another name. A server that
# was killed with its node left its lock: of process 1, which this shell is now, and no server. (The
# shell asks for its own number so because Kubernetes makes one dollar of two.)
_PREPARE = f"""\
set -eu
umask 077
read -r PG_GRANDPARENT_PID rest < /proc/self/stat
export PG_GRANDPARENT_PID
alone() {{
  postgres --single -c exit_on_error=on -D "$1" postgres > /dev/null
}}
if [ ! -s {_DATA}/PG_VERSION ]; then
  rm -rf {_DATA}.new
  initdb --pgdata={_DATA}.new --username={SUPERUSER} --pwfile={_PASSWORDS}/{SUPERUSER_KEY} \\
    --auth-host=scram-sha-256 --auth-local=reject --encoding=UTF8 --locale=C --data-checksums
  {{
    if [ "$OWNER" != {SUPERUSER} ]; then echo "CREATE ROLE \\"$OWNER\\" LOGIN;"; fi
    echo "CREATE DATABASE \\"$DATABASE\\" OWNER \\"$OWNER\\";"
  }} | alone {_DATA}.new
  mv {_DATA}.new {_DATA}
fi
chmod 0700 {_DATA}
echo "$HOST all all all scram-sha-256" > {_DATA}/pg_hba.conf
{{
  printf "ALTER ROLE {SUPERUSER} PASSWORD '%s';\\n" "$(cat {_PASSWORDS}/{SUPERUSER_KEY})"
  if [ "$OWNER" != {SUPERUSER} ]; then
    printf "ALTER ROLE \\"$OWNER\\" PASSWORD '%s';\\n" "$(cat "{_PASSWORDS}/$OWNER")"
  fi
}} | alone {_DATA}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A server with one database.

    ``secret`` names the Secret with the superuser's password (``SUPERUSER_KEY``) and, by its name,
    that of the database's ``owner`` where it is another. ``listen`` is PostgreSQL's
    ``listen_addresses``. With ``tls`` it takes no connection without, and the Secret has
    ``tls.key`` and ``tls.crt``.
    """

    name: str
    namespace: str
    image: str
    settings: ClusterDatabase
    database: str
    secret: str
    labels: Mapping[str, str]
    account: str
    owner: str = SUPERUSER
    listen: str = "*"
    tls: bool = False


def postgres_manifests(server: Postgres) -> list[dict[str, Any]]:
    """The service account, the Service and the StatefulSet."""
    account = service_account(server.account, server.namespace)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(server.name, server.namespace),
        "spec": {
            "selector": dict(server.labels),
            "ports": [{"name": "postgres", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }
    return [account, service, _stateful_set(server)]


def _stateful_set(server: Postgres) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(server.name, server.namespace),
        "spec": {
            "replicas": 1,
            "serviceName": server.name,
            "selector": {"matchLabels": dict(server.labels)},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            },
            "volumeClaimTemplates": [_claim(server.settings)],
            "template": {
                "metadata": {"labels": {**metadata(server.name)["labels"], **server.labels}},
                "spec": _pod(server),
            },
        },
    }


def _claim(settings: ClusterDatabase) -> dict[str, Any]:
    kind = {"storageClassName": settings.storage_class} if settings.storage_class else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": settings.storage}},
            **kind,
        },
    }


def _pod(server: Postgres) -> dict[str, Any]:
    security = {**pod_security(_USER), "fsGroupChangePolicy": "OnRootMismatch"}
    return {
        "serviceAccountName": server.account,
        "automountServiceAccountToken": False,
        "securityContext": security,
        "terminationGracePeriodSeconds": 60,
        "initContainers": [_prepare(server)],
        "containers": [_server(server)],
        "volumes": list(_volumes(server)),
    }


def _volumes(server: Postgres) -> Iterator[dict[str, Any]]:
    owner = [] if server.owner == SUPERUSER else [server.owner]
    yield _secret("passwords", server.secret, (SUPERUSER_KEY, *owner))
    if server.tls:
        yield _secret("tls", server.secret, ("tls.key", "tls.crt"))
    yield {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}}


def _secret(volume: str, name: str, keys: Sequence[str]) -> dict[str, Any]:
    items = [{"key": key, "path": key} for key in keys]
    return {
        "name": volume,
        "secret": {"secretName": name, "defaultMode": 0o440, "items": items},
    }


def _container(server: Postgres, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": server.image,
        "resources": resources("100m", "256Mi", "1Gi"),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": _VOLUME},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - the container's own
        ],
    }


def _prepare(server: Postgres) -> dict[str, Any]:
    """Alone sees the passwords."""
    container = _container(server, "prepare")
    container["volumeMounts"].append(
        {"name": "passwords", "mountPath": _PASSWORDS, "readOnly": True}
    )
    return {
        **container,
        "command": ["sh", "-c", _PREPARE],
        "env": [
            {"name": "DATABASE", "value": server.database},
            {"name": "OWNER", "value": server.owner},
            {"name": "HOST", "value": "hostssl" if server.tls else "host"},
        ],
    }


def _server(server: Postgres) -> dict[str, Any]:
    settings = {"listen_addresses": server.listen, "unix_socket_directories": ""}
    container = _container(server, "postgres")
    if server.tls:
        settings |= {
            "ssl": "on",
            "ssl_cert_file": f"{_TLS}/tls.crt",
            "ssl_key_file": f"{_TLS}/tls.key",
        }
        container["volumeMounts"].append({"name": "tls", "mountPath": _TLS, "readOnly": True})
    options = [part for item in settings.items() for part in ("-c", "=".join(item))]
    ready = {"exec": {"command": ["pg_isready", "--host=127.0.0.1", "--quiet"]}}
    return {
        **container,
        "command": ["postgres", "-D", _DATA, *options],
        "ports": [{"name": "postgres", "containerPort": PORT}],
        # SIGTERM would wait for clients to leave.
        "lifecycle": {
            "preStop": {"exec": {"command": ["pg_ctl", "stop", "-D", _DATA, "--mode=fast"]}}
        },
        # Recovery after a crash takes as long as it takes.
        "startupProbe": {**ready, "periodSeconds": 5, "failureThreshold": 360},
        "readinessProbe": {**ready, "periodSeconds": 5},
        "livenessProbe": {**ready, "periodSeconds": 10, "failureThreshold": 6},
    }
