"""The API servers are real, closed to strangers, and reached from here and from inside."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.cluster.client import Client, client
from lab.cluster.model import ControlPlane
from lab.cluster.network import entered
from lab.tools.build import PROGRAMS, _version

ROOT = Path(__file__).parents[3]
NAMESPACES = "/api/v1/namespaces"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@pytest.fixture
def api(control_planes: Mapping[str, ControlPlane]) -> Client:
    return client(control_planes["hanzo-k8s"].kubeconfig)


@pytest.fixture
def namespace(api: Client) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.create(NAMESPACES, {"metadata": {"name": name}})
    return f"{NAMESPACES}/{name}"


def test_each_cluster_has_an_api_server_of_its_own_of_the_version_that_is_pinned(
    control_planes: Mapping[str, ControlPlane],
) -> None:
    clients = {name: client(plane.kubeconfig) for name, plane in control_planes.items()}
    pinned = _version(PROGRAMS["kube-apiserver"])
    assert {each.get("/version")["gitVersion"] for each in clients.values()} == {pinned}
    identities = {each.get(f"{NAMESPACES}/default")["metadata"]["uid"] for each in clients.values()}
    assert set(clients) == {"hanzo-k8s", "lux-k8s"}
    assert len(identities) == 2


def test_nobody_may_what_no_role_allows(api: Client, namespace: str) -> None:
    answer = api.request(
        "GET", f"{namespace}/secrets", user="system:serviceaccount:default:default"
    )
    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert "cannot list resource" in answer.message
    strangers = api.request(
        "GET", NAMESPACES, user="system:anonymous", groups=["system:authenticated"]
    )
    assert strangers.status == 403


def test_controllers_run(api: Client, namespace: str) -> None:
    """Accounts are made, what belongs to somebody goes with them, and namespaces end."""
    api.wait(f"{namespace}/serviceaccounts/default", lambda found: found is not None)
    owner = api.create(f"{namespace}/configmaps", {"metadata": {"name": "owner"}}).body["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    owned = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    api.create(f"{namespace}/configmaps", owned)
    api.delete(f"{namespace}/configmaps/owner")
    api.wait(f"{namespace}/configmaps/owned", lambda found: found is None)
    api.delete(namespace)
    api.wait(namespace, lambda found: found is None)


def test_admission_policies_are_enforced(api: Client, namespace: str) -> None:
    name = namespace.rpartition("/")[2]
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    constraints = {
        "resourceRules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
    }
    expression = "object.metadata.name != 'refused'"
    policy = {
        "metadata": {"name": name},
        "spec": {"matchConstraints": constraints, "validations": [{"expression": expression}]},
    }
    api.create(POLICIES, policy)
    binding = {"policyName": name, "validationActions": ["Deny"]}
    api.create(BINDINGS, {"metadata": {"name": name}, "spec": binding})
    try:
        refused = {"metadata": {"name": "refused"}}

        def is_refused(_found: object) -> bool:
            answer = api.request("POST", f"{namespace}/configmaps?dryRun=All", refused)
            return answer.status == 422 and expression in answer.message

        api.wait(namespace, is_refused)
        assert api.create(f"{namespace}/configmaps", {"metadata": {"name": "good"}}).ok
    finally:
        api.delete(f"{BINDINGS}/{name}")
        api.delete(f"{POLICIES}/{name}")


def test_warnings_are_heard(api: Client, namespace: str) -> None:
    container = {"name": "x", "image": "x", "env": [{"name": "A", "value": "1"}] * 2}
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [container]}}
    api.wait(f"{namespace}/serviceaccounts/default", lambda found: found is not None)
    answer = api.create(f"{namespace}/pods?dryRun=All", pod)
    assert answer.warnings
    assert "hides previous definition" in answer.warnings[0]


def test_what_is_applied_is_owned(api: Client, namespace: str) -> None:
    path = f"{namespace}/configmaps/applied"
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}
    api.apply(path, {**manifest, "data": {"a": "1"}}, manager="first")
    api.apply(path, {**manifest, "data": {"a": "2"}}, manager="second")
    found = api.get(path)
    assert found["data"] == {"a": "2"}
    assert "second" in {field["manager"] for field in found["metadata"]["managedFields"]}


def test_clusters_reach_each_other_inside(control_planes: Mapping[str, ControlPlane]) -> None:
    """With the kubeconfig for the inside, from the other cluster's namespace."""
    here, there = control_planes["hanzo-k8s"], control_planes["lux-k8s"]
    program = (
        "import sys, pathlib, lab.cluster.client as c;"
        "print(c.client(pathlib.Path(sys.argv[1])).request('GET', '/readyz').body)"
    )
    command = entered(here.namespace, (sys.executable, "-c", program, str(there.inside)))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_etcd_knows_the_api_server_alone(control_planes: Mapping[str, ControlPlane]) -> None:
    """An administrator of the API is nobody to etcd: another CA signs its clients."""
    plane = control_planes["hanzo-k8s"]
    program = """
import json, pathlib, ssl, sys, urllib.request
keys, pairs, answers = pathlib.Path(sys.argv[1]), ("kube-controller-manager", "etcd-client"), []
for pair in pairs:
    context = ssl.create_default_context(cafile=keys / "etcd-ca.crt")
    context.load_cert_chain(keys / f"{pair}.crt", keys / f"{pair}.key")
    try:
        with urllib.request.urlopen("https://127.0.0.1:2379/version", context=context) as answer:
            answers.append(answer.status)
    except OSError as error:
        answers.append("unknown ca" if "UNKNOWN_CA" in str(error).upper() else repr(error))
print(json.dumps(answers))
"""
    keys = plane.kubeconfig.parent / "pki"
    command = entered(plane.namespace, (sys.executable, "-c", program, str(keys)))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["unknown ca", 200]


def test_keys_are_the_owner_s_alone(control_planes: Mapping[str, ControlPlane]) -> None:
    folder = control_planes["hanzo-k8s"].kubeconfig.parent
    written = [*folder.glob("pki/*"), *folder.glob("kubeconfig*")]
    assert len(written) > 10
    assert {path.stat().st_mode & 0o077 for path in written if path.suffix != ".crt"} == {0}
