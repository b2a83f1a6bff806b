"""Probes: the kubelet asks the sidecar, and the sidecar asks the application.

A probe on a captured port would come as plaintext from outside the pod, which the sidecar refuses.
So it is turned into a probe of the sidecar's own port for probes, where Envoy says what its health
check of the application last saw. The check is the probe itself (HTTP with its headers, TCP, gRPC)
from inside the pod; nothing that comes from outside is passed on.

The kubelet keeps its thresholds and delays, so each answer is that of one check: not older than
half the probe's period, and than a second while the application is not well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zt.wellknown import SIDECAR_PROBES

Json = dict[str, Any]

KINDS = {
    "startupProbe": "startup",
    "readinessProbe": "readiness",
    "livenessProbe": "liveness",
}
# The handlers that go over the network; what is called exec stays.
_HANDLERS = ("httpGet", "tcpSocket", "grpc")
_HOOKS = ("postStart", "preStop")
_PERIOD = 10
_TIMEOUT = 1
_WHILE_UNWELL = 1.0
# The kubelet fills it into arguments, from the environment of the container.
POD_IP = "ZT_POD_IP"
_AGENT = "kube-probe/zt"
_TYPE = "type.googleapis.com/envoy."


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe of a container on a captured port."""

    container: str
    kind: str
    port: int
    content: Json

    @property
    def name(self) -> str:
        """What its route and its cluster are named after."""
        return f"{self.container}/{KINDS[self.kind]}"


def captured_probes(containers: list[Json], captured: Mapping[int, int]) -> Iterator[Probe]:
    """The probes that would come as plaintext to a captured port of the pod."""
    for container in containers:
        for kind in KINDS:
            content = container.get(kind)
            if content:
                port = _port(container, content)
                if port is not None and port in captured:
                    yield Probe(container["name"], kind, port, content)


def captured_hooks(containers: list[Json], captured: Mapping[int, int]) -> Iterator[str]:
    """The hooks that would, as ``<container>'s preStop on port <number>``."""
    for container in containers:
        for hook in _HOOKS:
            content = (container.get("lifecycle") or {}).get(hook) or {}
            port = _port(container, content) if "httpGet" in content else None
            if port in captured:
                yield f"{container['name']}'s {hook} on port {port}"


def _port(container: Json, content: Json) -> int | None:
    """The port of the pod that a probe asks; ``None`` where it asks nobody, or somebody else."""
    for handler in _HANDLERS:
        asked = content.get(handler)
        if asked:
            # With a host the kubelet goes there, from its node: that is not this pod.
            return None if asked.get("host") else _number(container, asked.get("port"))
    return None


def _number(container: Json, port: object) -> int | None:
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    return int(port) if isinstance(port, str) and port.isdigit() else None


def asked_of_sidecar(probe: Probe) -> Json:
    """The probe as the kubelet shall make it; all but its handler stays."""
    kept = {key: value for key, value in probe.content.items() if key not in _HANDLERS}
    ask = {"path": f"/{probe.name}", "port": SIDECAR_PROBES, "scheme": "HTTP"}
    return {"httpGet": ask, **kept}


def complaint(probe: Probe) -> str | None:
    """Why Envoy could not make a probe as it is."""
    asked = probe.content.get("httpGet") or {}
    texts = [asked.get("path") or "", *(item["value"] for item in asked.get("httpHeaders") or ())]
    if all(text.isprintable() for text in texts):
        return None
    return f"{probe.kind} of container {probe.container} has a control character"


# --- Envoy ----------------------------------------------------------------------------------------


def envoy_configuration(probes: list[Probe]) -> str:
    """What is merged over the sidecar's bootstrap, as one argument of a container.

    The kubelet replaces ``$(NAME)`` in arguments, so each dollar sign of ours is written twice.
    """
    content = {
        "static_resources": {
            "listeners": [_listener(probes)],
            "clusters": [_cluster(probe) for probe in probes],
        }
    }
    return json.dumps(content, separators=(",", ":"))


def _listener(probes: list[Probe]) -> Json:
    filters = [
        _extension(
            "envoy.filters.http.health_check",
            "filters.http.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[{"name": ":path", "string_match": {"exact": f"/{probe.name}"}}],
            cluster_min_healthy_percentages={_cluster_name(probe): {"value": 100}},
        )
        for probe in probes
    ]
    router = _extension("envoy.filters.http.router", "filters.http.router.v3.Router")
    unknown = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
    hosts = [{"name": "probes", "domains": ["*"], "routes": [unknown]}]
    manager = _extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="probes",
        route_config={"name": "probes", "virtual_hosts": hosts},
        http_filters=[*filters, router],
    )
    return {
        "name": "probes",
        "address": _address("0.0.0.0", SIDECAR_PROBES),  # noqa: S104 - the kubelet is outside
        "traffic_direction": "INBOUND",
        "filter_chains": [{"filters": [manager]}],
    }


def _cluster(probe: Probe) -> Json:
    name = _cluster_name(probe)
    endpoint = {"endpoint": {"address": _address("127.0.0.1", probe.port)}}
    handler = next(kind for kind in _HANDLERS if kind in probe.content)
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _seconds(probe.content.get("timeoutSeconds") or _TIMEOUT),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "health_checks": [{**_times(probe.content), **_CHECKS[handler](probe)}],
        **_transport(probe),
    }


def _cluster_name(probe: Probe) -> str:
    return f"probe-{probe.name}"


def _times(content: Json) -> Json:
    """When the application is asked. No traffic goes to such a cluster, so those times count."""
    usual = (content.get("periodSeconds") or _PERIOD) / 2
    unwell = min(usual, _WHILE_UNWELL)
    return {
        "timeout": _seconds(content.get("timeoutSeconds") or _TIMEOUT),
        "interval": _seconds(usual),
        "no_traffic_healthy_interval": _seconds(usual),
        "unhealthy_interval": _seconds(unwell),
        "no_traffic_interval": _seconds(unwell),
        "healthy_threshold": 1,
        "unhealthy_threshold": 1,
        # As the kubelet does: what accepts no connection any more is not well.
        "reuse_connection": False,
    }


def _seconds(number: float) -> str:
    return f"{number:g}s"


def _http_check(probe: Probe) -> Json:
    asked = probe.content["httpGet"]
    headers = [(item["name"], item["value"]) for item in asked.get("httpHeaders") or ()]
    hosts = [_as_written(value) for name, value in headers if name.lower() == "host"]
    others = [pair for pair in headers if pair[0].lower() != "host"]
    if not any(name.lower() == "user-agent" for name, _ in others):
        others.append(("User-Agent", _AGENT))
    check = {
        "path": _as_written("/" + (asked.get("path") or "").removeprefix("/")),
        "host": hosts[-1] if hosts else f"$({POD_IP}):{probe.port}",
        "expected_statuses": [{"start": 200, "end": 400}],
        "request_headers_to_add": [_header(name, value) for name, value in others],
    }
    return {"http_health_check": check}


def _header(name: str, value: str) -> Json:
    replaces = name.lower() == "user-agent"  # Envoy has one of its own
    return {
        "header": {"key": name, "value": _as_written(value).replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" if replaces else "APPEND_IF_EXISTS_OR_ADD",
        "keep_empty_value": True,
    }


def _tcp_check(probe: Probe) -> Json:
    del probe
    return {"tcp_health_check": {}}


def _grpc_check(probe: Probe) -> Json:
    service = _as_written(probe.content["grpc"].get("service") or "")
    return {"grpc_health_check": {"service_name": service} if service else {}}


_CHECKS = {"httpGet": _http_check, "tcpSocket": _tcp_check, "grpc": _grpc_check}


def _transport(probe: Probe) -> Json:
    """HTTP/2 for gRPC; TLS for HTTPS, where the kubelet looks at no certificate either."""
    if "grpc" in probe.content:
        kind = "upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": f"{_TYPE}extensions.{kind}", "explicit_http_config": _HTTP2}
        return {"typed_extension_protocol_options": {f"envoy.extensions.{kind}": options}}
    if (probe.content.get("httpGet") or {}).get("scheme") != "HTTPS":
        return {}
    tls = _extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context={"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}},
    )
    return {"transport_socket": tls}


_HTTP2: Json = {"http2_protocol_options": {}}


def _as_written(text: str) -> str:
    """Text of the pod's author in an argument: nothing in it is replaced."""
    return text.replace("$", "$$")


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _extension(name: str, kind: str, **fields: Any) -> Json:  # noqa: ANN401 - any JSON value
    return {"name": name, "typed_config": {"@type": f"{_TYPE}extensions.{kind}", **fields}}
