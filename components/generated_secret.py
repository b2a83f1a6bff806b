"""Secrets whose passwords are made in the cluster: no state, file or log ever has them.

A Job makes each Secret unless it is there. It runs beside SPIRE, since a namespace of the mesh lets
only declared services run and call. Its rights end at the names of its Secrets: it creates them by
server-side apply, the one way of creating for which RBAC knows a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.kube import register
from components.pods import container_security, metadata, pod_security, resources, with_digest
from components.rbac import GROUP, granted, service_account
from zt.wellknown import SPIRE_NAMESPACE


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A Secret to be made in the cluster, if it is not there.

    ``passwords`` are keys, each of which gets a password of letters and digits. ``texts`` are
    further keys, in which ``{key}`` stands for a password. With ``certificate``, the DNS names of
    a server, there are ``tls.key`` and ``tls.crt`` as well, which is its own anchor.
    """

    namespace: str
    secret: str
    passwords: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    certificate: tuple[str, ...] = ()


class GeneratedSecrets(pulumi.ComponentResource):
    """Some Secrets, the Job that makes them, and its rights.

    Whoever mounts them need not wait for the Job: a pod waits for its Secrets by itself.
    """

    def __init__(
        self, name: str, recipes: Sequence[Recipe], image: str, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:GeneratedSecrets", name, None, opts)
        rights = [register(manifest, self) for manifest in rights_manifests(name, recipes)]
        register(job_manifest(name, recipes, image), self, depends_on=rights)
        self.register_outputs({"secrets": [f"{item.namespace}/{item.secret}" for item in recipes]})


def account_name(name: str) -> str:
    """What the Job's service account is called, its roles, and the Job before its digest."""
    return f"zt-secrets-{name}"


def rights_manifests(name: str, recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """The service account, and its role in the namespace of each Secret."""
    account = account_name(name)
    made = [service_account(account, SPIRE_NAMESPACE)]
    for namespace in sorted({recipe.namespace for recipe in recipes}):
        secrets = [recipe.secret for recipe in recipes if recipe.namespace == namespace]
        whose = (SPIRE_NAMESPACE, account)
        made += granted(account, _rules(account, secrets), whose, namespace)
    return made


def _rules(account: str, secrets: Sequence[str]) -> list[dict[str, Any]]:
    """The role also owns the Secrets: whoever deletes the one deletes the others."""
    return [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": list(secrets),
            "verbs": ["get", "create", "patch"],
        },
        {
            "apiGroups": [GROUP],
            "resources": ["roles"],
            "resourceNames": [account],
            "verbs": ["get"],
        },
    ]


def job_manifest(name: str, recipes: Sequence[Recipe], image: str) -> dict[str, Any]:
    """The Job; other recipes make another one."""
    account = account_name(name)
    container = {
        "name": "secrets",
        "image": image,
        "command": ["python", "-m", "engine.kubernetes.secret"],
        "args": ["--owner", account, json.dumps([_recipe(item) for item in recipes])],
        "resources": resources("50m", "64Mi", "128Mi"),
        "securityContext": container_security(),
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(account, SPIRE_NAMESPACE),
        "spec": {
            "backoffLimit": 10,
            "template": {
                "metadata": {"labels": metadata(account)["labels"]},
                "spec": {
                    "serviceAccountName": account,
                    "automountServiceAccountToken": True,
                    "restartPolicy": "OnFailure",
                    "securityContext": pod_security(),
                    "containers": [container],
                },
            },
        },
    }
    return with_digest(job)


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as ``engine.kubernetes.secret`` reads it."""
    return {
        "namespace": recipe.namespace,
        "secret": recipe.secret,
        "passwords": list(recipe.passwords),
        "texts": dict(recipe.texts),
        "certificate": list(recipe.certificate),
    }
