"""The programs of a control plane with their arguments, each for its cluster's namespace."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from lab.cluster.certificates import BALANCER
from lab.cluster.model import API_PORT, Cluster, Layout
from lab.cluster.network import entered
from lab.mesh.processes import Program
from lab.tools.build import tool

ETCD, API_SERVER, CONTROLLERS = "etcd", "kube-apiserver", "kube-controller-manager"
SCHEDULER = "kube-scheduler"
CONTROL_PLANE = (API_SERVER, ETCD, CONTROLLERS)
_ROOT = Path(__file__).parents[2]
# Of nft and conntrack.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ETCD_PORT = 2379
_PEER_PORT = 2380
_ISSUER = "https://kubernetes.default.svc.cluster.local"


def named(program: str, cluster: str) -> str:
    """What a process is called in records and logs."""
    return f"{program}.{cluster}"


def etcd(layout: Layout, cluster: Cluster) -> Program:
    """One member alone, for clients with a certificate of its own CA."""
    keys, data = layout.keys(cluster.name), layout.cluster(cluster.name) / "etcd"
    client, peer = f"https://127.0.0.1:{ETCD_PORT}", f"https://127.0.0.1:{_PEER_PORT}"
    options = {
        "name": cluster.name,
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{cluster.name}={peer}",
        # What a lab stores ends with it, so it need not survive the machine.
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    for side in ("", "peer-"):
        options |= {
            f"{side}client-cert-auth": "true",
            f"{side}trusted-ca-file": str(keys / "etcd-ca.crt"),
            f"{side}cert-file": str(keys / "etcd.crt"),
            f"{side}key-file": str(keys / "etcd.key"),
        }
    return _program(layout, cluster, ETCD, options)


def api_server(layout: Layout, cluster: Cluster) -> Program:
    """With RBAC and the default admission plugins: both are part of what is tested."""
    keys = layout.keys(cluster.name)
    options = {
        "advertise-address": str(cluster.address),
        "bind-address": str(cluster.address),
        "secure-port": str(API_PORT),
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "client-ca-file": str(keys / "ca.crt"),
        "tls-cert-file": str(keys / "apiserver.crt"),
        "tls-private-key-file": str(keys / "apiserver.key"),
        "etcd-servers": f"https://127.0.0.1:{ETCD_PORT}",
        "etcd-cafile": str(keys / "etcd-ca.crt"),
        "etcd-certfile": str(keys / "etcd-client.crt"),
        "etcd-keyfile": str(keys / "etcd-client.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-certificate-authority": str(keys / "ca.crt"),
        "kubelet-client-certificate": str(keys / "kubelet-client.crt"),
        "kubelet-client-key": str(keys / "kubelet-client.key"),
        # It runs beside the nodes, where no kube-proxy leads it to the pods of a Service.
        "enable-aggregator-routing": "true",
        "service-cluster-ip-range": str(cluster.services),
        "service-account-issuer": _ISSUER,
        "service-account-key-file": str(keys / "tokens.pub"),
        "service-account-signing-key-file": str(keys / "tokens.key"),
        "profiling": "false",
    }
    return _program(layout, cluster, API_SERVER, options)


def controllers(layout: Layout, cluster: Cluster) -> Program:
    """Each controller with a service account and RBAC rules of its own, as in production."""
    keys = layout.keys(cluster.name)
    options = {
        "kubeconfig": str(keys / f"{CONTROLLERS}.kubeconfig"),
        "cluster-name": cluster.name,
        "bind-address": "127.0.0.1",
        "cert-dir": str(keys),
        "leader-elect": "false",
        "root-ca-file": str(keys / "ca.crt"),
        "service-account-private-key-file": str(keys / "tokens.key"),
        "use-service-account-credentials": "true",
        "cluster-signing-cert-file": str(keys / "ca.crt"),
        "cluster-signing-key-file": str(keys / "ca.key"),
        "profiling": "false",
    }
    return _program(layout, cluster, CONTROLLERS, options)


def scheduler(layout: Layout, cluster: Cluster) -> Program:
    """The default scheduler."""
    kubeconfig = str(layout.keys(cluster.name) / f"{SCHEDULER}.kubeconfig")
    options = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }
    return _program(layout, cluster, SCHEDULER, options)


def balancer(layout: Layout, cluster: Cluster) -> Program:
    """Our own load balancer, in the cluster's router."""
    kubeconfig = layout.keys(cluster.name) / f"{BALANCER}.kubeconfig"
    options = (f"--kubeconfig={kubeconfig}", f"--address={cluster.address}")
    return Program(
        name=named("balancer", cluster.name),
        command=entered(
            layout.namespace(cluster.name), (sys.executable, "-m", "lab.balancer", *options)
        ),
        environment={"PATH": _PATH, "PYTHONPATH": str(_ROOT), "LANG": "C.UTF-8"},
        stop=signal.SIGKILL,
    )


def _program(layout: Layout, cluster: Cluster, name: str, options: dict[str, str]) -> Program:
    command = (str(tool(name)), *(f"--{option}={value}" for option, value in options.items()))
    return Program(
        name=named(name, cluster.name),
        command=entered(layout.namespace(cluster.name), command),
        environment={"PATH": os.defpath, "HOME": str(layout.cluster(cluster.name))},
        # Nothing that it still had to write is wanted, and in good order it takes seconds.
        stop=signal.SIGKILL,
    )
