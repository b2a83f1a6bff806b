"""The tunnel, against the configuration that the specification prints."""

import configparser
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from hypothesis import given

from tests.strategies import TODAY, policies
from zt.bundle import CompiledFile
from zt.compile.wireguard import compile_wireguard
from zt.effective import effective
from zt.load import load_policy
from zt.model import Cluster, Gateway, Policy
from zt.values import Endpoint

POLICY = load_policy(Path(__file__).parents[3] / "policies")

# HIP-54, "WireGuard Configuration"
SPECIFICATION = """\
# hanzo-k8s wg-gateway
[Interface]
PrivateKey = <from-kms>
Address = 10.10.0.1/24
ListenPort = 51820

[Peer]
# lux-k8s gateway
PublicKey = <lux-k8s-public-key>
AllowedIPs = 10.10.0.2/32, 10.244.0.0/16
Endpoint = 24.144.69.101:51820
PersistentKeepalive = 25
"""


def compiled(policy: Policy, cluster: str) -> dict[str, CompiledFile]:
    return {file.path: file for file in compile_wireguard(effective(policy, TODAY), cluster)}


def read(text: str) -> list[dict[str, str]]:
    """The sections of a configuration as ``wg`` reads it: interface, then peers."""
    found = []
    for section in text.split("\n\n"):
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.read_string(section)
        (name,) = parser.sections()
        found.append({"section": name, **parser[name]})
    return found


def peers(policy: Policy, cluster: str) -> dict[str, Any]:
    manifest = compiled(policy, cluster)["wireguard/peers.yaml"].manifest()
    assert isinstance(manifest, dict)
    return manifest


def test_hanzo_k8s_is_configured_as_the_specification_prints_it_but_for_the_private_key() -> None:
    text = compiled(POLICY, "hanzo-k8s")["wireguard/hanzo-k8s-wg0.conf"].text()
    ours = [line for line in text.splitlines() if not line.startswith("# PrivateKey")]
    printed = [line for line in SPECIFICATION.splitlines() if not line.startswith("PrivateKey")]
    assert ours == printed


def test_lux_k8s_is_its_mirror() -> None:
    interface, peer = read(compiled(POLICY, "lux-k8s")["wireguard/lux-k8s-wg0.conf"].text())
    assert interface == {
        "section": "Interface",
        "address": "10.10.0.2/24",
        "listenport": "51820",
    }
    assert peer == {
        "section": "Peer",
        "publickey": "<hanzo-k8s-public-key>",
        "allowedips": "10.10.0.1/32, 10.240.0.0/16",
        "endpoint": "24.199.76.156:51820",
        "persistentkeepalive": "25",
    }


def test_programs_get_the_same_as_yaml() -> None:
    assert peers(POLICY, "hanzo-k8s") == {
        "cluster": "hanzo-k8s",
        "interface": {"address": "10.10.0.1/24", "listenPort": 51820},
        "peers": [
            {
                "cluster": "lux-k8s",
                "spiffe": "spiffe://hanzo.ai/lux-k8s/lux/wg-gateway",
                "endpoint": "24.144.69.101:51820",
                "allowedIPs": ["10.10.0.2/32", "10.244.0.0/16"],
                "persistentKeepalive": 25,
            }
        ],
    }


def test_a_peer_with_an_ipv6_address_is_allowed_that_address_alone() -> None:
    gateway = Gateway(Endpoint("lux.example.com", 51820), ip_interface("fd00::2/64"))
    hanzo, lux = POLICY.mesh.clusters
    mesh = replace(POLICY.mesh, clusters=(hanzo, replace(lux, gateway=gateway)))
    (peer,) = peers(replace(POLICY, mesh=mesh), "hanzo-k8s")["peers"]
    assert peer["allowedIPs"] == ["fd00::2/128"]


def test_a_cluster_without_gateway_has_no_files_and_is_nobodys_peer() -> None:
    lonely = Cluster("edge", ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16"))
    mesh = replace(POLICY.mesh, clusters=(*POLICY.mesh.clusters, lonely))
    policy = replace(POLICY, mesh=mesh)
    assert compiled(policy, "edge") == {}
    assert peers(policy, "hanzo-k8s") == peers(POLICY, "hanzo-k8s")


@given(policies())
def test_gateways_form_a_full_mesh_in_which_all_agree(policy: Policy) -> None:
    """What a peer is told of a gateway is what the gateway is told of itself."""
    gateways = [cluster.name for cluster in policy.mesh.clusters if cluster.gateway]
    for name in gateways:
        found = {peer["cluster"]: peer for peer in peers(policy, name)["peers"]}
        assert sorted(found) == sorted(set(gateways) - {name})
        for other, peer in found.items():
            interface = peers(policy, other)["interface"]
            assert ip_network(peer["allowedIPs"][0]).num_addresses == 1
            assert ip_interface(interface["address"]).ip in ip_network(peer["allowedIPs"][0])
            assert peer["endpoint"].endswith(f":{interface['listenPort']}")


@given(policies())
def test_both_files_say_the_same(policy: Policy) -> None:
    for cluster in policy.mesh.clusters:
        files = compiled(policy, cluster.name)
        if not files:
            continue
        wanted = files["wireguard/peers.yaml"].manifest()
        interface, *found = read(files[f"wireguard/{cluster.name}-wg0.conf"].text())
        assert interface["address"] == wanted["interface"]["address"]
        assert interface["listenport"] == str(wanted["interface"]["listenPort"])
        assert [
            (peer["endpoint"], peer["allowedips"].split(", "), peer["publickey"]) for peer in found
        ] == [
            (peer["endpoint"], peer["allowedIPs"], f"<{peer['cluster']}-public-key>")
            for peer in wanted["peers"]
        ]
