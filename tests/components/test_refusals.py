"""A stack that can't be brought up as it is configured touches nothing, and says what to do."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.components.registered import (
    CHECKOUT,
    STACKS,
    as_given,
    configuration,
    created,
    main,
    refusal,
    run,
    with_kubeconfig,
)

ADOPTED, CREATED = "hanzo-k8s", "created"
POOL = {"name": "mesh", "size": "s-4vcpu-8gb", "least": 2, "most": 4}
MANAGED = {"size": "db-s-2vcpu-4gb", "nodes": 2, "region": "sfo3"}


def changed(config: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """The same configuration, with another value at a path of keys; ``None`` takes the key out."""
    (key, *rest) = path.split("/")
    inner = changed(config.get(key, {}), "/".join(rest), value) if rest else value
    others = {name: item for name, item in config.items() if name != key}
    return others if inner is None else {**others, key: inner}


def answer(stack: str, changes: Mapping[str, object], folder: Path) -> str:
    found = created() if stack == CREATED else configuration(stack)
    config = with_kubeconfig(found, folder)
    for path, value in changes.items():
        config = changed(config, f"hanzo-zt:{path}", value)
    return refusal(main, stack, as_given(config))


@dataclass(frozen=True)
class Case:
    """Where something else is written in a stack's configuration, and all that is answered."""

    stack: str
    path: str
    value: object
    says: str


TABLE = {
    "cluster that the policy has not": Case(
        ADOPTED,
        "cluster",
        "hanzo-k9s",
        "hanzo-zt:cluster 'hanzo-k9s' is no cluster of mesh 'hanzo' (did you mean 'hanzo-k8s'?):"
        " use one of hanzo-k8s, lux-k8s, or declare it in {policies}/mesh.yaml",
    ),
    "kubeconfig that is not there": Case(
        ADOPTED,
        "kubernetes/adopt/kubeconfig",
        "/nowhere/kubeconfig",
        "hanzo-zt:kubernetes.adopt.kubeconfig /nowhere/kubeconfig cannot be read"
        " (No such file or directory): name a file that you can read with"
        " `pulumi config set --path hanzo-zt:kubernetes.adopt.kubeconfig PATH`",
    ),
    "kubeconfig that is a folder": Case(
        ADOPTED,
        "kubernetes/adopt/kubeconfig",
        "/",
        "hanzo-zt:kubernetes.adopt.kubeconfig / cannot be read (Is a directory): name a file that"
        " you can read with `pulumi config set --path hanzo-zt:kubernetes.adopt.kubeconfig PATH`",
    ),
    "kubeconfig that is none": Case(
        ADOPTED,
        "kubernetes/adopt/kubeconfig",
        "/dev/null",
        "hanzo-zt:kubernetes.adopt.kubeconfig /dev/null is no kubeconfig: it names no cluster;"
        " name a file that you can read with"
        " `pulumi config set --path hanzo-zt:kubernetes.adopt.kubeconfig PATH`",
    ),
    "context that the kubeconfig has not": Case(
        ADOPTED,
        "kubernetes/adopt/context",
        "hanzo-k8",
        "hanzo-zt:kubernetes.adopt.context 'hanzo-k8' is no context of {folder}/kubeconfig"
        " (did you mean 'hanzo-k8s'?): `kubectl config get-contexts` lists them",
    ),
    "no kubeconfig": Case(
        ADOPTED,
        "kubernetes/adopt/kubeconfig",
        None,
        "hanzo-zt:kubernetes.adopt.kubeconfig is missing: it should be text",
    ),
    "two kinds of cluster": Case(
        ADOPTED,
        "kubernetes/create",
        {},
        "hanzo-zt:kubernetes should be a mapping with one key, adopt or create,"
        " not a mapping with adopt, create",
    ),
    "unknown kind of cluster": Case(
        ADOPTED,
        "kubernetes",
        {"adapt": {}},
        "hanzo-zt:kubernetes.adapt is not a key that is known (did you mean 'adopt'?)",
    ),
    "wrong type of a number": Case(
        ADOPTED,
        "evaluator/replicas",
        "three",
        "hanzo-zt:evaluator.replicas should be a whole number, not 'three'",
    ),
    "true is no number": Case(
        ADOPTED,
        "evaluator/replicas",
        value=True,
        says="hanzo-zt:evaluator.replicas should be a whole number, not 'true'",
    ),
    "text that YAML takes for a number": Case(
        CREATED,
        "kubernetes/create/version",
        1.35,
        "hanzo-zt:kubernetes.create.version should be text, not '1.35': put it in quotes",
    ),
    "wrong type of a key": Case(
        ADOPTED,
        "production",
        "yes",
        "hanzo-zt:production should be true or false, not 'yes'",
    ),
    "text where a mapping should be": Case(
        ADOPTED,
        "spire",
        "two servers",
        "hanzo-zt:spire should be a mapping with replicas, authority, datastore, nodeAuthority,"
        " not 'two servers'",
    ),
    "text where a list should be": Case(
        CREATED,
        "kubernetes/create/pools",
        "mesh",
        "hanzo-zt:kubernetes.create.pools should be a list, not 'mesh'",
    ),
    "unknown key": Case(
        ADOPTED,
        "clustr",
        "hanzo-k8s",
        "hanzo-zt:clustr is not a key that is known (did you mean 'cluster'?): remove it",
    ),
    "unknown key inside": Case(
        ADOPTED,
        "evaluator/durabilty",
        "disk",
        "hanzo-zt:evaluator.durabilty is not a key that is known (did you mean 'durability'?):"
        " remove it",
    ),
    "key without a value": Case(
        ADOPTED,
        "cluster",
        "",
        "hanzo-zt:cluster is missing: it should be text",
    ),
    "missing key": Case(
        ADOPTED,
        "audit",
        None,
        "hanzo-zt:audit is missing: it should be a mapping with one key, existing or inCluster"
        " or managed",
    ),
    "development CA in production": Case(
        ADOPTED,
        "spire/authority",
        {"development": {"secret": "ca"}},
        "hanzo-zt:spire.authority is a development CA (Secret 'ca'), which a production stack must"
        " not have: give it a keySource, or set hanzo-zt:production to false",
    ),
    "network that overlaps with pods": Case(
        CREATED,
        "kubernetes/create/network",
        "10.244.128.0/20",
        "hanzo-zt:kubernetes.create.network 10.244.128.0/20 overlaps with podCIDR of lux-k8s,"
        " 10.244.0.0/16: choose a range that no cluster of the mesh uses",
    ),
    "network that overlaps with services of the other cluster": Case(
        CREATED,
        "kubernetes/create/network",
        "10.241.0.0/20",
        "hanzo-zt:kubernetes.create.network 10.241.0.0/20 overlaps with serviceCIDR of hanzo-k8s,"
        " 10.241.0.0/16: choose a range that no cluster of the mesh uses",
    ),
    "network that is none": Case(
        CREATED,
        "kubernetes/create/network",
        "10.130.0.1/20",
        "hanzo-zt:kubernetes.create.network is no network: 10.130.0.1/20 has host bits set;"
        " write it as 10.130.0.0/20",
    ),
    "pool with more nodes at least than at most": Case(
        CREATED,
        "kubernetes/create/pools",
        [POOL, {**POOL, "name": "big", "least": 5}],
        "hanzo-zt:kubernetes.create.pools[1] has between 5 and 4 nodes:"
        " least should not be above most",
    ),
    "two pools of one name": Case(
        CREATED,
        "kubernetes/create/pools",
        [POOL, POOL],
        "hanzo-zt:kubernetes.create.pools[1].name 'mesh' is the name of another pool:"
        " give each its own",
    ),
    "no replica": Case(
        ADOPTED,
        "spire/replicas",
        0,
        "hanzo-zt:spire.replicas should be 1 or more",
    ),
    "a lane that is gone at once": Case(
        ADOPTED,
        "gateway",
        {"drain": 0},
        "hanzo-zt:gateway.drain should be 1 second or more",
    ),
    "unknown durability": Case(
        ADOPTED,
        "evaluator/durability",
        "disc",
        "hanzo-zt:evaluator.durability 'disc' is no durability (did you mean 'disk'?):"
        " use one of process, disk, db",
    ),
    "managed database in another region": Case(
        CREATED,
        "audit",
        {"managed": {**MANAGED, "region": "fra1"}},
        "hanzo-zt:audit.managed.region is fra1, but the cluster is made in sfo3: a database shares"
        " the network of its cluster, so give both the same",
    ),
    "managed database beside an adopted cluster": Case(
        ADOPTED,
        "audit",
        {"managed": MANAGED},
        "hanzo-zt:audit.managed.clusterId is missing: for a cluster that was adopted, take the ID"
        " that `doctl kubernetes cluster get NAME` shows",
    ),
    "peer that is no cluster": Case(
        ADOPTED,
        "gateway/peers",
        {"lux": "x"},
        "hanzo-zt:gateway.peers.lux is of no other cluster that has a gateway"
        " (did you mean 'lux-k8s'?): remove it",
    ),
    "key of a peer that is none": Case(
        ADOPTED,
        "gateway/peers",
        {"lux-k8s": "bHV4"},
        "hanzo-zt:gateway.peers.lux-k8s 'bHV4' is no WireGuard public key: it should be the 44"
        " characters that `wg pubkey` prints",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_says_what_to_do(case: str, tmp_path: Path) -> None:
    bad = TABLE[case]
    said = answer(bad.stack, {bad.path: bad.value}, tmp_path)
    policies = "policies" if Path.cwd() == CHECKOUT else str(CHECKOUT / "policies")
    assert said == bad.says.format(folder=tmp_path, policies=policies)
    assert "\n" not in said


def test_no_answer_repeats_a_secret(tmp_path: Path) -> None:
    """A mapping is named by its keys: what is in it may have been meant for another place."""
    said = answer(ADOPTED, {"policies": None, "audit": {"password": "hunter2"}}, tmp_path)
    assert "hunter2" not in said


@pytest.mark.parametrize("stack", STACKS)
def test_the_stacks_that_are_there_are_right(stack: str, tmp_path: Path) -> None:
    config = with_kubeconfig(configuration(stack), tmp_path)
    assert run(main, stack, as_given(config)).resources


# --- Policies -------------------------------------------------------------------------------------


def policies_with(folder: Path, old: str, new: str) -> str:
    """A copy of the policies in which something else is written."""
    target = folder / "policies"
    shutil.copytree(CHECKOUT / "policies", target)
    files = [file for file in target.rglob("*.yaml") if old in file.read_text()]
    assert files
    for file in files:
        file.write_text(file.read_text().replace(old, new))
    return str(target)


def test_a_policy_with_errors_is_shown_and_goes_nowhere(tmp_path: Path) -> None:
    policies = policies_with(tmp_path, "hanzo/redis", "hanzo/rediss")
    said = answer(ADOPTED, {"policies": policies}, tmp_path)
    assert "has an error: correct it, and see with `zt check" in said
    assert "hanzo-core-policy.yaml:" in said
    assert "redis" in said.splitlines()[1]


def test_policies_that_are_not_there_are_named(tmp_path: Path) -> None:
    said = answer(ADOPTED, {"policies": "/nowhere/policies"}, tmp_path)
    assert "the policy in /nowhere/policies has an error: correct it" in said
    assert "/nowhere/policies:1:1: error: cannot be read: No such file or directory" in said


def test_overlapping_clusters_are_refused(tmp_path: Path) -> None:
    policies = policies_with(tmp_path, "10.244.0.0/16", "10.240.0.0/16")
    said = answer(ADOPTED, {"policies": policies}, tmp_path)
    assert "mesh.yaml:" in said
    assert "10.240.0.0/16" in said


def test_warnings_stop_nothing(tmp_path: Path) -> None:
    policies = policies_with(tmp_path, "    # Chat can reach", "    # Chat may reach")
    rule = '    - from: {spiffe: "spiffe://hanzo.ai/hanzo-k8s/hanzo/chat"}\n'
    rule += "      expires: 2020-01-01\n"
    rule += '      to: [{spiffe: "spiffe://hanzo.ai/hanzo-k8s/hanzo/gateway", ports: [4000]}]\n'
    file = Path(policies, "access", "hanzo-core-policy.yaml")
    file.write_text(file.read_text().replace("  rules:\n", f"  rules:\n{rule}"))
    config = with_kubeconfig(configuration(ADOPTED), tmp_path) | {"hanzo-zt:policies": policies}
    assert run(main, ADOPTED, as_given(config)).resources
