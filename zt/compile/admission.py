"""Admission: which pods may start in the namespaces of the mesh, by ValidatingAdmissionPolicy.

Labels decide which NetworkPolicies select a pod, and a service account which SVID it gets, so
neither may be made up:

- ``zt-identity-labels``, in every phase: a pod carries the labels that select a service only with
  that service's account, and none of the labels that the mesh keeps to itself.
- ``zt-declared-only``, where the step of the rollout is ``declaredOnly``: a pod runs only as a
  service account that a Service declares.

Both read the declared services from one ConfigMap, not from their own expressions: these stay short
at any number of services, and the API server's cost limit of an expression is far away (it is
1,000,000; 1,000 services cost about 100,000). The ConfigMap lies where only the
mesh's own administrators write. No namespace of the mesh and no kind of pod is exempt; pods that
run already are not looked at again until their labels change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zt.bundle import CompiledFile
from zt.effective import Effective
from zt.emit import note
from zt.model import Service
from zt.wellknown import LABEL_PREFIX, MANAGED_BY, MESH_NAMESPACE, SPIRE_NAMESPACE

API_VERSION = "admissionregistration.k8s.io/v1"
SERVICES = "zt-services"
IDENTITY_LABELS = "zt-identity-labels"
DECLARED_ONLY = "zt-declared-only"

_ACCOUNT = "has(object.spec.serviceAccountName) ? object.spec.serviceAccountName : 'default'"
_LABELS = "has({0}.metadata.labels) ? {0}.metadata.labels : {{}}"

# Each may use those before it.
_VARIABLES = {
    "services": "has(params.data) ? params.data : {}",
    "account": _ACCOUNT,
    "own": "request.namespace + '.' + variables.account",
    "labels": _LABELS.format("object"),
    "pairs": "variables.labels.map(key, key + '=' + variables.labels[key])",
    "reserved": f"variables.labels.filter(key, key.startsWith('{LABEL_PREFIX}'))",
    "claimed": (
        "variables.services.filter(key, key.startsWith(request.namespace + '.')"
        " && variables.services[key].split(',').all(pair, pair in variables.pairs)"
        " && key != variables.own)"
    ),
}


def compile_admission(effective: Effective, cluster: str) -> Iterator[CompiledFile]:
    """The policies, their bindings and what they read, at ``admission/<name>.yaml``."""
    yield _services(effective, cluster)
    yield _policy(IDENTITY_LABELS, _LABELS_HEADER, _identity_labels())
    yield _binding(IDENTITY_LABELS)
    rollout = effective.policy.rollout
    step = rollout.step() if rollout else None
    if step and step.declared_only:
        yield _policy(DECLARED_ONLY, _DECLARED_HEADER, _declared_only())
        yield _binding(DECLARED_ONLY)


def _services(effective: Effective, cluster: str) -> CompiledFile:
    """``<namespace>.<service account>: <label>=<value>,...``; neither name has a dot."""
    data = {
        f"{item.service.namespace}.{item.service.account}": note(_pairs(item.service), item.spiffe)
        for item in effective.in_cluster(cluster)
    }
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": SERVICES,
            "namespace": SPIRE_NAMESPACE,
            "labels": dict(MANAGED_BY),
        },
        "data": dict(sorted(data.items())),
    }
    header = f"The declared services of {cluster}: service accounts and the labels that are theirs."
    return CompiledFile(f"admission/{SERVICES}.yaml", content, header)


def _pairs(service: Service) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(service.labels.items()))


# --- The policies ---------------------------------------------------------------------------------

_LABELS_HEADER = """\
Refuses pods that carry the labels of a service whose account is not theirs: NetworkPolicies would
take them for that service."""

_DECLARED_HEADER = "Refuses pods whose service account no Service declares (declaredOnly)."


def _identity_labels() -> dict[str, Any]:
    before = _LABELS.format("oldObject")
    return {
        "operations": ["CREATE", "UPDATE"],
        "conditions": [
            {
                "name": "labels-are-new",
                "expression": f"request.operation == 'CREATE'"
                f" || ({_LABELS.format('object')}) != ({before})",
            }
        ],
        "variables": tuple(_VARIABLES),
        "validations": [
            {
                "expression": "size(variables.claimed) == 0",
                "messageExpression": "'the labels ' + variables.services[variables.claimed[0]]"
                " + ' are those of service account ' + variables.claimed[0]"
                " + ', but the pod runs as ' + variables.own"
                " + ': change its labels, or let it run as that service account'",
                "reason": "Forbidden",
            },
            {
                "expression": "size(variables.reserved) == 0",
                "messageExpression": "'label ' + variables.reserved[0]"
                f" + ' is reserved: labels that start with {LABEL_PREFIX} are set by the mesh"
                " alone, so remove it'",
                "reason": "Forbidden",
            },
        ],
    }


def _declared_only() -> dict[str, Any]:
    return {
        "operations": ["CREATE"],
        "conditions": [],
        "variables": ("services", "account", "own"),
        "validations": [
            {
                "expression": "variables.own in variables.services",
                "messageExpression": "'no Service declares service account ' + variables.account"
                " + ' in namespace ' + request.namespace"
                " + ': declare it under policies/, or let the pod run as a declared one'",
                "reason": "Forbidden",
            }
        ],
    }


def _policy(name: str, header: str, parts: dict[str, Any]) -> CompiledFile:
    conditions = {"matchConditions": parts["conditions"]} if parts["conditions"] else {}
    spec = {
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": dict(MESH_NAMESPACE)},
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": parts["operations"],
                    "resources": ["pods"],
                }
            ],
        },
        **conditions,
        "variables": [
            {"name": variable, "expression": _VARIABLES[variable]}
            for variable in parts["variables"]
        ],
        "validations": parts["validations"],
    }
    return _file(name, "ValidatingAdmissionPolicy", spec, header)


def _binding(name: str) -> CompiledFile:
    spec = {
        "policyName": name,
        "validationActions": ["Deny"],
        "paramRef": {
            "name": SERVICES,
            "namespace": SPIRE_NAMESPACE,
            "parameterNotFoundAction": note("Deny", "Without the list nobody is known."),
        },
    }
    header = f"Puts {name} in force."
    return _file(f"{name}-binding", "ValidatingAdmissionPolicyBinding", spec, header)


def _file(name: str, kind: str, spec: dict[str, Any], header: str) -> CompiledFile:
    metadata = {"name": name, "labels": dict(MANAGED_BY)}
    content = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    return CompiledFile(f"admission/{name}.yaml", content, header)
