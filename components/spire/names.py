"""Names and paths that the parts of SPIRE share."""

from __future__ import annotations

from typing import Any

from components.pods import metadata
from zt.facts import Facts
from zt.wellknown import SPIRE_METRICS, SPIRE_NAMESPACE

SERVER = "spire-server"
AGENT = "spire-agent"
DATASTORE = "spire-datastore"
CONTROLLER_MANAGER = "spire-controller-manager"

# The user of the servers' containers, as SPIRE's image has it.
SERVER_USER = 1000

CONFIG = "/run/spire/config"
DATA = "/run/spire/data"
CONTROLLER_MANAGER_CONFIG = "/run/spire/controller-manager"
CONTROLLER_MANAGER_HEALTH = 8083

# Where programs look for a pod's own token.
API_ACCESS = "/var/run/secrets/kubernetes.io/serviceaccount"
# The API server renews the token long before it ends.
_API_TOKEN_SECONDS = 3607

Json = dict[str, Any]


def labels(app: str) -> dict[str, str]:
    """By which the pods of a part are selected."""
    return {"app": app}


def own(name: str, **others: Any) -> Json:  # noqa: ANN401 - as metadata takes them
    """Metadata of an object in SPIRE's namespace."""
    return metadata(name, SPIRE_NAMESPACE, **others)


def pod_metadata(app: str, digest: str) -> Json:
    """Metadata of a part's pods, which are made anew when the digest is another."""
    return {
        "labels": {**own(app)["labels"], **labels(app)},
        "annotations": {
            "zt.hanzo.ai/configuration": digest,
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(SPIRE_METRICS),
        },
    }


def watched_namespaces(facts: Facts) -> tuple[str, ...]:
    """Where pods get identities, and the trust bundle is published.

    Never none: the controller-manager takes an empty list for the whole cluster.
    """
    return facts.namespaces or (SPIRE_NAMESPACE,)


def api_volume(name: str = "api") -> Json:
    """What a container needs to speak with the API server, for those that do.

    A token that the pod mounts by itself is in every container, also in those that need none.
    """
    token = {"path": "token", "expirationSeconds": _API_TOKEN_SECONDS}
    root = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {
        "path": "namespace",
        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
    }
    sources = [
        {"serviceAccountToken": token},
        {"configMap": root},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o440}}


def http_probe(path: str, port: int, period: int, failures: int) -> Json:
    """A probe over HTTP: every ``period`` seconds, given up after so many failures."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def mount(name: str, path: str, *, writable: bool = False) -> Json:
    """A volume in a container."""
    found: Json = {"name": name, "mountPath": path}
    return found if writable else found | {"readOnly": True}
