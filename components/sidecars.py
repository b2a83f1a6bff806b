"""Sidecars: the configuration of each, and the webhook that puts them into pods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import pulumi

from components.kube import register, stamped
from components.settings import StackSettings
from zt.bundle import Bundle, CompiledFile
from zt.facts import Facts
from zt.model import Service
from zt.wellknown import (
    EVALUATOR_WEBHOOK,
    INJECTION_NAMESPACE,
    INJECTION_WEBHOOK,
    MANAGED_BY,
    sidecar_configuration,
)

Manifest = dict[str, Any]

# What the API server takes for all values of a ConfigMap together, in bytes.
MOST_BYTES = 1 << 20
# Seconds that a new pod waits for the webhook, which answers in milliseconds.
_PATIENCE = 5


class Sidecars(pulumi.ComponentResource):
    """One ConfigMap for each service; the webhook comes after what is to be there before it.

    ``after`` is the evaluator, which serves the webhook. It also keeps the ``caBundle``, which is
    therefore not written here.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        settings: StackSettings,
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__("hanzo-zt:components:Sidecars", name, None, opts)
        facts = bundle.facts
        services = facts.services if facts else ()
        for service in services:
            register(stamped(configuration_manifest(bundle, service), settings.reapply), self)
        if facts and facts.evaluator:
            manifest = webhook_manifest(facts, facts.evaluator)
            register(stamped(manifest, settings.reapply), self, depends_on=after)
        self.register_outputs({"configurations": len(services)})


def refusals(bundle: Bundle) -> Iterator[str]:
    """Sentences that say which configuration is too large for a ConfigMap."""
    for service in bundle.facts.services if bundle.facts else ():
        size = _size(configuration_manifest(bundle, service)["data"])
        if size > MOST_BYTES:
            yield (
                f"the sidecar of {service.name} has {size:,} bytes of configuration, and a "
                f"ConfigMap takes {MOST_BYTES:,}: divide it into services with fewer clients and "
                "upstreams each"
            )


def configuration_manifest(bundle: Bundle, service: Service) -> Manifest:
    """The ConfigMap of a service's sidecar: a key for each file."""
    files = list(bundle.under(f"envoy/{service.name}"))
    data = {_key(file): file.text() for file in files}
    if _size(data) > MOST_BYTES:
        # JSON is YAML too; comments and indentation are for people.
        data = {_key(file): json.dumps(file.manifest(), separators=(",", ":")) for file in files}
    metadata = {
        "name": sidecar_configuration(service.name),
        "namespace": service.namespace,
        "labels": dict(MANAGED_BY),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _key(file: CompiledFile) -> str:
    return PurePosixPath(file.path).name


def _size(data: dict[str, str]) -> int:
    return sum(len(key) + len(text.encode()) for key, text in data.items())


def webhook_manifest(facts: Facts, evaluator: Service) -> Manifest:
    """The webhook: new pods of the namespaces that say so, except the mesh's own.

    Those must start while no evaluator answers; the stack put their sidecars into their templates.
    They are told by their service accounts, which nobody else's pods may have.
    """
    metadata = {"name": INJECTION_WEBHOOK, "labels": dict(MANAGED_BY)}
    webhook = {
        "name": "injection.zt.hanzo.ai",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {
                "name": evaluator.name,
                "namespace": evaluator.namespace,
                "path": "/inject",
                "port": EVALUATOR_WEBHOOK,
            }
        },
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ],
        "namespaceSelector": {"matchLabels": dict(INJECTION_NAMESPACE)},
        "matchConditions": list(_exceptions(facts)),
        # A pod without its sidecar would reach nobody, or be reached by anybody.
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        # What others add to a pod after us may be probed too.
        "reinvocationPolicy": "IfNeeded",
        "timeoutSeconds": _PATIENCE,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [webhook],
    }


def _exceptions(facts: Facts) -> Iterator[dict[str, str]]:
    """Each condition must hold for a pod to be injected."""
    for service in (facts.evaluator, facts.gateway):
        if service is not None:
            yield {
                "name": f"not-{service.name}",
                "expression": f"request.namespace != {json.dumps(service.namespace)}"
                " || !has(object.spec.serviceAccountName)"
                f" || object.spec.serviceAccountName != {json.dumps(service.account)}",
            }
