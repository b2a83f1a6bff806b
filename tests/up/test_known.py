from lab.up.known import down, unresolved

CLUSTERS = ("hanzo-k8s", "lux-k8s")
HOSTS = [{"address": {"socket_address": {"address": "10.240.1.2", "port_value": 9000}}}]


def test_upstreams_of_the_mesh_without_an_address_are_named() -> None:
    said = {
        "cluster_statuses": [
            {"name": "application-8080", "host_statuses": HOSTS},
            {"name": "outbound-hanzo-k8s-hanzo-minio-9000"},
            {"name": "outbound-hanzo-k8s-hanzo-iam-8000", "host_statuses": HOSTS},
            {"name": "outbound-lux-k8s-lux-validator-9650", "host_statuses": []},
            {"name": "outbound-model-provider-api.openai.com-443"},
        ]
    }
    assert list(unresolved(said, CLUSTERS)) == [
        "hanzo-k8s-hanzo-minio-9000",
        "lux-k8s-lux-validator-9650",
    ]


def test_a_tunnel_is_up_once_each_peer_has_answered() -> None:
    peers = {"lux-k8s": {"is_up": True}, "zoo-k8s": {"is_up": False}}
    assert [*down({"step": "joining", "peers": peers})] == ["zoo-k8s"]
