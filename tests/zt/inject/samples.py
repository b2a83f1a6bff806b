"""Pods to inject into: as people write them, and as they come by chance."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.strategies import TODAY
from zt.effective import Effective, effective
from zt.inject import Images, Injected, Injection, inject, injection_of
from zt.load import load_policy

Json = dict[str, Any]

FOLDER = Path(__file__).parent / "pods"
SAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
IMAGES = Images(envoy="example.com/envoy:1", redirect="example.com/gateway:1")
RESOLVED: Effective = effective(load_policy("tests/policies/injection.yaml"), TODAY)
EAST: Injection = injection_of(RESOLVED, "east")


def sample(name: str) -> tuple[str, Json]:
    """A namespace, and the pod that a controller makes from a sample."""
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    namespace = found["metadata"]["namespace"]
    if found["kind"] == "Pod":
        return namespace, found
    if found["kind"] == "CronJob":
        found = found["spec"]["jobTemplate"]
    claims = found["spec"].get("volumeClaimTemplates", ())
    return namespace, pod_of(
        found["spec"]["template"], [claim["metadata"]["name"] for claim in claims]
    )


def pod_of(template: Json, claims: list[str]) -> Json:
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    pod["metadata"]["generateName"] = "sample-"
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": f"{c}-0"}} for c in claims]
    if volumes:
        pod["spec"]["volumes"] = [*pod["spec"].get("volumes", ()), *volumes]
    return pod


def injected(namespace: str, pod: Json, injection: Injection = EAST) -> Json:
    """The pod with its sidecar."""
    found = inject(pod, namespace, injection, IMAGES)
    assert isinstance(found, Injected), found
    return found.pod


def own_container(pod: Json, name: str) -> Json:
    """A container of the sidecar's, by name."""
    (found,) = (item for item in pod["spec"]["initContainers"] if item["name"] == name)
    assert isinstance(found, dict)
    return found


# --- Chance ---------------------------------------------------------------------------------------

_PORTS = st.sampled_from([80, 1234, 5432, 8080, 9090])
_TEXT = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=12)
_HEADERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["X-One", "Host", "user-agent", "Accept"]), "value": _TEXT}
    ),
    max_size=3,
)
_HTTP = st.fixed_dictionaries(
    {"port": st.one_of(_PORTS, st.just("named"))},
    optional={
        "path": _TEXT.map("/{}".format),
        "scheme": st.sampled_from(["HTTP", "HTTPS"]),
        "httpHeaders": _HEADERS,
        "host": st.just("192.0.2.1"),
    },
).map(lambda ask: {"httpGet": ask})
_TCP = st.fixed_dictionaries({"port": st.one_of(_PORTS, st.just("named"))}).map(
    lambda ask: {"tcpSocket": ask}
)
_GRPC = st.fixed_dictionaries({"port": _PORTS}, optional={"service": _TEXT}).map(
    lambda ask: {"grpc": ask}
)
_EXEC = st.just({"exec": {"command": ["true"]}})
_TIMES = st.fixed_dictionaries(
    {},
    optional={
        "periodSeconds": st.integers(1, 60),
        "timeoutSeconds": st.integers(1, 9),
        "failureThreshold": st.integers(1, 9),
    },
)
PROBES = st.builds(lambda ask, times: {**ask, **times}, _HTTP | _TCP | _GRPC | _EXEC, _TIMES)


@st.composite
def containers(draw: st.DrawFn, name: str) -> Json:
    found: Json = {"name": name, "image": "example.com/app:1"}
    if draw(st.booleans()):
        found["ports"] = [{"name": "named", "containerPort": draw(_PORTS)}]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if draw(st.booleans()):
            found[kind] = draw(PROBES)
    if draw(st.booleans()):
        limits = {"cpu": "1", "memory": "1Gi"}
        found["resources"] = {"limits": limits, "requests": draw(st.sampled_from([limits, {}]))}
    return found


_ACCOUNTS = [
    *(("web", name) for name in ("shop", "report", "loner", "trial", "collector", "nobody")),
    ("data", "postgres"),
    ("zt", "wg-gateway"),
]


@st.composite
def pods(draw: st.DrawFn) -> tuple[str, Json]:
    """A namespace, and a pod that might run there."""
    spec: Json = {
        "containers": [draw(containers(f"app-{n}")) for n in range(draw(st.integers(1, 3)))],
    }
    namespace, account = draw(st.sampled_from(_ACCOUNTS))
    spec["serviceAccountName"] = account
    if draw(st.booleans()):
        spec["initContainers"] = [
            {
                **draw(containers("first")),
                **draw(st.sampled_from([{}, {"restartPolicy": "Always"}])),
            }
        ]
    if draw(st.booleans()):
        spec["hostAliases"] = draw(
            st.sampled_from([[], [{"ip": "192.0.2.7", "hostnames": ["legacy.example"]}]])
        )
    if draw(st.booleans()):
        spec["volumes"] = draw(st.sampled_from([[], [{"name": "data", "emptyDir": {}}]]))
    if draw(st.booleans()):
        spec["securityContext"] = draw(
            st.sampled_from([{}, {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}])
        )
    metadata: Json = {"labels": {"app": "any"}}
    if draw(st.booleans()):
        key = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
        metadata["annotations"] = draw(st.sampled_from([{}, {"team": "a"}, {key: "data"}]))
    return namespace, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
