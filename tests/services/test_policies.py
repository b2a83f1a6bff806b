"""The lab's policies over the product's, and over others."""

from pathlib import Path

import pytest

from lab.mesh.processes import MeshError
from lab.services.manifests import PEERS
from lab.services.policies import OWN, lay, merged
from lab.stack.folder import ROOT
from zt.check import check
from zt.decide import Verdict, decide, decision_table
from zt.load import load_policy
from zt.model import Policy

_CLUSTER = "spiffe://hanzo.ai/hanzo-k8s/hanzo"


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laid") / "policies"
    lay(ROOT / "policies", folder, short=False)
    return folder


@pytest.fixture(scope="module")
def policy(laid: Path) -> Policy:
    return load_policy(laid)


def test_nothing_is_wrong_with_them(policy: Policy) -> None:
    from lab.mesh.policies import today  # noqa: PLC0415

    assert not list(check(policy, today()))


def test_what_the_product_allows_is_allowed_and_nothing_else_but_the_labs_own(
    policy: Policy,
) -> None:
    from lab.mesh.policies import today  # noqa: PLC0415

    before = decision_table(load_policy(ROOT / "policies"), today())
    after = decision_table(policy, today())
    more = set()
    for source in after.selectors:
        for destination, ports in after.ports.items():
            for port in ports:
                old = decide(before, source, destination, port).verdict
                new = decide(after, source, destination, port).verdict
                if old != new:
                    assert new is Verdict.ALLOW
                    more.add((source.rpartition("/")[2], destination.rpartition("/")[2], port))
    assert more == {
        ("migrate", "postgres", 5432),
        ("iam", "ledger", 3306),
        # Both databases: the product's rule is for all evaluators, of the one that it has.
        ("zt-policy-engine", "zt-audit-db", 5432),
        ("zt-policy-engine", "external:kubernetes-api", 6443),
        ("prometheus", "external:kubernetes-api", 6443),
    }


def test_the_gateways_are_at_the_labs_own_internet(policy: Policy) -> None:
    endpoints = [str(c.gateway.endpoint) for c in policy.mesh.clusters if c.gateway]
    assert endpoints == ["192.0.2.10:51820", "192.0.2.20:51820"]
    # All else of the clusters is the product's.
    original = load_policy(ROOT / "policies").mesh
    for ours, theirs in zip(policy.mesh.clusters, original.clusters, strict=True):
        assert (ours.pod_cidr, ours.service_cidr) == (theirs.pod_cidr, theirs.service_cidr)
        assert ours.gateway
        assert theirs.gateway
        assert ours.gateway.routes == theirs.gateway.routes
    assert policy.mesh.lifetimes == original.lifetimes


def test_a_validator_is_not_fifteen_pods(policy: Policy) -> None:
    (validator,) = [item for item in policy.services if item.name == "validator"]
    assert validator.replicas == 2
    assert [port.port for port in validator.ports] == [9650]


def test_peers_of_a_stateful_set_have_a_port(policy: Policy) -> None:
    peers = {item.name: item.peer_ports for item in policy.services if item.peer_ports}
    assert peers == dict.fromkeys(("postgres", "redis", "minio"), (PEERS.port,))


def test_lifetimes_may_be_minutes(tmp_path: Path) -> None:
    lay(ROOT / "policies", tmp_path / "short", short=True)
    lifetimes = load_policy(tmp_path / "short").mesh.lifetimes
    assert (lifetimes.svid, lifetimes.ca) == (120, 720)
    assert lifetimes.root == 365 * 86400


def test_what_was_laid_before_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "laid"
    lay(ROOT / "policies", folder, short=False)
    (folder / "other.yaml").write_text("nonsense")
    lay(ROOT / "policies", folder, short=False)
    assert not (folder / "other.yaml").exists()


def test_files_without_a_change_are_as_they_were(laid: Path) -> None:
    for name in ("access/hanzo-core-policy.yaml", "rollout.yaml", "operators.yaml"):
        assert (laid / name).read_text() == (ROOT / "policies" / name).read_text()


def test_errors_are_told(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    text = (OWN / "lab.yaml").read_text()
    (own / "lab.yaml").write_text(text.replace("hanzo/ledger", "hanzo/leger"))
    with pytest.raises(MeshError, match="ledger"):
        lay(ROOT / "policies", tmp_path / "laid", short=False, own=own)


def test_mappings_and_named_items_are_merged_and_all_else_replaced() -> None:
    document = {"a": {"b": 1, "c": [1, 2]}, "d": [{"name": "x", "e": 1}, {"name": "y"}], "f": 5}
    over = {"a": {"c": [3]}, "d": [{"name": "x", "g": 2}, {"name": "z"}], "h": 6}
    assert merged(document, over) == {
        "a": {"b": 1, "c": [3]},
        "d": [{"name": "x", "e": 1, "g": 2}, {"name": "y"}, {"name": "z"}],
        "f": 5,
        "h": 6,
    }
