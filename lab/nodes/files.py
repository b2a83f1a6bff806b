"""The files of a node: its keys, and the configuration of its programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.certificates import Pair, issue, kubeconfig
from lab.cluster.model import API_PORT, Cluster
from lab.mesh.folders import write_private
from lab.nodes.model import Node

# Within the node.
SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "zt.lab/pause:lab"
ENFORCER = "lab-enforcer"
KUBELET, PROXY = "kubelet", "kube-proxy"
KUBELET_PORT = 10250
# Debian's place, and that of the plugins' own releases.
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_SIGNALS = ("nodefs.available", "nodefs.inodesFree", "imagefs.available")
_HERE = "127.0.0.1"


def write(node: Node, cluster: Cluster, authority: Pair) -> None:
    """Write all that a node's programs read; ``authority`` is the CA of the cluster's API."""
    node.keys.mkdir(parents=True, mode=0o700)
    _write_keys(node, cluster, authority)
    cni = node.folder / "cni"
    cni.mkdir()
    files = {
        cni / "10-bridge.conflist": json.dumps(network(node), indent=1),
        node.folder / "containerd.toml": containerd(cni),
        node.folder / "kubelet.yaml": yaml.safe_dump(kubelet(node, cluster, _authority(node))),
        node.folder / "kube-proxy.yaml": yaml.safe_dump(proxy(node, cluster)),
    }
    for path, text in files.items():
        path.write_text(text)


def kubeconfig_of(node: Node, program: str) -> Path:
    """The kubeconfig of a program of the node."""
    return node.keys / f"{program}.kubeconfig"


def _authority(node: Node) -> Path:
    return node.keys / "ca.crt"


def _write_keys(node: Node, cluster: Cluster, authority: Pair) -> None:
    user = f"system:node:{node.name}"
    serving = issue(authority, user, names=(str(node.address), node.name))
    write_private(_authority(node), authority.certificate_pem)
    write_private(node.keys / "kubelet.crt", serving.certificate_pem)
    write_private(node.keys / "kubelet.key", serving.key_pem)
    clients = {
        KUBELET: issue(authority, user, "system:nodes"),
        PROXY: issue(authority, "system:kube-proxy"),
        ENFORCER: issue(authority, ENFORCER),
    }
    server = f"https://{cluster.address}:{API_PORT}"
    for program, pair in clients.items():
        content = kubeconfig(authority, pair, cluster.name, server)
        write_private(kubeconfig_of(node, program), content)


def kubelet(node: Node, cluster: Cluster, authority: Path) -> dict[str, Any]:
    """The kubelet's configuration: open to the cluster's CA and tokens, as RBAC says."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(node.address),
        "port": KUBELET_PORT,
        "healthzBindAddress": _HERE,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(node.keys / "kubelet.crt"),
        "tlsPrivateKeyFile": str(node.keys / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [str(cluster.dns)],
        # There is no resolver outside that a pod could ask.
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        # How often, and half as much longer, files of ConfigMaps follow these.
        "syncFrequency": "20s",
        # Lower ones take a capability that containers and their like often have not.
        "oomScoreAdj": 0,
        # Nothing is thrown out for want of room: there is no registry to have images from again,
        # and the disk and the memory are not the lab's alone.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": dict.fromkeys(_SIGNALS, "0%"),
    }


def proxy(node: Node, cluster: Cluster) -> dict[str, Any]:
    """kube-proxy's configuration; connection tracking is sized by the machine."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig_of(node, PROXY))},
        "hostnameOverride": node.name,
        "clusterCIDR": str(cluster.pods),
        "bindAddress": str(node.address),
        "healthzBindAddress": f"{_HERE}:10256",
        "metricsBindAddress": f"{_HERE}:10249",
        "oomScoreAdj": 0,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def network(node: Node) -> dict[str, Any]:
    """The pods' network, a bridge. Of what leaves the cluster the node translates the address."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(node.pod_cidr)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge, ports]}


def containerd(cni: Path) -> str:
    """Configuration of containerd, for versions 1.6 and 1.7."""
    tables: Mapping[str, Mapping[str, str | bool]] = {
        "": {"sandbox_image": PAUSE_IMAGE, "restrict_oom_score_adj": True},
        "cni": {"bin_dir": str(_plugin_folder()), "conf_dir": str(cni)},
        "containerd": {"default_runtime_name": "runc", "snapshotter": "overlayfs"},
        "containerd.runtimes.runc": {"runtime_type": "io.containerd.runc.v2"},
        "containerd.runtimes.runc.options": {"SystemdCgroup": False},
    }
    lines = ["version = 2"]
    for name, values in tables.items():
        keys = ".".join(['plugins."io.containerd.grpc.v1.cri"', *filter(None, [name])])
        # Strings and booleans of TOML are JSON's.
        lines += [f"[{keys}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join([*lines, ""])


def _plugin_folder() -> Path:
    found = (folder for folder in PLUGIN_FOLDERS if (folder / "bridge").exists())
    return next(found, PLUGIN_FOLDERS[0])
