"""The stand-in does to an API server what the program needs of the official provider."""

import asyncio
import gc
from pathlib import Path

import httpx
import pulumi
import pytest
from pulumi import automation

from components.kube import register
from lab.provider.serve import Serving, serving
from lab.stack.folder import Engine, opened
from lab.stack.run import destroy, preview, refresh, up
from lab.tools.build import tool
from tests.lab.pulumi.conftest import Open
from tests.lab.pulumi.small import (
    PROJECT,
    Json,
    Small,
    config_map,
    definition,
    deployment,
    done,
    lamp,
    namespace_labels,
    network_policy,
    small,
)


def get(http: httpx.Client, namespace: str, plural: str, name: str) -> httpx.Response:
    group = {"networkpolicies": "/apis/networking.k8s.io/v1", "deployments": "/apis/apps/v1"}
    return http.get(f"{group.get(plural, '/api/v1')}/namespaces/{namespace}/{plural}/{name}")


def test_an_object_is_made_stays_changes_in_place_and_goes(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, config_map(namespace, key="one")))
    assert [change.operation for change in preview(stack).changes] == ["create", "create"]
    up(stack)
    made = done(get(http, namespace, "configmaps", "settings"))
    assert made["data"] == {"key": "one"}
    assert not up(stack).changes

    stack = open_small(small(kubeconfig, config_map(namespace, key="two", more="x")))
    (change,) = up(stack).changes
    assert str(change) == (
        f"~ core/v1:ConfigMap small:{namespace}/settings\n"
        '    data.key: "one" -> "two"\n'
        '    data.more: nothing -> "x"'
    )
    changed = done(get(http, namespace, "configmaps", "settings"))
    assert changed["data"] == {"key": "two", "more": "x"}
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]

    destroy(stack)
    assert get(http, namespace, "configmaps", "settings").status_code == 404
    assert get(http, namespace, "configmaps", "theirs").is_success


def test_an_object_that_exists_is_not_taken_over(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, config_map(namespace, "theirs", key="ours")))
    with pytest.raises(automation.CommandError, match="already exists"):
        up(stack)
    destroy(stack)
    assert done(get(http, namespace, "configmaps", "theirs"))["data"] == {"key": "value"}


def test_a_patch_sets_its_fields_and_gives_them_back(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, patches=[namespace_labels(namespace, mesh="enabled")]))
    up(stack)
    labels = done(http.get(f"/api/v1/namespaces/{namespace}"))["metadata"]["labels"]
    assert (labels["mesh"], labels["owner"]) == ("enabled", "team")
    assert not up(stack).changes
    destroy(stack)
    labels = done(http.get(f"/api/v1/namespaces/{namespace}"))["metadata"]["labels"]
    assert "mesh" not in labels
    assert labels["owner"] == "team"


def test_what_someone_edits_by_hand_is_shown_and_repaired(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, network_policy(namespace, "iam", "cloud")))
    up(stack)
    edit(http, namespace, "chat")
    (shown,) = refresh(stack).changes
    assert '"cloud" -> "chat"' in str(shown)
    (repaired,) = up(stack).changes
    assert (repaired.operation, '"chat" -> "cloud"' in str(repaired)) == ("update", True)
    assert_peers(http, namespace, ["iam", "cloud"])
    assert not refresh(stack).changes


def test_without_force_a_field_that_another_has_taken_is_a_conflict(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    program = small(kubeconfig, network_policy(namespace, "iam", "cloud"), enable_patch_force=False)
    stack = open_small(program)
    up(stack)
    edit(http, namespace, "chat")
    refresh(stack)
    with pytest.raises(automation.CommandError, match='conflict with "kubectl-edit"'):
        up(stack)


def test_what_is_deleted_by_hand_is_made_again(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, network_policy(namespace, "iam")))
    up(stack)
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/postgres-ingress"
    done(http.delete(path))
    assert [change.operation for change in refresh(stack).changes] == ["delete"]
    assert [change.operation for change in up(stack).changes] == ["create"]
    assert_peers(http, namespace, ["iam"])


def test_an_object_is_made_anew_where_a_field_cannot_change(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    stack = open_small(small(kubeconfig, deployment(namespace, "postgres")))
    up(stack)
    stack = open_small(small(kubeconfig, deployment(namespace, "postgres", "postgres:19")))
    assert [change.operation for change in up(stack).changes] == ["update"]
    stack = open_small(small(kubeconfig, deployment(namespace, "database", "postgres:19")))
    operations = [change.operation for change in up(stack).changes]
    assert operations == ["delete-replaced", "replace", "create-replacement"]
    selector = done(get(http, namespace, "deployments", "postgres"))["spec"]["selector"]
    assert selector == {"matchLabels": {"app": "database"}}


def test_objects_of_a_kind_that_the_same_run_defines(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    group = f"{namespace}.example.com"
    stack = open_small(small(kubeconfig, definition(group), lamp(group, "green")))
    preview(stack)
    up(stack)
    assert not up(stack).changes
    stack = open_small(small(kubeconfig, definition(group), lamp(group, "red")))
    (change,) = up(stack).changes
    assert '"green" -> "red"' in str(change)
    destroy(stack)
    assert http.get(f"/apis/{group}/v1/lamps/one").status_code == 404


def test_a_value_of_an_object_that_is_yet_to_come(
    open_small: Open, kubeconfig: Path, http: httpx.Client, namespace: str
) -> None:
    def more(parent: Small) -> None:
        first = register(config_map(namespace, "first", key="x"), parent)
        uid = pulumi.Output.from_input(first.id)
        register({**config_map(namespace, "second"), "data": {"first": uid}}, parent)

    stack = open_small(small(kubeconfig, more=more))
    preview(stack)
    up(stack)
    second = done(get(http, namespace, "configmaps", "second"))
    assert second["data"] == {"first": f"{namespace}/first"}
    assert not up(stack).changes


def test_a_secret_is_no_plain_text_in_the_state(
    open_small: Open, kubeconfig: Path, engine: Engine, namespace: str
) -> None:
    metadata = {"name": "key", "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    stack = open_small(small(kubeconfig, {**secret, "stringData": {"key": "correct horse"}}))
    up(stack)
    assert not up(stack).changes
    texts = [path.read_text() for path in engine.state.rglob("*") if path.is_file()]
    assert any("small" in text for text in texts)
    for text in texts:
        assert "correct horse" not in text
        assert "Y29ycmVjdCBob3JzZQ" not in text


def test_a_refused_run_leaves_no_loop_to_the_collector(open_small: Open, tmp_path: Path) -> None:
    """It would end some later test, of something else, with a warning."""
    nowhere = tmp_path / "nowhere"
    stack = open_small(small(nowhere, config_map("hanzo")))
    others = _open_loops()
    with pytest.raises(automation.CommandError, match="no kubeconfig"):
        up(stack)
    gc.collect()
    assert [loop for loop in _open_loops() if loop not in others] == []


def test_what_the_api_server_warns_of_is_kept(
    open_small: Open, kubeconfig: Path, namespace: str, provider: Serving
) -> None:
    up(open_small(small(kubeconfig, odd(namespace))))
    assert {warning.text for warning in provider.warned} == {'unknown field "date"'}


def test_what_the_api_server_warns_of_is_refused_before_it_is_made(
    kubeconfig: Path, http: httpx.Client, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "Pulumi.yaml").write_text(PROJECT)
    with serving(strict=True) as strict:
        folder = tmp_path / "engine"
        engine = Engine(pulumi=tool("pulumi"), folder=folder, environment=strict.environment)
        stack = opened("small", engine, run=small(kubeconfig, odd(namespace)), root=tmp_path)
        with pytest.raises(automation.CommandError, match='unknown field "date"'):
            up(stack)
    assert get(http, namespace, "configmaps", "settings").status_code == 404


def odd(namespace: str) -> Json:
    return {**config_map(namespace, key="x"), "date": "is no field of a ConfigMap"}


def edit(http: httpx.Client, namespace: str, peer: str) -> None:
    """Change the second peer as ``kubectl edit`` does."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/postgres-ingress"
    field = "/spec/ingress/0/from/1/podSelector/matchLabels/app"
    operations = [{"op": "replace", "path": field, "value": peer}]
    headers = {"Content-Type": "application/json-patch+json"}
    done(http.patch(f"{path}?fieldManager=kubectl-edit", json=operations, headers=headers))


def assert_peers(http: httpx.Client, namespace: str, peers: list[str]) -> None:
    found: Json = done(get(http, namespace, "networkpolicies", "postgres-ingress"))
    rules = found["spec"]["ingress"][0]["from"]
    assert [rule["podSelector"]["matchLabels"]["app"] for rule in rules] == peers


def _open_loops() -> list[asyncio.AbstractEventLoop]:
    """Also those of threads that wait for an engine which an earlier test has killed."""
    found = (item for item in gc.get_objects() if isinstance(item, asyncio.AbstractEventLoop))
    return [loop for loop in found if not loop.is_closed()]
