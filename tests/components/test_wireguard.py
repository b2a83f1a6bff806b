"""The gateway is what policy and stack say; its private key is in no object, only the way to it."""

import base64
import json
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
from kubernetes_validate import validate

from components.keys import AUDIENCE, key_arguments
from components.settings import Gateway, KeySource, StackSettings
from components.wireguard import Wireguard, findings, is_wanted
from gateway.fetch import parser as fetch_parser
from gateway.tunnel.store import BOOK
from tests.components.registered import Run, run
from tests.components.stack_settings import lab_settings
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.inject.restore import SAFE_TO_EVICT
from zt.load import load_policy
from zt.wellknown import AGENT_SOCKET, GATEWAY_LOCAL, GATEWAY_TUNNEL

ROOT = Path(__file__).parents[2]
CLUSTERS = ["hanzo-k8s", "lux-k8s"]
PUBLIC = base64.b64encode(bytes(32)).decode()
KEYS = KeySource(address="https://kms.hanzo.ai", project="zt-wireguard", path="here")
FULL = Gateway(keys=KEYS, peers=tuple((cluster, PUBLIC) for cluster in CLUSTERS))
Json = dict[str, Any]


@cache
def bundle_of(cluster: str, policies: str = "policies") -> Bundle:
    return compile_policy(load_policy(ROOT / policies), cluster, date(2026, 11, 24))


def settings_of(cluster: str, gateway: Gateway = FULL, *, production: bool = True) -> StackSettings:
    return replace(lab_settings(cluster), production=production, gateway=gateway)


def registered(bundle: Bundle, settings: StackSettings) -> Run:
    def program() -> None:
        Wireguard("wireguard", bundle, settings, pulumi.ResourceOptions())

    return run(program, bundle.cluster, {})


def objects(found: Run) -> dict[str, Json]:
    return {
        f"{resource.type.rsplit(':', 1)[1]}/{resource.inputs['metadata']['name']}": resource.inputs
        for resource in found.resources
        if resource.custom
    }


@pytest.fixture(params=CLUSTERS)
def made(request: pytest.FixtureRequest) -> dict[str, Json]:
    return objects(registered(bundle_of(request.param), settings_of(request.param)))


def pod_of(found: dict[str, Json]) -> Json:
    spec: Json = found["Deployment/wg-gateway"]["spec"]["template"]["spec"]
    return spec


def containers(found: dict[str, Json]) -> dict[str, Json]:
    pod = pod_of(found)
    return {item["name"]: item for item in (*pod["initContainers"], *pod["containers"])}


def test_the_objects_of_a_gateway_are_children_of_one_component() -> None:
    found = registered(bundle_of("hanzo-k8s"), settings_of("hanzo-k8s"))
    (component,) = found.of("hanzo-zt:components:Wireguard")

    assert {(child.type, child.name) for child in found.children(component)} == {
        ("kubernetes:core/v1:ServiceAccount", "wireguard:hanzo/wg-gateway"),
        ("kubernetes:core/v1:ConfigMap", "wireguard:hanzo/wg-gateway-peers"),
        ("kubernetes:apps/v1:Deployment", "wireguard:hanzo/wg-gateway"),
        ("kubernetes:core/v1:Service", "wireguard:hanzo/wg-gateway"),
        ("kubernetes:core/v1:Service", "wireguard:hanzo/wg-gateway-tunnel"),
    }
    assert len(found.resources) == 6
    assert found.outputs[component.urn] == {"endpoint": ""}


def test_every_object_fits_the_schema_of_kubernetes(made: dict[str, Json]) -> None:
    for manifest in made.values():
        validate(manifest, "1.35", strict=True)


def test_one_pod_at_a_time_has_the_key(made: dict[str, Json]) -> None:
    spec = made["Deployment/wg-gateway"]["spec"]

    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_envoy_and_the_redirect_come_before_the_key_and_the_tunnel(made: dict[str, Json]) -> None:
    assert list(containers(made)) == ["zt-envoy", "zt-redirect", "fetch-keys", "wireguard"]
    assert containers(made)["zt-envoy"]["restartPolicy"] == "Always"


def test_the_key_is_in_memory_and_only_the_tunnel_sees_it(made: dict[str, Json]) -> None:
    (volume,) = (item for item in pod_of(made)["volumes"] if item["name"] == "keys")
    mounted = {
        name
        for name, container in containers(made).items()
        if any(mount["name"] == "keys" for mount in container.get("volumeMounts", []))
    }

    assert volume["emptyDir"]["medium"] == "Memory"
    assert mounted == {"fetch-keys", "wireguard"}


def test_only_who_reads_and_renews_keys_has_a_token_and_that_is_for_kms(
    made: dict[str, Json],
) -> None:
    pod = pod_of(made)
    tokens = {
        volume["name"]: source["serviceAccountToken"]["audience"]
        for volume in pod["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "serviceAccountToken" in source
    }
    mounted = {
        name
        for name, container in containers(made).items()
        if any(mount["name"] in tokens for mount in container.get("volumeMounts", []))
    }

    assert set(tokens.values()) == {AUDIENCE}
    assert mounted == {"fetch-keys", "wireguard"}
    assert pod["automountServiceAccountToken"] is False


def test_only_the_tunnel_and_envoy_ask_the_agent_who_they_are(made: dict[str, Json]) -> None:
    pod = pod_of(made)
    sockets = {
        volume["name"]
        for volume in pod["volumes"]
        if volume.get("hostPath", {}).get("path") == str(Path(AGENT_SOCKET).parent)
    }
    mounts = {
        (name, mount["mountPath"], mount["readOnly"])
        for name, container in containers(made).items()
        for mount in container.get("volumeMounts", [])
        if mount["name"] in sockets
    }
    annotations = made["Deployment/wg-gateway"]["spec"]["template"]["metadata"]["annotations"]

    where = str(Path(AGENT_SOCKET).parent)
    assert mounts == {("zt-envoy", where, True), ("wireguard", where, True)}
    assert f"--svid=unix://{AGENT_SOCKET}" in containers(made)["wireguard"]["args"]
    # They are no data: the pod may move.
    assert set(annotations[SAFE_TO_EVICT].split(",")) == sockets


def test_net_admin_is_for_the_tunnel_and_the_redirect_alone(made: dict[str, Json]) -> None:
    added = {
        name: container["securityContext"]["capabilities"].get("add", [])
        for name, container in containers(made).items()
    }

    assert {name: rights for name, rights in added.items() if rights} == {
        "zt-redirect": ["NET_ADMIN"],
        "wireguard": ["NET_ADMIN"],
    }


def test_nobody_can_take_more_rights_or_write_to_the_image(made: dict[str, Json]) -> None:
    for container in containers(made).values():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert not context.get("privileged")


def test_what_the_key_step_is_told_are_references(made: dict[str, Json]) -> None:
    container = containers(made)["fetch-keys"]

    assert "env" not in container
    assert [argument.split("=")[0] for argument in container["args"]] == [
        "--address",
        "--project",
        "--path",
        "--token-file",
        "--auth",
        "--into",
        "--field",
        "--optional",
    ]
    given = fetch_parser().parse_args(container["args"])
    # Whoever starts without it would make another key, which no peer knows.
    assert (given.path, given.field) == (KEYS.path, [BOOK])


def test_how_to_come_in_to_kms_is_the_stacks_to_say() -> None:
    keys = replace(KEYS, auth="jwt-here", role="gateway", authority="PEM", namespace="zt")
    settings = settings_of("hanzo-k8s", replace(FULL, keys=keys))
    found = containers(objects(registered(bundle_of("hanzo-k8s"), settings)))
    given = fetch_parser().parse_args(found["fetch-keys"]["args"])

    assert (given.auth, given.role, given.authority, given.namespace) == (
        "jwt-here",
        "gateway",
        "PEM",
        "zt",
    )
    assert set(key_arguments(keys)) <= set(found["wireguard"]["args"])


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_peers_are_the_compiled_ones_with_their_public_keys(cluster: str) -> None:
    bundle = bundle_of(cluster)
    found = objects(registered(bundle, settings_of(cluster)))
    peers = json.loads(found["ConfigMap/wg-gateway-peers"]["data"]["peers.json"])
    compiled = bundle.file("wireguard/peers.yaml").manifest()

    assert [peer.pop("publicKey") for peer in peers["peers"]] == [PUBLIC]
    assert peers == compiled
    whose = {"hanzo-k8s": "lux-k8s/lux", "lux-k8s": "hanzo-k8s/hanzo"}[cluster]
    assert [peer["spiffe"] for peer in peers["peers"]] == [f"spiffe://hanzo.ai/{whose}/wg-gateway"]


def test_the_outside_reaches_the_tunnel_and_what_a_sidecar_decides_on(
    made: dict[str, Json],
) -> None:
    spec = made["Service/wg-gateway-tunnel"]["spec"]

    assert spec["type"] == "LoadBalancer"
    assert spec["externalTrafficPolicy"] == "Local"
    # The load balancer needs a TCP port for its health check.
    assert {(port["protocol"], port["port"], port["targetPort"]) for port in spec["ports"]} == {
        ("UDP", 51820, 51820),
        ("UDP", 51821, 51821),
        ("TCP", GATEWAY_TUNNEL, GATEWAY_TUNNEL),
    }


def test_sidecars_and_prometheus_reach_it_inside_alone(made: dict[str, Json]) -> None:
    spec = made["Service/wg-gateway"]["spec"]

    assert "type" not in spec
    assert {port["port"] for port in spec["ports"]} == {GATEWAY_LOCAL, 9586}


def test_where_there_is_no_production_the_load_balancer_is_nobodys_in_particular() -> None:
    found = objects(registered(bundle_of("hanzo-k8s"), settings_of("hanzo-k8s", production=False)))
    service = found["Service/wg-gateway-tunnel"]

    assert service["spec"]["type"] == "LoadBalancer"
    assert "annotations" not in service["metadata"]


@pytest.mark.parametrize("userspace", [True, False])
def test_the_tun_device_is_there_where_the_kernel_has_no_wireguard(*, userspace: bool) -> None:
    gateway = replace(FULL, userspace=userspace)
    pod = pod_of(objects(registered(bundle_of("hanzo-k8s"), settings_of("hanzo-k8s", gateway))))
    devices = [volume for volume in pod["volumes"] if volume["name"] == "tun"]

    assert [device["hostPath"]["type"] for device in devices] == ["CharDevice"] * userspace


@pytest.mark.parametrize("drain", [180, 20])
def test_the_lane_that_is_left_stays_as_long_as_the_stack_says(drain: int) -> None:
    gateway = replace(FULL, drain=drain) if drain != FULL.drain else FULL
    pod = pod_of(objects(registered(bundle_of("hanzo-k8s"), settings_of("hanzo-k8s", gateway))))
    (tunnel,) = [item for item in pod["containers"] if item["name"] == "wireguard"]
    assert f"--drain={drain}" in tunnel["args"]


def test_service_and_pod_carry_the_labels_of_the_policy(made: dict[str, Json]) -> None:
    labels = made["Deployment/wg-gateway"]["spec"]["template"]["metadata"]["labels"]

    for name in ("Service/wg-gateway", "Service/wg-gateway-tunnel"):
        assert made[name]["spec"]["selector"].items() <= labels.items()
    assert pod_of(made)["serviceAccountName"] == "wg-gateway"


# --- What people are told -------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_without_a_key_source_nothing_is_wanted_and_one_sentence_says_so(cluster: str) -> None:
    settings = settings_of(cluster, Gateway())
    (sentence,) = findings(bundle_of(cluster), settings)

    assert not is_wanted(bundle_of(cluster), settings)
    assert "gateway.keys" in sentence


def test_a_peer_without_a_public_key_is_left_out_and_named() -> None:
    bundle, settings = bundle_of("hanzo-k8s"), settings_of("hanzo-k8s", Gateway(keys=KEYS))
    (sentence,) = findings(bundle, settings)
    peers = objects(registered(bundle, settings))["ConfigMap/wg-gateway-peers"]["data"]

    assert is_wanted(bundle, settings)
    assert "lux-k8s" in sentence
    assert json.loads(peers["peers.json"])["peers"] == []


def test_with_all_keys_there_is_nothing_to_say() -> None:
    assert findings(bundle_of("hanzo-k8s"), settings_of("hanzo-k8s")) == ()


def test_a_key_source_where_the_policy_has_no_gateway_makes_none() -> None:
    bundle = bundle_of("east", "tests/policies/minimal.yaml")
    (sentence,) = findings(bundle, settings_of("east"))

    assert not is_wanted(bundle, settings_of("east"))
    assert "declare" in sentence
    assert findings(bundle, settings_of("east", Gateway())) == ()
    with pytest.raises(pulumi.RunError, match="no gateway"):
        registered(bundle, settings_of("east"))
