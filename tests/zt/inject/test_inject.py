"""Any pod with its sidecar: what is put in, what is refused, and what stays as it is."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.oracles.kubelet import arguments
from tests.strategies import TODAY
from tests.zt.inject.samples import EAST, IMAGES, injected, own_container, pods, sample
from zt.compile import compile_policy
from zt.inject import Images, Injected, Needs, Refused, inject, with_sidecar
from zt.load import load_policy
from zt.model import Phase

Json = dict[str, Any]
KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
OURS = ("zt-envoy", "zt-redirect")


def needs_of(namespace: str, pod: Json) -> Needs | None:
    return EAST.of(namespace, pod["spec"]["serviceAccountName"])


def containers(pod: Json) -> list[Json]:
    spec = pod["spec"]
    found = [*spec.get("initContainers", ()), *spec["containers"]]
    return [item for item in found if item["name"] not in OURS]


# --- Any pod --------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(pods())
def test_injecting_again_changes_nothing_and_the_pod_itself_stays(found: tuple[str, Json]) -> None:
    namespace, pod = found
    before = copy.deepcopy(pod)

    once = inject(pod, namespace, EAST, IMAGES)

    assert pod == before
    if isinstance(once, Injected):
        again = inject(once.pod, namespace, EAST, IMAGES)
        assert isinstance(again, Injected)
        assert again.pod == once.pod


@settings(max_examples=100)
@given(pods())
def test_all_that_is_the_pods_own_stays_but_for_probes(found: tuple[str, Json]) -> None:
    namespace, pod = found
    got = inject(pod, namespace, EAST, IMAGES)
    assume(isinstance(got, Injected))
    assert isinstance(got, Injected)

    def own(container: Json) -> Json:
        return {key: value for key, value in container.items() if key not in KINDS}

    spec, after = pod["spec"], got.pod["spec"]
    assert [own(item) for item in containers(got.pod)] == [own(item) for item in containers(pod)]
    assert got.pod["metadata"]["labels"] == pod["metadata"]["labels"]
    assert after.get("volumes", [])[: len(spec.get("volumes", []))] == spec.get("volumes", [])
    aliases = spec.get("hostAliases", [])
    assert after.get("hostAliases", [])[: len(aliases)] == aliases
    changed = {"containers", "initContainers", "volumes", "hostAliases", "securityContext"}
    assert {key: after[key] for key in spec if key not in changed} == {
        key: spec[key] for key in spec if key not in changed
    }


@settings(max_examples=100)
@given(pods())
def test_the_sidecar_is_first_and_the_redirect_second_where_ports_are_captured(
    found: tuple[str, Json],
) -> None:
    namespace, pod = found
    needs = needs_of(namespace, pod)
    got = inject(pod, namespace, EAST, IMAGES)
    assume(isinstance(got, Injected))
    assert isinstance(got, Injected)
    names = [item["name"] for item in got.pod["spec"].get("initContainers", ())]

    expected = [] if needs is None or not needs.sidecar else ["zt-envoy"]
    expected += ["zt-redirect"] if needs and needs.captured else []

    assert names[: len(expected)] == expected
    assert not set(names[len(expected) :]) & set(OURS)
    if expected:
        sidecar = own_container(got.pod, "zt-envoy")
        assert sidecar["restartPolicy"] == "Always"
        mounts = [m["name"] for item in containers(got.pod) for m in item.get("volumeMounts", ())]
        assert not [name for name in mounts if name.startswith("zt-")]


@settings(max_examples=100)
@given(pods())
def test_no_probe_comes_as_plaintext_to_a_captured_port(found: tuple[str, Json]) -> None:
    namespace, pod = found
    needs = needs_of(namespace, pod)
    got = inject(pod, namespace, EAST, IMAGES)
    assume(isinstance(got, Injected) and needs is not None)
    assert isinstance(got, Injected)
    assert needs is not None

    answered = routes(got.pod)
    for before, after in zip(containers(pod), containers(got.pod), strict=True):
        for kind in set(KINDS) & set(before):
            port = asked(before, before[kind])
            if port in needs.captured:
                ask = after[kind]["httpGet"]
                assert ask["port"] == 15022
                assert ask["path"] in answered
                answered.remove(ask["path"])
            else:
                assert after[kind] == before[kind]
            handlers = {"httpGet", "tcpSocket", "grpc", "exec"}
            assert {k: v for k, v in after[kind].items() if k not in handlers} == {
                k: v for k, v in before[kind].items() if k not in handlers
            }
    assert answered == []


def asked(container: Json, probe: Json) -> int | None:
    """The port of the pod that a kubelet would ask."""
    handler = probe.get("httpGet") or probe.get("tcpSocket") or probe.get("grpc")
    if handler is None or "host" in handler:
        return None
    if handler["port"] != "named":
        return int(handler["port"])
    ports = [item["containerPort"] for item in container.get("ports", ())]
    return int(ports[0]) if ports else None


def merged(pod: Json) -> Json | None:
    """What is merged over the sidecar's bootstrap."""
    told = arguments(own_container(pod, "zt-envoy"), {"status.podIP": "10.0.0.7"})
    if "--config-yaml" not in told:
        return None
    content = json.loads(told[told.index("--config-yaml") + 1])
    assert isinstance(content, dict)
    return content


def routes(pod: Json) -> list[str]:
    """Paths that the sidecar answers for the kubelet."""
    if not pod["spec"].get("initContainers") or "zt-envoy" not in {
        item["name"] for item in pod["spec"]["initContainers"]
    }:
        return []
    content = merged(pod)
    if content is None:
        return []
    (listener,) = content["static_resources"]["listeners"]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    return [one["typed_config"]["headers"][0]["string_match"]["exact"] for one in filters[:-1]]


@settings(max_examples=100)
@given(pods())
def test_the_health_check_is_the_probe_whatever_is_written_in_it(found: tuple[str, Json]) -> None:
    _, pod = found
    pod["spec"]["serviceAccountName"] = "shop"
    got = injected("web", pod)
    content = merged(got)
    if content is None:
        assert routes(got) == []
        return
    clusters = {item["name"]: item for item in content["static_resources"]["clusters"]}

    for container in containers(pod):
        for kind in KINDS:
            name = f"probe-{container['name']}/{kind.removesuffix('Probe')}"
            if name not in clusters:
                continue
            (check,) = clusters[name]["health_checks"]
            probe = container[kind]
            assert check["timeout"] == f"{probe.get('timeoutSeconds', 1)}s"
            period = probe.get("periodSeconds", 10)
            assert float(check["interval"].rstrip("s")) == period / 2
            assert check["no_traffic_healthy_interval"] == check["interval"]
            assert check["no_traffic_interval"] == check["unhealthy_interval"]
            assert float(check["unhealthy_interval"].rstrip("s")) == min(period / 2, 1)
            assert check["healthy_threshold"] == check["unhealthy_threshold"] == 1
            if "httpGet" in probe:
                same_request(check["http_health_check"], probe["httpGet"], asked(container, probe))
            elif "grpc" in probe:
                service = check["grpc_health_check"].get("service_name", "")
                assert service == probe["grpc"].get("service", "")
            else:
                assert check["tcp_health_check"] == {}


def same_request(check: Json, ask: Json, port: int | None) -> None:
    assert check["path"] == "/" + ask.get("path", "").removeprefix("/")
    headers = [(item["name"].lower(), item["value"]) for item in ask.get("httpHeaders", ())]
    hosts = [value for name, value in headers if name == "host"]
    assert check["host"] == (hosts[-1] if hosts else f"10.0.0.7:{port}")
    sent = [
        (item["header"]["key"].lower(), item["header"]["value"].replace("%%", "%"))
        for item in check["request_headers_to_add"]
    ]
    others = [pair for pair in headers if pair[0] != "host"]
    agent = (
        [] if any(name == "user-agent" for name, _ in others) else [("user-agent", "kube-probe/zt")]
    )
    assert sent == others + agent


# --- What others do to a pod ----------------------------------------------------------------------


def test_what_others_changed_between_two_calls_is_put_right() -> None:
    namespace, pod = sample("as-admitted")
    once = injected(namespace, pod)
    changed = copy.deepcopy(once)
    # An admission plugin mounts tokens, another webhook puts a container first, with a probe.
    token = {"name": "kube-api-access-x7k2p", "mountPath": "/somewhere"}
    own_container(changed, "zt-envoy")["volumeMounts"].append(token)
    meddler = {
        "name": "meddler",
        "image": "example.com/meddler:1",
        "restartPolicy": "Always",
        "readinessProbe": {"httpGet": {"path": "/m", "port": 8080}},
    }
    changed["spec"]["initContainers"].insert(0, meddler)

    again = injected(namespace, changed)

    names = [item["name"] for item in again["spec"]["initContainers"]]
    assert names == ["zt-envoy", "zt-redirect", "meddler"]
    assert token not in own_container(again, "zt-envoy")["volumeMounts"]
    assert set(routes(again)) == {"/web/liveness", "/meddler/readiness"}
    assert again["spec"]["containers"] == once["spec"]["containers"]


def test_a_copy_of_a_pod_takes_newer_images_and_the_needs_of_its_own_account() -> None:
    namespace, pod = sample("deployment")
    once = injected(namespace, pod)
    newer = inject(once, namespace, EAST, Images("example.com/envoy:2", "example.com/gateway:2"))
    assert isinstance(newer, Injected)
    assert own_container(newer.pod, "zt-envoy")["image"] == "example.com/envoy:2"

    once["spec"]["serviceAccountName"] = "loner"
    assert injected(namespace, once)["spec"]["containers"] == pod["spec"]["containers"]
    assert "initContainers" not in injected(namespace, once)["spec"]


# --- Who gets none --------------------------------------------------------------------------------


def refused(namespace: str, pod: Json) -> str:
    found = inject(pod, namespace, EAST, IMAGES)
    assert isinstance(found, Refused)
    return found.reason


def shop(**spec: Any) -> Json:  # noqa: ANN401 - any JSON value
    container = {"name": "web", "image": "example.com/shop:1"}
    return {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"serviceAccountName": "shop", "containers": [container], **spec},
    }


def test_a_pod_that_nobody_declares_is_left_alone_and_its_author_told() -> None:
    pod = shop(serviceAccountName="nobody")
    found = inject(pod, "web", EAST, IMAGES)
    assert isinstance(found, Injected)
    assert found.pod == pod
    what = "no Service declares service account nobody in namespace web"
    assert found.warnings == (f"{what}: the pod gets no sidecar and no identity",)
    closed = replace(EAST, declared_only=True)
    answer = inject(pod, "web", closed, IMAGES)
    assert answer == Refused(
        f"{what}: declare it under policies/, or let the pod run as a declared one"
    )


def test_a_pod_without_a_service_account_runs_as_default() -> None:
    pod = shop()
    del pod["spec"]["serviceAccountName"]
    found = inject(pod, "web", EAST, IMAGES)
    assert isinstance(found, Injected)
    assert "service account default" in found.warnings[0]


@pytest.mark.parametrize("phase", list(Phase))
def test_a_pod_may_do_without_only_where_its_service_is_observed(phase: Phase) -> None:
    services = tuple(replace(needs, phase=phase) for needs in EAST.services)
    pod = shop()
    pod["metadata"]["annotations"] = {"zt.hanzo.ai/inject": "false"}
    found = inject(pod, "web", replace(EAST, services=services), IMAGES)
    if phase is Phase.OBSERVE:
        assert isinstance(found, Injected)
        assert found.pod == pod
        assert found.warnings
    else:
        assert found == Refused(
            f"shop is in phase {phase}, so its pods need their sidecar: remove annotation "
            "zt.hanzo.ai/inject"
        )


def test_a_pod_that_nobody_declares_may_do_without_in_silence() -> None:
    pod = shop(serviceAccountName="nobody")
    pod["metadata"]["annotations"] = {"zt.hanzo.ai/inject": "false"}
    assert inject(pod, "web", EAST, IMAGES) == Injected(pod)


def test_a_pod_in_the_hosts_network_without_captured_ports_is_left_alone() -> None:
    pod = shop(serviceAccountName="report", hostNetwork=True)
    found = inject(pod, "web", EAST, IMAGES)
    assert isinstance(found, Injected)
    assert found.pod == pod
    assert "host's network" in found.warnings[0]


CLASHES: list[tuple[str, Json, str]] = [
    ("host network", {"hostNetwork": True}, "port 8080, 9090: remove hostNetwork"),
    ("windows", {"os": {"name": "windows"}}, "is for Windows"),
    (
        "container",
        {"initContainers": [{"name": "zt-envoy", "image": "x"}]},
        "container zt-envoy has a name that the mesh keeps for its own",
    ),
    (
        "volume",
        {"volumes": [{"name": "zt-run", "emptyDir": {}}]},
        "volume zt-run has a name that the mesh keeps for its own",
    ),
    (
        "port",
        {"containers": [{"name": "web", "image": "x", "ports": [{"containerPort": 15101}]}]},
        "container web listens on port 15101, which is the sidecar's",
    ),
    (
        "alias",
        {"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "database.data"]}]},
        "hostAliases lead database.data to 192.0.2.1, but shop calls it through its sidecar",
    ),
    (
        "address",
        {"hostAliases": [{"ip": "127.64.9.9", "hostnames": ["a"]}]},
        "127.64.0.0/10 is for the sidecar",
    ),
    (
        "sysctl",
        {
            "securityContext": {
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "1000"}]
            }
        },
        "the sidecar listens on port 80 for an upstream",
    ),
    (
        "hook",
        {
            "containers": [
                {
                    "name": "web",
                    "image": "x",
                    "lifecycle": {"preStop": {"httpGet": {"path": "/stop", "port": 8080}}},
                }
            ]
        },
        "web's preStop on port 8080 comes from the node as plaintext",
    ),
    (
        "control character",
        {
            "containers": [
                {
                    "name": "web",
                    "image": "x",
                    "livenessProbe": {
                        "httpGet": {
                            "port": 8080,
                            "httpHeaders": [{"name": "X", "value": "a\r\nb"}],
                        }
                    },
                }
            ]
        },
        "livenessProbe of container web has a control character",
    ),
]


@pytest.mark.parametrize(
    ("spec", "said"), [case[1:] for case in CLASHES], ids=[c[0] for c in CLASHES]
)
def test_what_stands_in_the_way_is_refused_with_what_to_do(spec: Json, said: str) -> None:
    reason = refused("web", shop(**spec))
    assert said in reason
    assert ": " in reason
    assert "\n" not in reason


def test_hooks_and_ports_beside_the_captured_ones_are_the_pods_own() -> None:
    web = {
        "name": "web",
        "image": "x",
        "ports": [{"containerPort": 8081}, {"containerPort": 15020, "protocol": "UDP"}],
        "lifecycle": {
            "postStart": {"httpGet": {"path": "/start", "port": 8081}},
            "preStop": {"exec": {"command": ["true"]}},
        },
    }
    assert injected("web", shop(containers=[web]))["spec"]["containers"] == [web]


def test_a_sysctl_that_is_low_enough_stays() -> None:
    context = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}
    pod = injected("web", shop(securityContext=context))
    assert pod["spec"]["securityContext"] == context
    assert injected("web", pod) == pod


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"probes": [], "sysctl": true}', '{"probes": {"web": 1}}']
)
def test_an_annotation_that_the_mesh_did_not_write_is_refused(text: str) -> None:
    pod = shop()
    pod["metadata"]["annotations"] = {"zt.hanzo.ai/injected": text}
    assert "is not as the mesh wrote it" in refused("web", pod)


def test_a_wish_that_is_neither_true_nor_false_is_refused() -> None:
    pod = shop()
    pod["metadata"]["annotations"] = {"zt.hanzo.ai/inject": "no"}
    assert "should be 'true' or 'false'" in refused("web", pod)


# --- By the stack ---------------------------------------------------------------------------------


def test_the_stack_puts_the_same_into_a_template() -> None:
    bundle = compile_policy(load_policy("tests/policies/injection.yaml"), "east", TODAY)
    _, pod = sample("gateway")
    template = {key: pod[key] for key in ("metadata", "spec")}

    got = with_sidecar(bundle, "wg-gateway", template, IMAGES)

    assert got["spec"] == injected("zt", pod)["spec"]
    with pytest.raises(ValueError, match="declares no service 'other'"):
        with_sidecar(bundle, "other", template, IMAGES)
    with pytest.raises(ValueError, match="run as service account zt-policy-engine"):
        with_sidecar(bundle, "zt-policy-engine", template, IMAGES)
    with pytest.raises(ValueError, match="host's network"):
        with_sidecar(bundle, "wg-gateway", {"spec": {**pod["spec"], "hostNetwork": True}}, IMAGES)


@given(st.sampled_from(["zt-policy-engine", "wg-gateway"]))
def test_no_port_of_the_evaluator_is_captured(name: str) -> None:
    needs = EAST.named(name)
    assert needs is not None
    assert bool(needs.captured) is (name == "wg-gateway")
    assert needs.sidecar is (name == "wg-gateway")
