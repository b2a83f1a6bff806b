"""What comes to a cluster's address from outside reaches the pod, with who sent it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from lab.cluster.network import entered
from lab.nodes.pods import Pod
from tests.lab.cluster.traces import eventually
from tests.lab.nodes.site import IMAGE, Site, ready, serving

pytestmark = pytest.mark.timeout(1800)

CLUSTER, ADDRESS, PORT = "lux-k8s", "192.0.2.20", 51820
PODS = "/api/v1/namespaces/default/pods"
SERVICE = "/api/v1/namespaces/default/services/echo"
# Answers each datagram with whom it is from.
ECHO = (
    "import socket\n"
    "s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 5000))\n"
    "while True:\n"
    "    _, peer = s.recvfrom(99); s.sendto(peer[0].encode(), peer)\n"
)
ASK = (
    "import socket, sys\n"
    "s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(1)\n"
    "s.sendto(b'x', (sys.argv[1], int(sys.argv[2]))); print(s.recv(99).decode())\n"
)


@pytest.fixture
def echo(site: Site) -> Iterator[Pod]:
    """A pod that answers, behind a Service of type LoadBalancer."""
    api = site.api(CLUSTER)
    manifest = serving("echo", "lux-k8s-1")
    container = {"name": "main", "image": IMAGE, "command": ["python3", "-c", ECHO]}
    manifest["spec"] = {**manifest["spec"], "initContainers": [], "containers": [container]}
    api.apply(f"{PODS}/echo", manifest)
    ports = [{"name": "echo", "protocol": "UDP", "port": PORT, "targetPort": 5000}]
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"}}
    api.apply(SERVICE, {**service, "spec": {**spec, "selector": {"name": "echo"}}})
    yield ready(api, "echo")
    api.delete(SERVICE)
    api.delete(f"{PODS}/echo")


def ask(site: Site) -> str:
    """From the other cluster's router: what the pod saw; empty without an answer."""
    command = ("python3", "-c", ASK, ADDRESS, str(PORT))
    there = entered(site.layout.namespace("hanzo-k8s"), command)
    return subprocess.run(there, capture_output=True, text=True, check=False).stdout.strip()


def test_a_datagram_from_outside_reaches_the_pod_under_its_own_address(
    site: Site, echo: Pod
) -> None:
    api = site.api(CLUSTER)
    told = api.wait(SERVICE, lambda found: bool(found["status"]["loadBalancer"]))
    assert told["status"]["loadBalancer"]["ingress"] == [{"ip": ADDRESS, "ipMode": "VIP"}]
    assert eventually(lambda: ask(site) == "192.0.2.10")
    # Nobody is forwarded to a pod that is gone.
    api.delete(f"{PODS}/{echo.name}")
    assert eventually(lambda: ask(site) == "")
