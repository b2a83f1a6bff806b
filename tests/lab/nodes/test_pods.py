"""Pods run on every node, find each other by address and by name, and are reached from outside."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.cluster.client import MERGE, Client
from lab.cluster.network import entered as in_network
from lab.cluster.status import status, status_json
from lab.nodes import files
from lab.nodes.pods import Pod, entered, process_of
from tests.lab.nodes.site import IMAGE, Site, execute, fetch, ready, run, serving

# The first that is asked for builds images and brings the lab up.
pytestmark = pytest.mark.timeout(1800)

PODS = "/api/v1/namespaces/default/pods"
CLUSTER = "hanzo-k8s"
# The address of the other cluster on the Internet side.
LUX = "192.0.2.20"
SETTINGS = Path("/proc/sys")
BEFORE = {
    setting: (SETTINGS / setting).read_text()
    for setting in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
}
SERVICE = "/api/v1/namespaces/default/services/serving"


@pytest.fixture(scope="module")
def serving_pods(site: Site) -> Iterator[Mapping[str, Pod]]:
    """A pod on each node, by the node's name; behind one Service in each cluster."""
    for node in site.nodes:
        api = site.api(node.cluster)
        api.apply(f"{PODS}/on-{node.name}", serving(f"on-{node.name}", node.name))
        spec = {"selector": {"app": "serving"}, "ports": [{"port": 80, "targetPort": 8000}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "serving"}}
        api.apply(SERVICE, {**service, "spec": spec})
    yield {node.name: ready(site.api(node.cluster), f"on-{node.name}") for node in site.nodes}
    for node in site.nodes:
        site.api(node.cluster).delete(f"{PODS}/on-{node.name}")
        site.api(node.cluster).delete(SERVICE)


def log(api: Client, pod: Pod, container: str) -> str:
    answer = api.request("GET", f"{PODS}/{pod.name}/log?container={container}")
    assert answer.ok
    return str(answer.body)


def command_line(pod: Pod, container: str) -> list[str]:
    process = process_of(pod.containers[container])
    return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")


def test_every_pod_has_an_address_of_its_node(site: Site, serving_pods: Mapping[str, Pod]) -> None:
    for node in site.nodes:
        pod = serving_pods[node.name]
        assert run(pod, "hostname", "-I").split() == [pod.address]
        assert pod.address is not None
        assert pod.address.startswith(str(node.pod_cidr.network_address).removesuffix("0"))
        status = site.api(node.cluster).get(f"{PODS}/{pod.name}")["status"]
        assert status["hostIP"] == str(node.address)


def test_pods_reach_each_other_across_nodes_under_their_own_addresses(
    site: Site,
    serving_pods: Mapping[str, Pod],
) -> None:
    one, other = serving_pods["hanzo-k8s-1"], serving_pods["hanzo-k8s-2"]
    assert fetch(one, f"http://{other.address}:8000/name") == other.name
    assert fetch(other, f"http://{one.address}:8000/name") == one.name
    assert f"{one.address} - - " in log(site.api(CLUSTER), other, "main")


def test_a_service_is_reached_by_name_and_spreads_over_its_pods(
    serving_pods: Mapping[str, Pod],
) -> None:
    pod = serving_pods["hanzo-k8s-1"]
    for name in ("serving", "serving.default", "serving.default.svc.cluster.local"):
        assert fetch(pod, f"http://{name}/name").startswith("on-hanzo-k8s-")
    answers = {fetch(pod, "http://serving/name") for _ in range(24)}
    assert answers == {"on-hanzo-k8s-1", "on-hanzo-k8s-2"}


def test_what_does_not_exist_has_no_name(serving_pods: Mapping[str, Pod]) -> None:
    ask = "import socket; socket.getaddrinfo('nobody.example', 80)"
    with pytest.raises(AssertionError, match="Name or service not known"):
        run(serving_pods["lux-k8s-1"], "python3", "-c", ask)


def test_clusters_are_apart_but_see_each_others_internet_address(
    serving_pods: Mapping[str, Pod],
) -> None:
    hanzo, lux = serving_pods["hanzo-k8s-1"], serving_pods["lux-k8s-1"]
    dial = (
        "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()"
    )
    run(hanzo, "python3", "-c", dial, LUX, "6443")
    with pytest.raises(AssertionError, match=r"timed out|unreachable|No route"):
        run(hanzo, "python3", "-c", dial, str(lux.address), "8000")


def test_the_api_server_is_reached_from_pods_with_their_own_account(
    serving_pods: Mapping[str, Pod],
) -> None:
    program = """\
import ssl, urllib.request as u
here = '/var/run/secrets/kubernetes.io/serviceaccount/'
tls = ssl.create_default_context(cafile=here + 'ca.crt')
bearer = {'Authorization': 'Bearer ' + open(here + 'token').read()}
request = u.Request('https://kubernetes.default/version', headers=bearer)
print(u.urlopen(request, context=tls).status)
"""
    assert run(serving_pods["hanzo-k8s-2"], "python3", "-c", program) == "200\n"


def test_logs_and_commands_go_through_the_api_server(
    site: Site, serving_pods: Mapping[str, Pod]
) -> None:
    api, pod = site.api(CLUSTER), serving_pods["hanzo-k8s-2"]
    assert log(api, pod, "sidecar") == "beside\n"
    output, end = execute(api, pod, "sh", "-c", "echo $HOSTNAME; exit 3")
    assert output == f"{pod.name}\n"
    assert end["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


def test_a_process_is_found_by_its_container(serving_pods: Mapping[str, Pod]) -> None:
    pod = serving_pods["lux-k8s-1"]
    assert command_line(pod, "main")[1:] == ["-um", "http.server", "8000"]
    assert "beside" in command_line(pod, "sidecar")[2]


def test_a_container_is_entered_as_another_user(serving_pods: Mapping[str, Pod]) -> None:
    pod = serving_pods["lux-k8s-1"]
    command = entered(process_of(pod.containers["main"]), ("id", "-u"), user=1000)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1000\n"


def test_a_kubelet_refuses_strangers(site: Site) -> None:
    (node, *_) = site.nodes
    url = f"https://{node.address}:{files.KUBELET_PORT}/pods"
    program = (
        "import ssl, sys, urllib.request as u, urllib.error as e\n"
        "tls = ssl.create_default_context(cafile=sys.argv[2])\n"
        "try: print(u.urlopen(sys.argv[1], context=tls).status)\n"
        "except e.HTTPError as error: print(error.code)\n"
    )
    router = site.layout.namespace(node.cluster)
    command = in_network(router, ("python3", "-c", program, url, str(node.keys / "ca.crt")))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "401\n"


def test_a_kubelet_may_not_speak_for_another_node(site: Site) -> None:
    """NodeRestriction and the Node authorizer are on."""
    api = site.api(CLUSTER)
    refused = api.request(
        "PATCH",
        "/api/v1/nodes/hanzo-k8s-2",
        {"metadata": {"labels": {"x": "y"}}},
        content_type=MERGE,
        user="system:node:hanzo-k8s-1",
        groups=["system:nodes", "system:authenticated"],
    )
    assert refused.status == 403
    assert "is not allowed to modify node" in refused.message


def test_a_claim_gets_a_volume_that_its_pods_group_can_write(site: Site) -> None:
    api = site.api(CLUSTER)
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    api.apply(f"{claims}/kept", claim)
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", "echo kept > /data/file; exec sleep 600"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    manifest = serving("keeper", "")
    manifest["spec"] = {
        "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "kept"}}],
    }
    api.apply(f"{PODS}/keeper", manifest)
    pod = ready(api, "keeper")
    assert run(pod, "cat", "/data/file") == "kept\n"
    volume = api.get(f"{claims}/kept")["spec"]["volumeName"]
    (node,) = (node for node in site.nodes if node.name == pod.node)
    assert (node.folder / f"var/lib/volumes/{volume}/file").read_text() == "kept\n"
    api.delete(f"{PODS}/keeper")
    api.delete(f"{claims}/kept")


def test_status_shows_nodes(site: Site, serving_pods: Mapping[str, Pod]) -> None:
    seen = status(site.layout.root)
    assert seen.is_well
    shown = [node for cluster in status_json(seen)["clusters"] for node in cluster["nodes"]]
    assert [(node["name"], node["ready"]) for node in shown] == [
        (name, True) for name in serving_pods
    ]
    assert all(node["pods_ready"] >= 1 for node in shown)


def test_the_machines_own_settings_are_as_they_were(site: Site) -> None:
    """A kubelet sets what it wants of its machine, but the machine is not its own."""
    del site
    for setting, value in BEFORE.items():
        assert (SETTINGS / setting).read_text() == value
