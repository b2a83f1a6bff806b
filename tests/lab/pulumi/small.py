"""Programs of a few objects, run by the real engine against a real API server."""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pulumi
import pulumi_kubernetes

from components.kube import register
from lab.provider.access import client
from lab.stack.folder import Program

Json = dict[str, Any]

_NEVER = 2**31 - 1
PROJECT = "name: hanzo-zt\nruntime: python\nstackConfigDir: stacks\n"


class Small(pulumi.ComponentResource):
    """Objects of a test."""

    def __init__(self, provider: pulumi.ProviderResource) -> None:
        options = pulumi.ResourceOptions(providers={"kubernetes": provider})
        super().__init__("hanzo-zt:components:Small", "small", None, options)


def small(
    kubeconfig: Path,
    *manifests: Json,
    patches: Sequence[Json] = (),
    more: Callable[[Small], None] = lambda _: None,
    **provider: Any,  # noqa: ANN401 - of pulumi_kubernetes.Provider
) -> Program:
    """A program that has these objects, each after the one before, and these fields of others."""

    def run() -> None:
        asked = {"enable_patch_force": True, "enable_config_map_mutable": True, **provider}
        parent = Small(pulumi_kubernetes.Provider("cluster", kubeconfig=str(kubeconfig), **asked))
        last: list[pulumi.Resource] = []
        for manifest in manifests:
            last = [register(manifest, parent, depends_on=last)]
        for manifest in patches:
            register(manifest, parent, patch=True)
        more(parent)
        parent.register_outputs({})

    return run


def config_map(namespace: str, name: str = "settings", **data: str) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def network_policy(namespace: str, *peers: str) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "postgres-ingress", "namespace": namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app": "postgres"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": peer}}} for peer in peers],
                    "ports": [{"protocol": "TCP", "port": 5432}],
                }
            ],
        },
    }


def namespace_labels(namespace: str, **labels: str) -> Json:
    metadata = {"name": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def deployment(namespace: str, app: str = "postgres", image: str = "postgres:18") -> Json:
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "postgres", "namespace": namespace},
        "spec": {
            "replicas": 1,
            # No pod runs here: the controller would give up after ten minutes, and write so.
            "progressDeadlineSeconds": _NEVER,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }


def definition(group: str) -> Json:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"plural": "lamps", "singular": "lamp", "kind": "Lamp", "listKind": "LampList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"lamps.{group}"},
        "spec": {"group": group, "names": names, "scope": "Cluster", "versions": [version]},
    }


def lamp(group: str, color: str) -> Json:
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Lamp",
        "metadata": {"name": "one"},
        "spec": {"color": color},
    }


@contextmanager
def team(http: httpx.Client) -> Iterator[str]:
    """A namespace that was there before, with a ConfigMap of its team."""
    name = "team-" + "".join(random.choices(string.ascii_lowercase, k=6))  # noqa: S311 - a name
    done(http.post("/api/v1/namespaces", json=namespace_labels(name, owner="team")))
    config_maps = f"/api/v1/namespaces/{name}/configmaps"
    done(http.post(config_maps, json=config_map(name, "theirs", key="value")))
    try:
        yield name
    finally:
        http.delete(f"/api/v1/namespaces/{name}")


def done(answer: httpx.Response) -> Json:
    """What the API server answered; it must have agreed."""
    assert answer.is_success, answer.text
    return dict(answer.json())


def admin(kubeconfig: Path) -> httpx.Client:
    return client(str(kubeconfig))
