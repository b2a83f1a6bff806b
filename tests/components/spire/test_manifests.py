"""The objects of SPIRE by themselves: valid, and fitting to what was compiled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given

from components.settings import StackSettings
from components.spire import (
    agent,
    component,
    controller_manager,
    datastore,
    network_policies,
    rbac,
    server,
)
from tests.components.spire.cases import LAB, PLAIN, PRODUCTION, STACKS, bundle_of, facts_of
from tests.strategies import TODAY, policies
from zt.compile import compile_policy
from zt.model import Policy

Json = dict[str, Any]


def manifests(settings: StackSettings) -> list[Json]:
    bundle, facts = bundle_of(settings.cluster), facts_of(settings.cluster)
    return [
        *rbac.manifests(facts),
        *network_policies.manifests(facts, settings),
        *datastore.manifests(settings),
        *component.server_configuration(bundle, facts),
        *component.agent_configuration(bundle),
        agent.bundle_map("hanzo"),
        server.service(),
        server.disruption_budget(),
        *pods(settings),
    ]


def pods(settings: StackSettings) -> tuple[Json, Json]:
    lifetimes = facts_of(settings.cluster).lifetimes
    servers = server.stateful_set(settings, lifetimes, "digest")
    return servers, agent.daemon_set(settings, "digest")


def pod_of(manifest: Json) -> Json:
    spec: Json = manifest["spec"]["template"]["spec"]
    return spec


def containers(manifest: Json) -> list[Json]:
    pod = pod_of(manifest)
    return [*pod.get("initContainers", []), *pod["containers"]]


def container(manifest: Json, name: str) -> Json:
    return next(item for item in containers(manifest) if item["name"] == name)


def mounts(item: Json) -> dict[str, Json]:
    return {mount["mountPath"]: mount for mount in item["volumeMounts"]}


@pytest.mark.parametrize("version", ["1.33", "1.35"])
@pytest.mark.parametrize("stack", sorted(STACKS))
def test_all_are_valid_objects(stack: str, version: str) -> None:
    for manifest in manifests(STACKS[stack]):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_all_are_known_as_ours(stack: str) -> None:
    for manifest in manifests(STACKS[stack]):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "hanzo-zt"


# --- Paths: what the compiled configuration names, a container finds ------------------------------


def configured_paths(text: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r'^\s*(\w+) = "(/[^"]+)"$', text, re.MULTILINE)


# Paths under which something is served, and no file.
SERVED = {"live_path", "ready_path", "agent_path_template"}


@pytest.mark.parametrize("stack", sorted(STACKS))
@pytest.mark.parametrize("part", ["server", "agent"])
def test_every_path_of_the_configuration_is_on_a_volume(stack: str, part: str) -> None:
    settings = STACKS[stack]
    text = bundle_of(settings.cluster).file(f"spire/{part}.conf").text()
    workload = next(item for item in pods(settings) if item["metadata"]["name"] == f"spire-{part}")
    mounted = mounts(container(workload, f"spire-{part}"))
    names = {name for name, _ in configured_paths(text)}
    assert names >= {"socket_path", "data_dir"}
    for name, path in configured_paths(text):
        if name not in SERVED:
            folders = {
                str(folder) for folder in (PurePosixPath(path), *PurePosixPath(path).parents)
            }
            assert folders & mounted.keys(), path


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_every_mount_has_its_volume_and_every_volume_a_mount(stack: str) -> None:
    for workload in pods(STACKS[stack]):
        volumes = [volume["name"] for volume in pod_of(workload)["volumes"]]
        mounted = {item["name"] for part in containers(workload) for item in part["volumeMounts"]}
        assert mounted == set(volumes)
        assert len(volumes) == len(set(volumes))


def test_the_controller_manager_dials_the_socket_on_which_the_server_listens() -> None:
    told = controller_manager.configuration(facts_of("hanzo-k8s"))
    text = bundle_of("hanzo-k8s").file("spire/server.conf").text()
    assert f'socket_path = "{told["spireServerSocketPath"]}"' in text
    workload, _ = pods(LAB)
    folder = str(PurePosixPath(told["spireServerSocketPath"]).parent)
    ours = mounts(container(workload, "spire-controller-manager"))[folder]
    theirs = mounts(container(workload, "spire-server"))[folder]
    assert ours["name"] == theirs["name"]
    assert ours["readOnly"]
    assert "readOnly" not in theirs
    # The server refuses a caller whose process it does not see.
    assert workload["spec"]["template"]["spec"]["shareProcessNamespace"] is True


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_no_secret_goes_through_environment_or_arguments(stack: str) -> None:
    found = [item for workload in pods(STACKS[stack]) for item in containers(workload)]
    variables = [variable for item in found for variable in item.get("env", [])]
    assert {item["name"] for item in variables} == {"ENABLE_WEBHOOKS", "MY_NODE_NAME"}
    assert not [item for item in found if "envFrom" in item]
    assert not [item for item in found if "password" in json.dumps(item.get("args", []))]


def test_the_existing_database_is_read_from_the_key_that_was_named() -> None:
    volume = datastore.volume(PRODUCTION.spire.datastore)
    paths = {
        source["secret"]["items"][0]["key"]: (
            source["secret"]["items"][0]["path"],
            source["secret"].get("optional", False),
        )
        for source in volume["projected"]["sources"]
    }
    assert paths == {"connection": ("datastore.conf", False), "ca.crt": ("ca.crt", True)}


def test_the_server_never_gets_the_key_or_the_superuser_of_its_database() -> None:
    volume = datastore.volume(LAB.spire.datastore)
    keys = {source["secret"]["items"][0]["key"] for source in volume["projected"]["sources"]}
    assert keys == {"datastore.conf", "tls.crt"}


def test_the_database_in_the_cluster_is_verified_by_the_name_in_its_certificate() -> None:
    recipe = datastore.recipe()
    text = recipe.texts["datastore.conf"]
    (host,) = re.findall(r"host=(\S+)", text)
    assert host in recipe.certificate
    assert "sslmode=verify-full" in text
    assert "password={spire}" in text
    service = next(item for item in datastore.manifests(LAB) if item["kind"] == "Service")
    metadata = service["metadata"]
    assert host == f"{metadata['name']}.{metadata['namespace']}.svc"


def test_a_key_from_kms_stays_in_memory_and_its_token_with_those_who_fetch_it() -> None:
    workload, _ = pods(PRODUCTION)
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    (fetch,) = pod_of(workload)["initContainers"]
    mounted = mounts(container(workload, "spire-server"))["/run/spire/upstream"]
    assert mounted["readOnly"]
    assert volumes[mounted["name"]]["emptyDir"]["medium"] == "Memory"
    tokens = {
        name
        for name, volume in volumes.items()
        for source in volume.get("projected", {}).get("sources", [])
        if source.get("serviceAccountToken", {}).get("audience") == "kms"
    }
    assert tokens <= {item["name"] for item in fetch["volumeMounts"]}
    *others, refresh = pod_of(workload)["containers"]
    for item in others:
        assert tokens.isdisjoint(mount["name"] for mount in item["volumeMounts"])
    for item in (fetch, refresh):
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts(item)


def test_a_key_that_is_new_in_kms_comes_into_a_pod_that_runs() -> None:
    workload, _ = pods(PRODUCTION)
    (fetch,) = pod_of(workload)["initContainers"]
    refresh = container(workload, "refresh-keys")
    *same, every = refresh["args"]
    assert same == fetch["args"]
    assert every == "--every=600"
    assert {**refresh, "name": "fetch-keys", "args": same} == fetch
    # Well before a server makes its next CA, at half of the life of the one that it has.
    short = replace(facts_of("hanzo-k8s").lifetimes, ca=12 * 60)
    servers = server.stateful_set(PRODUCTION, short, "digest")
    assert container(servers, "refresh-keys")["args"][-1] == "--every=12"
    # A development CA is the kubelet's to refresh.
    servers, _ = pods(LAB)
    assert [item["name"] for item in pod_of(servers)["containers"]] == [
        "spire-server",
        "spire-controller-manager",
    ]


# --- Pods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_containers_have_no_privilege_and_a_limit(stack: str) -> None:
    for workload in pods(STACKS[stack]):
        assert pod_of(workload)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod_of(workload)["automountServiceAccountToken"] is False
        for item in containers(workload):
            security = item["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"]
            assert security["allowPrivilegeEscalation"] is False
            assert item["resources"]["limits"]["memory"]


def test_only_the_agent_is_root_and_sees_processes_of_its_node() -> None:
    servers, agents = map(pod_of, pods(LAB))
    assert servers["securityContext"]["runAsNonRoot"]
    assert "hostPID" not in servers
    assert agents["hostPID"]
    assert agents["securityContext"]["runAsUser"] == 0
    for pod in (servers, agents):
        assert not pod.keys() & {"hostNetwork", "hostIPC"}
    paths = [volume["hostPath"]["path"] for volume in agents["volumes"] if "hostPath" in volume]
    assert paths == ["/run/spire/sockets"]


def test_the_agent_proves_itself_to_the_server_that_expects_it() -> None:
    text = bundle_of("hanzo-k8s").file("spire/server.conf").text()
    _, workload = pods(LAB)
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    (source,) = volumes["tokens"]["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert f'audience = ["{token["audience"]}"]' in text.replace("\n", "")
    account = f"spire-system:{pod_of(workload)['serviceAccountName']}"
    assert f'service_account_allow_list = ["{account}"]' in text
    assert mounts(container(workload, "spire-agent"))["/var/run/secrets/tokens"]["readOnly"]
    assert token["path"] == "spire-agent"


def test_the_agent_waits_for_the_bundle_and_knows_its_node_by_address() -> None:
    _, workload = pods(LAB)
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    bundle = volumes["bundle"]["configMap"]
    assert bundle["items"] == [{"key": "bundle.pem", "path": "bundle.pem"}]
    assert not bundle.get("optional")
    (variable,) = container(workload, "spire-agent")["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP"
    assert "data" not in agent.bundle_map("hanzo")


def test_servers_start_one_after_another_for_they_make_the_tables() -> None:
    workload, _ = pods(LAB)
    assert workload["spec"]["podManagementPolicy"] == "OrderedReady"


def test_servers_spread_and_nodes_are_drained_one_at_a_time() -> None:
    workload, _ = pods(LAB)
    assert workload["spec"]["replicas"] == 2
    keys = [item["topologyKey"] for item in pod_of(workload)["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    budget = server.disruption_budget()["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == workload["spec"]["selector"]


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_probes_ask_where_something_listens(stack: str) -> None:
    for workload in pods(STACKS[stack]):
        for item in pod_of(workload)["containers"]:
            if item["name"] == "refresh-keys":
                assert "ports" not in item  # it calls, and nobody calls it
                continue
            ports = {port["containerPort"] for port in item["ports"]}
            probes = {key: item[key]["httpGet"]["port"] for key in item if key.endswith("Probe")}
            assert probes.keys() >= {"livenessProbe", "readinessProbe"}
            assert set(probes.values()) <= ports


# --- What restarts --------------------------------------------------------------------------------


def test_another_configuration_restarts_and_another_registration_does_not() -> None:
    hanzo, lux = bundle_of("hanzo-k8s"), bundle_of("lux-k8s")
    facts = facts_of("hanzo-k8s")
    digest = component.digest_of(component.server_configuration(hanzo, facts))
    other = component.digest_of(component.server_configuration(lux, facts_of("lux-k8s")))
    assert digest != other
    fewer = replace(
        hanzo, files=tuple(file for file in hanzo.files if "registrations/iam" not in file.path)
    )
    assert component.digest_of(component.server_configuration(fewer, facts)) == digest
    template = server.stateful_set(LAB, facts.lifetimes, digest)["spec"]["template"]
    assert template["metadata"]["annotations"]["zt.hanzo.ai/configuration"] == digest


# --- The controller-manager -----------------------------------------------------------------------


@given(policies())
def test_the_controller_manager_looks_where_services_are_declared(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        facts = compile_policy(policy, cluster.name, TODAY).facts
        assert facts is not None
        told = controller_manager.configuration(facts)
        assert told["trustDomain"] == policy.mesh.trust_domain
        assert told["clusterName"] == cluster.name
        assert told["className"] == "hanzo-zt"
        assert set(told["cacheNamespaces"]) == set(facts.namespaces or ("spire-system",))
        for namespace in told["cacheNamespaces"]:
            assert not [item for item in told["ignoreNamespaces"] if re.search(item, namespace)]


# --- NetworkPolicies ------------------------------------------------------------------------------


def taken(settings: StackSettings, name: str) -> dict[int, list[Json]]:
    """From whom a part's pods take connections, by port."""
    found = {
        item["metadata"]["name"]: item["spec"]
        for item in network_policies.manifests(facts_of(settings.cluster), settings)
    }
    return {
        port["port"]: rule.get("from", [{"anywhere": True}])
        for rule in found[name].get("ingress", [])
        for port in rule["ports"]
    }


def test_by_default_nothing_comes_in() -> None:
    first = network_policies.manifests(facts_of("hanzo-k8s"), LAB)[0]
    assert first["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}


def test_servers_take_agents_and_from_outside_only_where_the_policy_has_some() -> None:
    agents = [{"podSelector": {"matchLabels": {"app": "spire-agent"}}}]
    assert taken(PLAIN, "spire-server")[8081] == agents
    assert taken(LAB, "spire-server")[8081] == [{"anywhere": True}]


def test_the_database_takes_the_servers_alone() -> None:
    servers = [{"podSelector": {"matchLabels": {"app": "spire-server"}}}]
    assert taken(LAB, "spire-datastore") == {5432: servers}


def test_metrics_are_for_the_metrics_service() -> None:
    (peer,) = taken(LAB, "spire-agent")[9988]
    assert peer["podSelector"]["matchLabels"] == {"app": "prometheus"}
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_policies_select_the_pods_that_there_are() -> None:
    servers, agents = (item["spec"]["template"]["metadata"]["labels"] for item in pods(LAB))
    assert servers["app"] == "spire-server" == server.service()["spec"]["selector"]["app"]
    assert agents["app"] == "spire-agent"
