"""What each service account of the mesh needs to do, and what it must not: tables.

The controller-manager of SPIRE runs in the servers' pods, under their account.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_ADMISSION = "admissionregistration.k8s.io"
_COORDINATION = "coordination.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
_SPIRE = "spire.spiffe.io"
SYSTEM = "spire-system"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """A verb on a resource of the core API or a group.

    ``namespace`` is empty for the whole cluster, ``name`` for any.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    group: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {kind}{name} ({self.namespace or 'cluster'})"


@dataclass(frozen=True, slots=True)
class Account:
    """A service account, all that it needs, and what it must not do."""

    namespace: str
    name: str
    needs: tuple[Right, ...]
    must_not: tuple[Right, ...]

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> tuple[str, ...]:
        own = f"system:serviceaccounts:{self.namespace}"
        return ("system:serviceaccounts", own, "system:authenticated")


def accounts(namespaces: tuple[str, ...]) -> tuple[Account, ...]:
    """Those of a cluster with these namespaces of teams; the first has the mesh's own services."""
    mesh = namespaces[0]
    never = nobody(mesh)
    return (
        Account(
            SYSTEM, "spire-server", tuple(_server(namespaces)), (*never, *_server_must_not(mesh))
        ),
        Account(SYSTEM, "spire-agent", _AGENT, (*never, *_agent_must_not(mesh))),
        Account(
            mesh, "zt-policy-engine", tuple(_evaluator(mesh)), (*never, *_evaluator_must_not(mesh))
        ),
        Account(mesh, "wg-gateway", (), (*never, *_gateway_must_not(mesh))),
    )


def nobody(mesh: str) -> tuple[Right, ...]:
    """What no part of the mesh may do: read secrets, get rights, run or reach into pods."""
    return (
        Right("list", "secrets"),
        Right("get", "secrets", mesh, "zt-secrets"),
        Right("get", "secrets", SYSTEM),
        Right("get", "configmaps", "kube-system", "extension-apiserver-authentication"),
        Right("create", "pods", mesh),
        Right("delete", "pods", mesh),
        Right("create", "pods/exec", mesh),
        Right("create", "pods/portforward", mesh),
        Right("patch", "pods/ephemeralcontainers", mesh),
        Right("get", "nodes/proxy"),
        Right("create", "nodes/proxy"),
        Right("create", "serviceaccounts/token", mesh),
        Right("create", "serviceaccounts/token", SYSTEM, "spire-server"),
        Right("impersonate", "serviceaccounts", mesh),
        Right("impersonate", "users"),
        Right("patch", "namespaces", name=mesh),
        Right("patch", "deployments", mesh, group="apps"),
        Right("delete", "networkpolicies", mesh, group="networking.k8s.io"),
        Right("patch", "networkpolicies", mesh, group="networking.k8s.io"),
        Right("create", "clusterrolebindings", group=_RBAC),
        Right("escalate", "clusterroles", group=_RBAC),
        Right("bind", "roles", mesh, group=_RBAC),
        Right("patch", "validatingadmissionpolicies", group=_ADMISSION),
        Right("delete", "validatingadmissionpolicybindings", group=_ADMISSION),
        Right("delete", "mutatingwebhookconfigurations", name="zt-injection", group=_ADMISSION),
        Right("patch", "mutatingwebhookconfigurations", name="another", group=_ADMISSION),
        Right("patch", "customresourcedefinitions", group="apiextensions.k8s.io"),
        Right("create", "clusterspiffeids", group=_SPIRE),
        Right("update", "clusterspiffeids", group=_SPIRE),
        Right("create", "clusterstaticentries", group=_SPIRE),
        Right(
            "approve", "signers", name="kubernetes.io/legacy-unknown", group="certificates.k8s.io"
        ),
    )


# --- SPIRE ----------------------------------------------------------------------------------------

_REGISTRATIONS = ("clusterspiffeids", "clusterstaticentries")
_AGENT = (Right("get", "nodes/pods"),)


def _server(namespaces: tuple[str, ...]) -> Iterator[Right]:
    yield Right("create", "tokenreviews", group="authentication.k8s.io")
    yield from (Right(verb, "nodes") for verb in ("get", "list", "watch"))
    yield from (Right(verb, "namespaces") for verb in ("list", "watch"))
    for kind in _REGISTRATIONS:
        yield from (Right(verb, kind, group=_SPIRE) for verb in ("list", "watch"))
        yield Right("update", f"{kind}/status", group=_SPIRE)
    for namespace in (*namespaces, SYSTEM):
        for verb in ("get", "patch"):
            yield Right(verb, "configmaps", namespace, "spire-bundle")
    for namespace in namespaces:
        for kind in ("pods", "endpoints"):
            yield from (Right(verb, kind, namespace) for verb in ("list", "watch"))
    yield Right("get", "pods", SYSTEM)
    yield Right("create", "leases", SYSTEM, group=_COORDINATION)
    for verb in ("get", "update"):
        yield Right(verb, "leases", SYSTEM, "spire-controller-manager", _COORDINATION)
    yield from (Right(verb, "events", SYSTEM) for verb in ("create", "patch"))


def _server_must_not(mesh: str) -> tuple[Right, ...]:
    return (
        Right("list", "pods"),
        Right("list", "pods", "kube-system"),
        Right("get", "configmaps", mesh, "zt-policies"),
        Right("patch", "configmaps", mesh, "zt-policies"),
        Right("patch", "configmaps", SYSTEM, "spire-server"),
        Right("update", "leases", SYSTEM, "another", _COORDINATION),
        Right("delete", "clusterspiffeids", group=_SPIRE),
        Right("delete", "nodes"),
        Right("get", "nodes/pods"),
        Right("create", "subjectaccessreviews", group="authorization.k8s.io"),
    )


def _agent_must_not(mesh: str) -> tuple[Right, ...]:
    return (
        Right("list", "pods"),
        Right("get", "pods", mesh),
        Right("get", "pods", SYSTEM),
        Right("get", "nodes"),
        Right("list", "nodes"),
        Right("get", "nodes/exec"),
        Right("get", "nodes/logs"),
        Right("get", "nodes/configz"),
        Right("get", "configmaps", SYSTEM, "spire-bundle"),
        Right("patch", "configmaps", SYSTEM, "spire-bundle"),
        Right("create", "tokenreviews", group="authentication.k8s.io"),
        Right("list", "clusterspiffeids", group=_SPIRE),
    )


# --- Evaluator and gateway ------------------------------------------------------------------------


def _evaluator(mesh: str) -> Iterator[Right]:
    yield from (Right(verb, "pods") for verb in ("get", "list", "watch"))
    for verb in ("get", "patch"):
        yield Right(verb, "mutatingwebhookconfigurations", "", "zt-injection", _ADMISSION)
    for verb in ("get", "update"):
        yield Right(verb, "configmaps", mesh, "zt-policies")


def _evaluator_must_not(mesh: str) -> tuple[Right, ...]:
    return (
        Right("patch", "pods", mesh),
        Right("get", "pods/log", mesh),
        Right("delete", "configmaps", mesh, "zt-policies"),
        Right("update", "configmaps", mesh, "zt-envoy-postgres"),
        Right("get", "configmaps", mesh, "spire-bundle"),
        Right("list", "configmaps", mesh),
        Right("update", "configmaps", SYSTEM, "zt-services"),
        Right("create", "mutatingwebhookconfigurations", group=_ADMISSION),
        Right("list", "mutatingwebhookconfigurations", group=_ADMISSION),
        Right("patch", "validatingwebhookconfigurations", group=_ADMISSION),
        Right("list", "nodes"),
    )


def _gateway_must_not(mesh: str) -> tuple[Right, ...]:
    return (
        Right("get", "pods", mesh),
        Right("list", "pods"),
        Right("get", "configmaps", mesh, "wg-gateway-peers"),
        Right("update", "configmaps", mesh, "wg-gateway-peers"),
        Right("get", "services", mesh, "wg-gateway"),
        Right("list", "nodes"),
        Right("list", "namespaces"),
        Right("create", "events", mesh),
        Right("create", "tokenreviews", group="authentication.k8s.io"),
        Right("get", "configmaps", mesh, "zt-policies"),
    )
