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
    they are written with mode 0400.
    """

    source: KeySource
    image: str
    volume: str
    folder: str
    user: int


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


def key_container(delivery: Delivery) -> Json:
    """The init container that reads the secret; only it has the token.

    What it is told are references: where the secret is, never what it is.
    """
    return {
        "name": "fetch-keys",
        "image": delivery.image,
        "command": ["python3", "-m", "gateway.fetch"],
        "args": [
            f"--address={delivery.source.address}",
            f"--project={delivery.source.project}",
            f"--path={delivery.source.path}",
            f"--token-file={_TOKEN_FOLDER}/token",
            f"--into={delivery.folder}",
        ],
        "volumeMounts": [
            {"name": delivery.volume, "mountPath": delivery.folder},
            {"name": _TOKEN_VOLUME, "mountPath": _TOKEN_FOLDER, "readOnly": True},
        ],
        "securityContext": {
            "runAsUser": delivery.user,
            "runAsGroup": delivery.user,
            **container_security(),
        },
        "resources": resources("10m", "32Mi", "64Mi"),
    }
