import pytest

from engine.http.edit import Change, edit
from engine.http.sources import ConfigMapSource, SourceError, StaleError
from engine.kubernetes.client import Kubernetes, KubernetesError, config_map_path, in_cluster
from tests.engine.http.serving import WITH_RIGHTS
from tests.engine.http.test_edit import CORE
from tests.engine.kubernetes.apiserver import Cluster, serving
from tests.engine.samples import TODAY

PATH = config_map_path("zt", "policies")


def cluster() -> Cluster:
    held = {
        "metadata": {"name": "policies", "resourceVersion": "7", "labels": {"keep": "me"}},
        "data": {"policy.yaml": WITH_RIGHTS, "notes": "none"},
    }
    return Cluster(config_maps={PATH: held})


def test_the_token_is_read_anew_because_it_rotates() -> None:
    server = cluster()
    with serving(server) as api:
        assert api.get(PATH)["data"]["notes"] == "none"
        server.token = "token-2"
        with pytest.raises(KubernetesError) as refused:
            api.get(PATH)
        assert refused.value.status == 401
        (api.folder / "token").write_text("token-2\n")
        assert api.get(PATH)["data"]["notes"] == "none"


def test_what_the_server_says_is_told() -> None:
    with serving(cluster()) as api, pytest.raises(KubernetesError, match="404: not found"):
        api.get(config_map_path("zt", "others"))


def test_a_server_by_another_ca_is_not_spoken_to() -> None:
    with serving(cluster()) as api, serving(cluster()) as other:
        (api.folder / "ca.crt").write_bytes((other.folder / "ca.crt").read_bytes())
        with pytest.raises(KubernetesError, match="cannot be reached"):
            api.get(PATH)


def test_without_a_server_token_or_ca_that_is_said() -> None:
    with serving(cluster()) as api:
        (api.folder / "token").unlink()
        with pytest.raises(KubernetesError, match="no token"):
            api.get(PATH)
        (api.folder / "ca.crt").unlink()
        with pytest.raises(KubernetesError, match="no CA"):
            api.get(PATH)
    with pytest.raises(KubernetesError, match="no pod"):
        in_cluster({})
    pod = {"KUBERNETES_SERVICE_HOST": "10.1.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert in_cluster(pod) == Kubernetes("10.1.0.1", 6443)


def test_a_config_map_is_changed_and_the_rest_of_it_kept() -> None:
    server = cluster()
    with serving(server) as api:
        source = ConfigMapSource(api, "zt", "policies")
        files = source.read()
        assert files.keys() == {"policy.yaml"}
        made = edit(files, Change("core", CORE.encode(), is_json=False, tags=None), TODAY)
        source.write(made.file, made.content)
    held = server.config_maps[PATH]
    assert held["data"] == {"policy.yaml": made.content.decode(), "notes": "none"}
    assert held["metadata"]["labels"] == {"keep": "me"}


def test_of_two_who_read_the_same_one_writes() -> None:
    with serving(cluster()) as api:
        one, other = (ConfigMapSource(api, "zt", "policies") for _ in range(2))
        one.read()
        other.read()
        one.write("policy.yaml", b"one")
        with pytest.raises(StaleError):
            other.write("policy.yaml", b"other")
        assert other.read() == {"policy.yaml": b"one"}
        other.write("policy.yaml", b"other")


def test_a_server_that_refuses_is_told() -> None:
    server = cluster()
    server.refuse = [500]
    with serving(server) as api:
        source = ConfigMapSource(api, "zt", "policies")
        with pytest.raises(SourceError, match="500"):
            source.read()
        source.read()
        server.refuse = [403]
        with pytest.raises(SourceError, match="403"):
            source.write("policy.yaml", b"mine")
