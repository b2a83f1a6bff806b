from pathlib import Path

import pytest

from engine.settings import (
    EVERYWHERE,
    ConfigMap,
    Durability,
    Listen,
    Plaintext,
    SettingsError,
    Storage,
    Transport,
    Webhook,
    from_environment,
)
from zt.inject import Images

DSN = "postgresql://zt:hunter2@db/audit"
LOCAL = {"ZT_AUDIT_DSN": DSN, "ZT_PLAINTEXT": "loopback"}
CLUSTER = {"ZT_AUDIT_DSN": DSN, "ZT_SVID_PATH": "/run/svid"}


def test_in_a_cluster_the_specifications_ports_and_path_are_the_default() -> None:
    settings = from_environment(CLUSTER)
    assert settings.policy_path == Path("/etc/zt/policies/")
    assert settings.state_path == Path("/var/lib/zt")
    assert settings.api == Listen(EVERYWHERE, 8054)
    assert settings.api_tls == Path("/run/svid")
    assert settings.health == Listen(EVERYWHERE, 8055)
    assert settings.grpc == Listen(EVERYWHERE, 8056)
    assert settings.svid_path == Path("/run/svid")
    assert settings.locations is None
    assert settings.audit.durability is Durability.PROCESS
    assert settings.transport is Transport.NGH2
    assert settings.workers == 1


def test_plaintext_listens_on_loopback_alone() -> None:
    settings = from_environment(LOCAL)
    assert settings.svid_path is settings.api_tls is None
    assert settings.api.host == settings.grpc.host == settings.health.host == "127.0.0.1"


def test_the_api_alone_may_go_without_tls() -> None:
    settings = from_environment(CLUSTER | {"ZT_PLAINTEXT": "api"})
    assert settings.plaintext is Plaintext.API
    assert settings.svid_path == Path("/run/svid")
    assert settings.api_tls is None
    assert settings.api.host == "127.0.0.1"
    assert settings.grpc.host == EVERYWHERE


def test_a_watch_of_pods_writes_the_locations() -> None:
    watching = from_environment(CLUSTER | {"ZT_CLUSTER": "east", "ZT_STATE_PATH": "/s"})
    assert watching.locations == Path("/s/locations.json")
    given = from_environment(CLUSTER | {"ZT_LOCATIONS_PATH": "/l.json"})
    assert given.locations == Path("/l.json")


def test_the_svid_comes_from_the_agent_where_its_socket_is_given() -> None:
    given = {"ZT_AUDIT_DSN": DSN, "ZT_SPIRE_SOCKET": "/run/spire/agent.sock"}
    settings = from_environment(given)
    assert settings.spire_socket == Path("/run/spire/agent.sock")
    assert settings.svid_path == settings.api_tls == Path("/run/zt/svid")
    assert settings.svid_storage is Storage.MEMORY
    elsewhere = from_environment(given | {"ZT_SVID_PATH": "/mem"})
    assert elsewhere.svid_path == Path("/mem")
    assert from_environment(CLUSTER).spire_socket is None


@pytest.mark.parametrize("prefix", ["", "unix:", "unix://"])
def test_a_socket_may_be_named_as_spire_does(prefix: str) -> None:
    settings = from_environment(CLUSTER | {"ZT_SPIRE_SOCKET": f"{prefix}/run/agent.sock"})
    assert settings.spire_socket == Path("/run/agent.sock")


def test_the_webhook_and_what_it_injects() -> None:
    names = {"ZT_WEBHOOK": "zt-injection", "ZT_ENVOY_IMAGE": "envoy", "ZT_REDIRECT_IMAGE": "nft"}
    settings = from_environment(CLUSTER | names | {"ZT_CLUSTER": "east"})
    assert settings.webhook == Webhook(
        Listen(EVERYWHERE, 8057), "zt-injection", Images("envoy", "nft")
    )
    assert settings.images == Images("envoy", "nft")
    assert from_environment(CLUSTER).images is None


def test_the_config_map_of_policies() -> None:
    settings = from_environment(CLUSTER | {"ZT_POLICY_CONFIGMAP": "hanzo/zt-policies"})
    assert settings.config_map == ConfigMap("hanzo", "zt-policies")


def test_the_password_of_the_dsn_never_shows() -> None:
    assert "hunter2" not in repr(from_environment(LOCAL))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "ZT_AUDIT_DSN is not set: give the audit database's DSN"),
        ({"ZT_AUDIT_DSN": DSN}, "neither ZT_SPIRE_SOCKET nor ZT_SVID_PATH is set: give the SPIRE"),
        (CLUSTER | {"ZT_SPIRE_SOCKET": "tcp://x"}, "ZT_SPIRE_SOCKET is 'tcp://x': it should be"),
        (CLUSTER | {"ZT_SVID_STORAGE": "disk"}, "ZT_SVID_STORAGE is 'disk': it should be one of"),
        (LOCAL | {"ZT_WEBHOOK": "zt"}, "ZT_WEBHOOK is set, and ZT_PLAINTEXT=loopback: a Kube"),
        (CLUSTER | {"ZT_WEBHOOK": "zt"}, "ZT_WEBHOOK is set without ZT_CLUSTER: name the cluster"),
        (
            CLUSTER | {"ZT_WEBHOOK": "zt", "ZT_CLUSTER": "east", "ZT_ENVOY_IMAGE": "envoy"},
            "ZT_WEBHOOK is set without ZT_ENVOY_IMAGE and ZT_REDIRECT_IMAGE: name the images",
        ),
        (LOCAL | {"ZT_PLAINTEXT": "yes"}, "ZT_PLAINTEXT is 'yes': it should be one of"),
        (LOCAL | {"ZT_HOST": "10.0.0.1"}, "ZT_HOST is '10.0.0.1', not a loopback address"),
        (LOCAL | {"ZT_API_HOST": "10.0.0.1"}, "ZT_API_HOST is '10.0.0.1', not a loopback"),
        (LOCAL | {"ZT_DURABILITY": "ram"}, "ZT_DURABILITY is 'ram': it should be one of process"),
        (LOCAL | {"ZT_WORKERS": "0"}, "ZT_WORKERS is '0': it should be a number from 1 to 64"),
        (LOCAL | {"ZT_SEGMENT_BYTES": "1"}, "ZT_SEGMENT_BYTES is '1': it should be a number"),
        (LOCAL | {"ZT_SPOOL_BYTES": "65536"}, "ZT_SPOOL_BYTES is '65536': it should be a number"),
        (LOCAL | {"ZT_GRPC": "grpcio", "ZT_WORKERS": "2"}, "ZT_GRPC=grpcio serves with one"),
        (LOCAL | {"ZT_CHECKPOINT_PATH": "/c"}, "ZT_CHECKPOINT_PATH and ZT_CHECKPOINT_KEY_PATH go"),
        (LOCAL | {"ZT_POLICY_CONFIGMAP": "x"}, "ZT_POLICY_CONFIGMAP is 'x': it should be <namesp"),
        (CLUSTER | {"ZT_HOST": "zt.example"}, "ZT_HOST is 'zt.example': it should be an IP"),
        (CLUSTER | {"ZT_API_PORT": "70000"}, "ZT_API_PORT is '70000': it should be a port"),
        (CLUSTER | {"ZT_GRPC_PORT": "http"}, "ZT_GRPC_PORT is 'http': it should be a port"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_sentence(
    environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment(environment)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
