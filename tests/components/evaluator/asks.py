"""What the evaluator's service account needs of the API server, and what it must not."""

from __future__ import annotations

from tests.components.spire.asks import Ask
from zt.wellknown import INJECTION_WEBHOOK

ACCOUNT, NAMESPACE = "zt-policy-engine", "hanzo"
_ADMISSION = "admissionregistration.k8s.io"
_WEBHOOKS = "mutatingwebhookconfigurations"

NEEDED = [
    Ask(ACCOUNT, "list", "pods"),
    Ask(ACCOUNT, "watch", "pods"),
    Ask(ACCOUNT, "get", "configmaps", namespace=NAMESPACE, name="zt-policies"),
    Ask(ACCOUNT, "update", "configmaps", namespace=NAMESPACE, name="zt-policies"),
    Ask(ACCOUNT, "get", _WEBHOOKS, _ADMISSION, name=INJECTION_WEBHOOK),
    Ask(ACCOUNT, "patch", _WEBHOOKS, _ADMISSION, name=INJECTION_WEBHOOK),
]

FORBIDDEN = [
    Ask(ACCOUNT, "get", "secrets", namespace=NAMESPACE, name="zt-secrets"),
    Ask(ACCOUNT, "list", "secrets", namespace=NAMESPACE),
    Ask(ACCOUNT, "create", "secrets", namespace=NAMESPACE, name="zt-secrets"),
    Ask(ACCOUNT, "create", "pods", namespace=NAMESPACE),
    Ask(ACCOUNT, "delete", "pods", namespace=NAMESPACE, name="iam-1"),
    Ask(ACCOUNT, "create", "pods/exec", namespace=NAMESPACE, name="iam-1"),
    Ask(ACCOUNT, "create", "serviceaccounts/token", namespace=NAMESPACE, name="iam"),
    Ask(ACCOUNT, "update", "configmaps", namespace=NAMESPACE, name="zt-envoy-iam"),
    Ask(ACCOUNT, "update", "configmaps", namespace="spire-system", name="zt-policies"),
    Ask(ACCOUNT, "delete", "configmaps", namespace=NAMESPACE, name="zt-policies"),
    Ask(ACCOUNT, "list", "configmaps", namespace=NAMESPACE),
    Ask(ACCOUNT, "patch", _WEBHOOKS, _ADMISSION, name="another"),
    Ask(ACCOUNT, "create", _WEBHOOKS, _ADMISSION, name=INJECTION_WEBHOOK),
    Ask(ACCOUNT, "delete", _WEBHOOKS, _ADMISSION, name=INJECTION_WEBHOOK),
    Ask(ACCOUNT, "update", "validatingadmissionpolicies", _ADMISSION, name="zt-identity-labels"),
    Ask(ACCOUNT, "update", "networkpolicies", "networking.k8s.io", NAMESPACE, "iam-ingress"),
    Ask(ACCOUNT, "update", "clusterspiffeids", "spire.spiffe.io", name="hanzo.iam"),
    Ask(ACCOUNT, "get", "nodes", name="node-1"),
]
