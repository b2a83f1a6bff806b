"""All planes together."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import TODAY, documents, policies
from zt.compile import compile_policy
from zt.load import assemble, load_policy
from zt.model import Document, Policy, Service

POLICY = load_policy(Path(__file__).parents[3] / "policies")


@pytest.mark.parametrize("cluster", ["hanzo-k8s", "lux-k8s"])
def test_a_cluster_gets_every_plane(cluster: str) -> None:
    files = compile_policy(POLICY, cluster, TODAY).files
    assert {file.path.split("/")[0] for file in files} == {
        "admission",
        "audit",
        "decisions.json",
        "envoy",
        "injection.json",
        "networkpolicies",
        "spire",
        "wireguard",
    }


def test_a_place_outside_gets_envoy_and_decisions_alone() -> None:
    paths = {file.path.split("/")[0] for file in compile_policy(POLICY, "ci", TODAY).files}
    assert paths == {"envoy", "decisions.json"}


def test_an_unknown_cluster_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="hanzo-k8") as raised:
        compile_policy(POLICY, "hanzo-k8", TODAY)
    assert str(raised.value) == (
        "'hanzo-k8' is no cluster of mesh 'hanzo' (did you mean 'hanzo-k8s'?):"
        " use one of hanzo-k8s, lux-k8s, ci"
    )


@given(policies(), st.data())
def test_documents_added_and_removed_in_any_order_compile_to_the_same_bytes(
    policy: Policy, data: st.DataObject
) -> None:
    """As a policy directory is worked on: what counts is what is there at the end."""
    wanted = documents(policy)
    there = {_identity(item): item for item in data.draw(st.permutations(wanted))}
    for item in data.draw(st.lists(st.sampled_from(wanted), max_size=8)):
        there.pop(_identity(item), None)
    for item in data.draw(st.permutations(wanted)):
        there.setdefault(_identity(item), item)
    again = assemble(there.values())
    for cluster in policy.mesh.clusters:
        first = compile_policy(policy, cluster.name, TODAY)
        assert compile_policy(again, cluster.name, TODAY).digest() == first.digest()


def _identity(item: Document) -> tuple[str, ...]:
    """What tells documents apart; services of two clusters may have one name."""
    place = (item.cluster,) if isinstance(item, Service) else ()
    return (type(item).__name__, *place, item.name)


@given(policies(), st.data())
def test_files_are_sorted_and_each_path_is_there_once(policy: Policy, data: st.DataObject) -> None:
    mesh = policy.mesh
    places = [*(cluster.name for cluster in mesh.clusters), *mesh.outside]
    bundle = compile_policy(policy, data.draw(st.sampled_from(places)), TODAY)
    paths = [file.path for file in bundle.files]
    assert paths == sorted(set(paths))


def test_a_bundle_is_written_as_it_is(tmp_path: Path) -> None:
    bundle = compile_policy(POLICY, "lux-k8s", date(2026, 1, 1))
    bundle.write(tmp_path)
    written = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*.*")}
    assert {file.path: file.text() for file in bundle.files} == {
        name: path.read_text(encoding="utf-8") for name, path in written.items()
    }
