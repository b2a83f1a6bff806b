"""How teams deploy their services: plain objects of Kubernetes, which know nothing of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from components.audit.in_cluster import SERVICE as AUDIT_DATABASE
from lab.services import program
from zt.model import Policy, Port, Protocol, Service

Json = dict[str, Any]

IMAGE = "zt.lab/service:lab"
CONTAINER = "app"
_STATEFUL = ("minio", "postgres", "redis")
# Where pods of a StatefulSet talk with each other: a peer port of its policy, and no other's.
PEERS = Port(7000, Protocol.HTTP)
_REPLICAS = 2
USER = 1000
_JOB_CALLS = ("postgres", 5432)


def team_services(policy: Policy, cluster: str) -> tuple[Service, ...]:
    """The services of a cluster that the lab deploys: all but what the stacks bring."""
    ours = {*_infrastructure(policy), AUDIT_DATABASE}
    return tuple(s for s in policy.services if s.cluster == cluster and s.name not in ours)


def namespaces(policy: Policy, cluster: str) -> tuple[Json, ...]:
    """All namespaces that services are declared in: they are the teams', and plain."""
    names = sorted({s.namespace for s in policy.services if s.cluster == cluster})
    return tuple(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names
    )


def workloads(policy: Policy, cluster: str) -> tuple[Json, ...]:
    """The service accounts, Services and workloads of a cluster's teams.

    Those who are called come before those who call: the databases first, the Job last.
    """
    services = sorted(team_services(policy, cluster), key=_rank)
    return tuple(manifest for service in services for manifest in _objects(service))


def waiting_job(service: Service, name: str) -> Json:
    """A Job like that of a service, which waits until it is deleted: to be called from."""
    return _job(service, name, program.application(service.name, ()))


def _infrastructure(policy: Policy) -> tuple[str, str]:
    names = policy.mesh.infrastructure
    return names.evaluator, names.gateway


def _rank(service: Service) -> tuple[int, str]:
    return (0 if _is_stateful(service) else 1 if service.ports else 2), service.name


def _is_stateful(service: Service) -> bool:
    return service.name in _STATEFUL


def _objects(service: Service) -> Iterator[Json]:
    yield _object("v1", "ServiceAccount", service, service.account)
    if not service.ports:
        yield _job(service, service.name, program.job(*_JOB_CALLS))
        return
    yield _service(service)
    yield _stateful_set(service) if _is_stateful(service) else _deployment(service)


def _object(version: str, kind: str, service: Service, name: str, **parts: Any) -> Json:  # noqa: ANN401
    metadata = {"name": name, "namespace": service.namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **parts}


def _service(service: Service) -> Json:
    """A database's has no ClusterIP: its pods have names of their own."""
    ports = [{"name": _name(port), "port": port.port} for port in service.ports]
    headless = {"clusterIP": "None"} if _is_stateful(service) else {}
    spec = {"selector": service.labels, "ports": ports, **headless}
    return _object("v1", "Service", service, service.name, spec=spec)


def _deployment(service: Service) -> Json:
    spec = {**_many(service), "template": _template(service, service.ports)}
    return _object("apps/v1", "Deployment", service, service.name, spec=spec)


def _stateful_set(service: Service) -> Json:
    spec = {
        **_many(service),
        "serviceName": service.name,
        "podManagementPolicy": "Parallel",
        "template": _template(service, (*service.ports, PEERS)),
    }
    return _object("apps/v1", "StatefulSet", service, service.name, spec=spec)


def _many(service: Service) -> Json:
    usual = _REPLICAS if _is_stateful(service) else 1
    return {
        "replicas": service.replicas or usual,
        "selector": {"matchLabels": service.labels},
    }


def _job(service: Service, name: str, command: list[str]) -> Json:
    template = _pod(service, {"name": CONTAINER, "command": command}, restartPolicy="Never")
    spec = {"backoffLimit": 3, "template": template}
    return _object("batch/v1", "Job", service, name, spec=spec)


# --- Pods -----------------------------------------------------------------------------------------


def _template(service: Service, ports: tuple[Port, ...]) -> Json:
    listed = [{"name": _name(port), "containerPort": port.port} for port in ports]
    container = {
        "name": CONTAINER,
        "command": program.application(service.name, ports),
        "ports": listed,
        **_probes(ports[0]),
    }
    return _pod(service, container)


def _pod(service: Service, container: Json, **parts: Any) -> Json:  # noqa: ANN401 - any field
    spec = {
        "serviceAccountName": service.account,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER},
        "containers": [{**container, "image": IMAGE, **_MODEST}],
        **parts,
    }
    return {"metadata": {"labels": service.labels}, "spec": spec}


_MODEST: Json = {
    "imagePullPolicy": "IfNotPresent",
    "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}


def _probes(port: Port) -> Json:
    """As the protocol has it: a path of HTTP, a connection, nothing for gRPC."""
    match port.protocol:
        case Protocol.GRPC:
            return {}
        case Protocol.HTTP:
            ask: Json = {"httpGet": {"path": "/healthz", "port": _name(port)}}
            return {
                "startupProbe": {**ask, "periodSeconds": 1, "failureThreshold": 60},
                "readinessProbe": {**ask, "periodSeconds": 5},
                "livenessProbe": {**ask, "periodSeconds": 10},
            }
        case _:
            return {"readinessProbe": {"tcpSocket": {"port": port.port}, "periodSeconds": 5}}


def _name(port: Port) -> str:
    return f"{port.protocol}-{port.port}"
