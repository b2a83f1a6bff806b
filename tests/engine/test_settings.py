from pathlib import Path

import pytest

from engine.settings import EVERYWHERE, Listen, SettingsError, from_environment

DSN = "postgresql://zt:hunter2@db/audit"
LOCAL = {"ZT_AUDIT_DSN": DSN, "ZT_PLAINTEXT": "loopback"}
CLUSTER = {"ZT_AUDIT_DSN": DSN, "ZT_SVID_PATH": "/run/svid"}


def test_in_a_cluster_the_specifications_ports_and_path_are_the_default() -> None:
    settings = from_environment(CLUSTER)
    assert settings.policy_path == Path("/etc/zt/policies/")
    assert settings.api == Listen("127.0.0.1", 8054)
    assert settings.health == Listen(EVERYWHERE, 8055)
    assert settings.grpc == Listen(EVERYWHERE, 8056)
    assert settings.svid_path == Path("/run/svid")
    assert settings.locations_path is None


def test_plaintext_listens_on_loopback_alone() -> None:
    settings = from_environment(LOCAL)
    assert settings.svid_path is None
    assert settings.grpc.host == settings.health.host == "127.0.0.1"


def test_the_password_of_the_dsn_never_shows() -> None:
    assert "hunter2" not in repr(from_environment(LOCAL))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "ZT_AUDIT_DSN is not set: give the audit database's DSN"),
        ({"ZT_AUDIT_DSN": DSN}, "ZT_SVID_PATH is not set: give the folder of svid.pem"),
        (LOCAL | {"ZT_PLAINTEXT": "yes"}, "ZT_PLAINTEXT is 'yes': the only value is 'loopback'"),
        (LOCAL | {"ZT_HOST": "10.0.0.1"}, "ZT_HOST is '10.0.0.1', not a loopback address"),
        (CLUSTER | {"ZT_API_HOST": "10.0.0.1"}, "ZT_API_HOST is '10.0.0.1', not a loopback"),
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
