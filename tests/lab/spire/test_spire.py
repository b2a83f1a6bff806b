"""Real SPIRE with the compiled configuration, by the objects of the component, on a real API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from lab.tools.build import tool
from tests import waiting
from tests.components.spire.cases import bundle_of, facts_of
from tests.lab.spire.site import SERVER_DNS, Site
from zt.compile.spire import API_VERSION

eventually = partial(waiting.eventually, patience=30.0, pause=0.2)

Json = dict[str, Any]

CLUSTER = "hanzo-k8s"
FACTS = facts_of(CLUSTER)
CI_RUNNER = "spiffe://hanzo.ai/ci/github-actions/deploy"
EVALUATOR = "zt-policy-engine"


def spiffe(namespace: str, account: str) -> str:
    return f"spiffe://{FACTS.trust_domain}/{CLUSTER}/{namespace}/{account}"


def identities(site: Site, server: int = 0) -> dict[str, list[Json]]:
    """Entries by SPIFFE ID."""
    found: dict[str, list[Json]] = {}
    for entry in site.entries(server):
        name = f"spiffe://{entry['spiffe_id']['trust_domain']}{entry['spiffe_id']['path']}"
        found.setdefault(name, []).append(entry)
    return found


def pod(name: str, namespace: str, account: str, labels: dict[str, str], node: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "serviceAccountName": account,
            "nodeName": node,
            "containers": [{"name": "app", "image": "app"}],
        },
    }


@contextmanager
def existing(site: Site, *objects: Json) -> Iterator[list[Json]]:
    """Objects of a namespace, for as long as the block lasts."""
    kinds = {"Pod": "pods", "ServiceAccount": "serviceaccounts"}
    made = []
    paths = []
    try:
        for manifest in objects:
            metadata = manifest["metadata"]
            folder = f"/api/v1/namespaces/{metadata['namespace']}/{kinds[manifest['kind']]}"
            made.append(site.api.create(folder, manifest).body)
            paths.append(f"{folder}/{metadata['name']}")
        yield made
    finally:
        for path in reversed(paths):
            site.api.delete(f"{path}?gracePeriodSeconds=0")


def account(namespace: str, name: str) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


# --- Servers --------------------------------------------------------------------------------------


def test_spire_accepts_the_compiled_configuration(site: Site) -> None:
    program = f"/run/image/{tool('spire-server').name}"
    file = "/run/spire/config/server.conf"
    said = site.servers[0].execute("spire-server", program, "validate", "-config", file)
    assert "valid" in said
    config = site.servers[0].execute("spire-server", "cat", file)
    assert config == bundle_of(CLUSTER).file("spire/server.conf").text()


@pytest.mark.parametrize("namespace", sorted({*FACTS.namespaces, "spire-system"}))
def test_the_root_is_published_to_each_namespace(site: Site, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/spire-bundle"
    published = site.api.get(path)["data"]["bundle.pem"]
    assert published.strip() == site.root.strip()


def test_replicas_have_one_database_and_one_root_and_a_ca_each(site: Site) -> None:
    shown = {site.spire(number, "bundle", "show").strip() for number in (0, 1)}
    assert shown == {site.root.strip()}
    assert identities(site, 0).keys() == identities(site, 1).keys()
    states = [
        site.spire(number, "localauthority", "x509", "show", "-output", "json") for number in (0, 1)
    ]
    assert states[0] != states[1]


# --- Registrations --------------------------------------------------------------------------------


def test_each_pod_of_a_service_gets_an_entry_below_its_node(site: Site) -> None:
    labels = {"app": "iam"}
    pods = [pod(f"iam-{number}", "hanzo", "iam", labels, site.machine.name) for number in (1, 2)]
    with existing(site, account("hanzo", "iam"), *pods) as (_, *made):
        eventually(lambda: len(identities(site).get(spiffe("hanzo", "iam"), [])) == 2)
        for entry in identities(site)[spiffe("hanzo", "iam")]:
            assert entry["parent_id"]["path"] == f"/spire/agent/k8s_psat/{CLUSTER}/{site.node}"
            assert entry["x509_svid_ttl"] == FACTS.lifetimes.svid
            assert not entry["admin"]
            assert not entry["downstream"]
        selectors = [
            {f"{item['type']}:{item['value']}" for item in entry["selectors"]}
            for entry in identities(site)[spiffe("hanzo", "iam")]
        ]
        assert all({"k8s:ns:hanzo", "k8s:sa:iam"} <= found for found in selectors)
        uids = {f"k8s:pod-uid:{item['metadata']['uid']}" for item in made}
        assert uids == {item for found in selectors for item in found if "pod-uid" in item}
        eventually(lambda: stats(site, "hanzo.iam").get("entriesToSet") == 2)
    eventually(lambda: spiffe("hanzo", "iam") not in identities(site))


def stats(site: Site, name: str) -> Json:
    found = site.api.get(f"/apis/{API_VERSION}/clusterspiffeids/{name}")
    result: Json = found.get("status", {}).get("stats", {})
    return result


def test_the_evaluators_entry_has_the_names_of_its_webhook(site: Site) -> None:
    service = next(item for item in FACTS.services if item.name == EVALUATOR)
    one = pod(EVALUATOR, service.namespace, service.account, service.labels, site.machine.name)
    name = spiffe(service.namespace, service.account)
    with existing(site, account(service.namespace, service.account), one):
        eventually(lambda: name in identities(site))
        (entry,) = identities(site)[name]
    host = f"{EVALUATOR}.{service.namespace}.svc"
    assert entry["dns_names"] == [host, f"{host}.cluster.local"]


def test_the_ci_runner_has_its_entry_with_no_pod_at_all(site: Site) -> None:
    eventually(lambda: CI_RUNNER in identities(site))
    (entry,) = identities(site)[CI_RUNNER]
    assert entry["parent_id"]["path"] == "/spire/agent/x509pop/ci-runner"
    path = f"/apis/{API_VERSION}/clusterstaticentries/ci.github-actions.deploy"
    eventually(lambda: site.api.get(path).get("status", {}).get("rendered") is True)


def test_labels_without_the_namespace_make_no_entry(site: Site) -> None:
    labels = {"app": "postgres"}
    there = pod("claims-to-be-postgres", "monitoring", "other", labels, site.machine.name)
    here = pod("iam-3", "hanzo", "iam", {"app": "iam"}, site.machine.name)
    accounts = (account("monitoring", "other"), account("hanzo", "iam"))
    with existing(site, *accounts, there, here):
        # What was made after it is registered.
        eventually(lambda: spiffe("hanzo", "iam") in identities(site))
        assert spiffe("hanzo", "postgres") not in identities(site)


def test_a_registration_of_another_class_is_not_ours(site: Site) -> None:
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "ClusterStaticEntry",
        "metadata": {"name": "of-another"},
        "spec": {
            "className": "another",
            "spiffeID": f"spiffe://{FACTS.trust_domain}/of-another",
            "parentID": f"spiffe://{FACTS.trust_domain}/node",
            "selectors": ["unix:uid:0"],
        },
    }
    folder = f"/apis/{API_VERSION}/clusterstaticentries"
    ours = {**manifest, "metadata": {"name": "of-ours"}}
    ours["spec"] = {
        **manifest["spec"],  # type: ignore[dict-item]  # a mapping
        "className": "hanzo-zt",
        "spiffeID": f"spiffe://{FACTS.trust_domain}/of-ours",
    }
    site.api.create(folder, manifest)
    site.api.create(folder, ours)
    try:
        eventually(lambda: f"spiffe://{FACTS.trust_domain}/of-ours" in identities(site))
        assert f"spiffe://{FACTS.trust_domain}/of-another" not in identities(site)
    finally:
        site.api.delete(f"{folder}/of-another")
        site.api.delete(f"{folder}/of-ours")
    eventually(lambda: f"spiffe://{FACTS.trust_domain}/of-ours" not in identities(site))


# --- Agents ---------------------------------------------------------------------------------------


def test_the_agent_is_attested_as_that_of_its_node(site: Site) -> None:
    paths = [agent["id"]["path"] for agent in site.agents()]
    assert paths == [f"/spire/agent/k8s_psat/{CLUSTER}/{site.node}"]
    (agent,) = site.agents()
    selectors = {f"{item['type']}:{item['value']}" for item in agent["selectors"]}
    assert {"k8s_psat:agent_ns:spire-system", "k8s_psat:agent_sa:spire-agent"} <= selectors
    assert f"k8s_psat:agent_pod_uid:{site.agent.uid}" in selectors


def test_the_agent_gets_the_svids_of_its_nodes_pods(site: Site) -> None:
    one = pod("redis-1", "hanzo", "redis", {"app": "redis"}, site.machine.name)
    with existing(site, account("hanzo", "redis"), one):
        eventually(lambda: spiffe("hanzo", "redis") in site.agent.log("spire-agent"), patience=60)


def test_the_agents_socket_is_where_sidecars_look(site: Site) -> None:
    socket = site.machine.folder / "node/run/spire/sockets/agent.sock"
    assert socket.is_socket()
    # A sidecar of any user may connect; who it is the agent finds out.
    assert socket.stat().st_mode & 0o777 == 0o777


# --- What breaks ----------------------------------------------------------------------------------


def test_the_other_replica_takes_over(site: Site) -> None:
    """It runs last: one server stays dead."""
    lease = "/apis/coordination.k8s.io/v1/namespaces/spire-system/leases/spire-controller-manager"
    holder = site.api.get(lease)["spec"]["holderIdentity"]
    logs = [server.log("spire-controller-manager") for server in site.servers]
    (leader,) = [n for n, log in enumerate(logs) if "successfully acquired lease" in log]
    site.servers[leader].kill(hard=True)
    site.machine.forget(site.servers[leader], SERVER_DNS)
    one = pod("minio-1", "hanzo", "minio", {"app": "minio"}, site.machine.name)
    with existing(site, account("hanzo", "minio"), one):
        other = 1 - leader
        eventually(lambda: spiffe("hanzo", "minio") in identities(site, other), patience=60)
        eventually(lambda: spiffe("hanzo", "minio") in site.agent.log("spire-agent"), patience=60)
    assert site.api.get(lease)["spec"]["holderIdentity"] != holder


def test_nothing_that_spire_asked_for_was_refused(site: Site) -> None:
    for running in site.machine.pods:
        for name in running.processes:
            lines = running.log(name).splitlines()
            refused = [line for line in lines if "forbidden" in line.lower()]
            assert refused == [], running.name
