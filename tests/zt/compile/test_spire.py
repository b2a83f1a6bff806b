"""What SPIRE is told, read back as SPIRE and its controller-manager would."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.strategies import TODAY, policies
from zt.bundle import CompiledFile
from zt.compile.spire import compile_spire, duration
from zt.effective import effective
from zt.load import load_policy
from zt.model import Algorithms, KeyType, Lifetimes, Policy
from zt.spiffe import spiffe_id

POLICY = load_policy(Path(__file__).parents[3] / "policies")
REGISTRATIONS = "spire/registrations/"


def compiled(policy: Policy, cluster: str) -> dict[str, CompiledFile]:
    return {file.path: file for file in compile_spire(effective(policy, TODAY), cluster)}


def registrations(policy: Policy, cluster: str, kind: str) -> dict[str, Any]:
    """Spec of each object of a kind, by its file's name."""
    found = {
        path.removeprefix(REGISTRATIONS).removesuffix(".yaml"): file.manifest()
        for path, file in compiled(policy, cluster).items()
        if path.startswith(REGISTRATIONS)
    }
    return {name: item["spec"] for name, item in found.items() if item["kind"] == kind}


def read_hcl(text: str) -> dict[str, Any]:
    """HCL 1 as far as one entry a line goes."""
    lines = (line.strip() for line in text.splitlines())
    return read_block(line for line in lines if line and not line.startswith("#"))


def read_block(lines: Iterator[str]) -> dict[str, Any]:
    block: dict[str, Any] = {}
    for line in lines:
        if line == "}":
            return block
        key, mark, value = line.partition(" = ")
        if mark:
            block[key] = json.loads(value)
        elif line.endswith(" {}"):
            block[line.removesuffix(" {}")] = {}
        else:
            assert line.endswith(" {"), line
            block[line.removesuffix(" {")] = read_block(lines)
    return block


def test_the_server_has_the_lifetimes_and_keys_of_the_mesh() -> None:
    server = read_hcl(compiled(POLICY, "hanzo-k8s")["spire/server.conf"].text())["server"]
    assert server == {
        "trust_domain": "hanzo.ai",
        "bind_port": 8081,
        "socket_path": "/run/spire/server/api.sock",
        "data_dir": "/run/spire/data",
        "ca_key_type": "ec-p256",
        "ca_ttl": "24h",
        "default_x509_svid_ttl": "1h",
        "agent_ttl": "1h",
        "default_jwt_svid_ttl": "15m",
        "audit_log_enabled": True,
        "prune_attested_nodes_expired_for": "72h",
    }


def test_lifetimes_and_keys_follow_the_mesh() -> None:
    lifetimes = Lifetimes(svid=90, ca=36 * 3600, agent_token=600)
    mesh = replace(
        POLICY.mesh, lifetimes=lifetimes, algorithms=Algorithms(key_type=KeyType.EC_P384)
    )
    files = compiled(replace(POLICY, mesh=mesh), "hanzo-k8s")
    server = read_hcl(files["spire/server.conf"].text())["server"]
    agent = read_hcl(files["spire/agent.conf"].text())["agent"]
    assert (server["ca_ttl"], server["default_x509_svid_ttl"]) == ("36h", "90s")
    assert (server["agent_ttl"], server["default_jwt_svid_ttl"]) == ("90s", "10m")
    assert server["ca_key_type"] == agent["workload_x509_svid_key_type"] == "ec-p384"
    assert files[REGISTRATIONS + "iam.yaml"].manifest()["spec"]["ttl"] == "90s"


def test_both_clusters_chain_to_the_upstream_and_keep_no_key_on_disk() -> None:
    for cluster in ("hanzo-k8s", "lux-k8s"):
        plugins = read_hcl(compiled(POLICY, cluster)["spire/server.conf"].text())["plugins"]
        assert plugins['KeyManager "memory"'] == {"plugin_data": {}}
        assert plugins['UpstreamAuthority "disk"']["plugin_data"] == {
            "cert_file_path": "/run/spire/upstream/tls.crt",
            "key_file_path": "/run/spire/upstream/tls.key",
            "bundle_file_path": "/run/spire/upstream/bundle.crt",
        }


def test_agents_of_the_own_cluster_alone_are_attested() -> None:
    files = compiled(POLICY, "lux-k8s")
    server = read_hcl(files["spire/server.conf"].text())["plugins"]['NodeAttestor "k8s_psat"']
    agent = read_hcl(files["spire/agent.conf"].text())["plugins"]['NodeAttestor "k8s_psat"']
    assert server["plugin_data"]["clusters"] == {
        '"lux-k8s"': {
            "service_account_allow_list": ["spire-system:spire-agent"],
            "audience": ["spire-server"],
        }
    }
    assert agent["plugin_data"] == {"cluster": "lux-k8s"}


def test_every_namespace_with_a_service_gets_the_trust_bundle() -> None:
    plugins = read_hcl(compiled(POLICY, "hanzo-k8s")["spire/server.conf"].text())["plugins"]
    published = plugins['BundlePublisher "k8s_configmap"']["plugin_data"]["clusters"].values()
    assert [item["namespace"] for item in published] == ["hanzo", "monitoring", "spire-system"]
    assert {item["format"] for item in published} == {"pem"}


def test_the_agent_listens_where_the_sidecars_look() -> None:
    agent = read_hcl(compiled(POLICY, "hanzo-k8s")["spire/agent.conf"].text())["agent"]
    assert agent["socket_path"] == "/run/spire/sockets/agent.sock"
    assert agent["sds"] == {"default_svid_name": "default", "default_bundle_name": "ROOTCA"}


@pytest.mark.parametrize("cluster", ["hanzo-k8s", "lux-k8s"])
def test_the_database_is_named_in_a_file_so_that_no_secret_is_written(cluster: str) -> None:
    files = compiled(POLICY, cluster)
    server = files["spire/server.conf"].text()
    assert read_hcl(server)["plugins"]['DataStore "sql"'] == {
        "plugin_data_file": "/run/spire/datastore/datastore.conf"
    }
    assert "$" not in server + files["spire/agent.conf"].text()


def test_values_name_where_they_came_from() -> None:
    server = compiled(POLICY, "hanzo-k8s")["spire/server.conf"].text()
    assert '# Mesh hanzo: lifetimes.ca\n  ca_ttl = "24h"' in server


def test_the_registration_of_a_service() -> None:
    file = compiled(POLICY, "hanzo-k8s")[REGISTRATIONS + "iam.yaml"]
    assert file.manifest() == {
        "apiVersion": "spire.spiffe.io/v1alpha1",
        "kind": "ClusterSPIFFEID",
        "metadata": {
            "name": "hanzo.iam",
            "labels": {"app.kubernetes.io/managed-by": "hanzo-zt"},
        },
        "spec": {
            "className": "hanzo-zt",
            "spiffeIDTemplate": "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "hanzo"}},
            "podSelector": {"matchLabels": {"app": "iam"}},
            "workloadSelectorTemplates": ["k8s:ns:hanzo", "k8s:sa:iam"],
            "ttl": "1h",
        },
    }


def test_only_the_evaluator_has_dns_names_for_it_serves_the_webhook() -> None:
    for cluster, namespace in (("hanzo-k8s", "hanzo"), ("lux-k8s", "lux")):
        found = registrations(POLICY, cluster, "ClusterSPIFFEID")
        named = {
            name: s["dnsNameTemplates"] for name, s in found.items() if "dnsNameTemplates" in s
        }
        service = f"zt-policy-engine.{namespace}.svc"
        assert named == {"zt-policy-engine": [service, f"{service}.cluster.local"]}


def test_the_ci_runner_is_registered_by_its_registrar_alone() -> None:
    assert registrations(POLICY, "lux-k8s", "ClusterStaticEntry") == {}
    assert registrations(POLICY, "hanzo-k8s", "ClusterStaticEntry") == {
        "ci.github-actions.deploy": {
            "className": "hanzo-zt",
            "spiffeID": "spiffe://hanzo.ai/ci/github-actions/deploy",
            "parentID": "spiffe://hanzo.ai/spire/agent/x509pop/ci-runner",
            "selectors": ["unix:user:runner"],
            "x509SVIDTTL": "1h",
        }
    }


def test_the_parent_of_the_ci_runner_can_be_attested() -> None:
    """The template makes ``spire/agent/x509pop/<common name>``, as the service's parent is."""
    hanzo, lux = (
        read_hcl(compiled(POLICY, cluster)["spire/server.conf"].text())["plugins"]
        for cluster in ("hanzo-k8s", "lux-k8s")
    )
    assert hanzo['NodeAttestor "x509pop"']["plugin_data"] == {
        "ca_bundle_path": "/run/spire/node-ca/ca.crt",
        "agent_path_template": "/{{ .PluginName }}/{{ .Subject.CommonName }}",
    }
    assert 'NodeAttestor "x509pop"' not in lux


def test_a_service_of_the_same_name_inside_and_outside_is_registered_twice() -> None:
    inside = replace(POLICY.services[1], name="deploy")
    policy = replace(POLICY, services=(*POLICY.services, inside))
    found = compiled(policy, inside.cluster)
    assert REGISTRATIONS + "deploy.yaml" in found
    assert REGISTRATIONS + "ci.github-actions.deploy.yaml" in found


@given(policies())
def test_each_service_is_registered_once_in_the_mesh(policy: Policy) -> None:
    identities = [
        spec.get("spiffeIDTemplate") or spec["spiffeID"]
        for cluster in policy.mesh.clusters
        for kind in ("ClusterSPIFFEID", "ClusterStaticEntry")
        for spec in registrations(policy, cluster.name, kind).values()
    ]
    assert sorted(identities) == sorted(item.spiffe(policy.mesh) for item in policy.services)


@given(policies())
def test_a_pod_gets_no_identity_but_that_of_its_own_namespace_and_account(policy: Policy) -> None:
    """Pods with the labels of one service, in the namespace of another, with a third's account."""
    mesh = policy.mesh
    for cluster in mesh.clusters:
        services = [item for item in policy.services if item.cluster == cluster.name]
        found = registrations(policy, cluster.name, "ClusterSPIFFEID")
        for service in services:
            got = identities_of(found, service.namespace, service.account, service.labels)
            assert service.spiffe(mesh) in got
        for labels, namespace, account in product(services, repeat=3):
            got = identities_of(found, namespace.namespace, account.account, labels.labels)
            own = spiffe_id(mesh.trust_domain, cluster.name, namespace.namespace, account.account)
            assert got <= {own}


def identities_of(
    found: dict[str, Any], namespace: str, account: str, labels: dict[str, str]
) -> set[str]:
    """What the controller-manager and the agent give a pod: both selectors must hold."""
    facts = {f"k8s:ns:{namespace}", f"k8s:sa:{account}"}
    return {
        spec["spiffeIDTemplate"]
        for spec in found.values()
        if spec["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
        and spec["podSelector"]["matchLabels"].items() <= labels.items()
        and facts.issuperset(spec["workloadSelectorTemplates"])
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1s"), (90, "90s"), (900, "15m"), (3600, "1h"), (5400, "90m"), (86400, "24h")],
)
def test_durations_are_as_go_writes_them(seconds: int, text: str) -> None:
    assert duration(seconds) == text
