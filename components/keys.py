"""A private key from KMS on its way into a pod: read there, kept in memory, in no object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.pods import container_security, resources
from components.settings import KeySource

# Whom the pod's token is for: KMS accepts no token that was made for the API server.
AUDIENCE = "kms"
TOKEN_SECONDS = 600
_TOKEN_FOLDER = "/run/zt/kms"  # noqa: S105 - a folder
_TOKEN_VOLUME = "kms-token"  # noqa: S105 - a volume

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A secret of KMS, and the folder of a pod that it is written to.

    ``volume`` is the name of the folder's volume in the pod. ``user`` is who reads the files there:
    they are written with mode 0400. ``fields`` must be there and are all that is written; without
    any, all is. What is ``optional`` may not be there at all yet.
    """

    source: KeySource
    image: str
    volume: str
    folder: str
    user: int
    fields: tuple[str, ...] = ()
    optional: bool = False


def key_volumes(delivery: Delivery) -> list[Json]:
    """The folder, in memory alone; and the token by which the pod shows KMS who it is."""
    token = {"path": "token", "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS}
    return [
        {"name": delivery.volume, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {
            "name": _TOKEN_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o444},
        },
    ]


def key_arguments(source: KeySource) -> list[str]:
    """Where a secret is and how to come in, for the programs of ``gateway``; nothing secret."""
    more = {"role": source.role, "authority": source.authority, "namespace": source.namespace}
    return [
        f"--address={source.address}",
        f"--project={source.project}",
        f"--path={source.path}",
        f"--token-file={_TOKEN_FOLDER}/token",
        f"--auth={source.auth}",
        *(f"--{name}={value}" for name, value in more.items() if value),
    ]


def token_mount() -> Json:
    """The mount of the pod's token for KMS, of ``key_volumes``."""
    return {"name": _TOKEN_VOLUME, "mountPath": _TOKEN_FOLDER, "readOnly": True}


def key_container(delivery: Delivery) -> Json:
    """The init container that reads the secret.

    What it is told are references: where the secret is, never what it is.
    """
    return _container("fetch-keys", delivery)


def refresh_container(delivery: Delivery, seconds: int) -> Json:
    """A container that reads the secret again, every so many seconds, and writes what is new."""
    return _container("refresh-keys", delivery, f"--every={seconds}")


def _container(name: str, delivery: Delivery, *more: str) -> Json:
    return {
        "name": name,
        "image": delivery.image,
        "command": ["python3", "-m", "gateway.fetch"],
        "args": [
            *key_arguments(delivery.source),
            f"--into={delivery.folder}",
            *(f"--field={name}" for name in delivery.fields),
            *(["--optional"] if delivery.optional else []),
            *more,
        ],
        "volumeMounts": [
            {"name": delivery.volume, "mountPath": delivery.folder},
            token_mount(),
        ],
        "securityContext": {
            "runAsUser": delivery.user,
            "runAsGroup": delivery.user,
            **container_security(),
        },
        "resources": resources("10m", "48Mi", "96Mi"),
    }
