import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.provider.shape import Difference, Kind, cut, differences, property_path, replaces

keys = st.sampled_from("abc")
leaves = st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(keys, values, max_size=3)


def found(before: Any, after: Any) -> dict[str, Kind]:  # noqa: ANN401
    return {property_path(item.path): item.kind for item in differences(before, after)}


@given(values)
def test_what_is_the_same_does_not_differ(value: Any) -> None:  # noqa: ANN401
    assert not found(value, copy.deepcopy(value))


@given(objects, objects)
def test_differences_are_the_same_both_ways_but_for_their_kind(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    turned = {Kind.ADD: Kind.DELETE, Kind.DELETE: Kind.ADD, Kind.UPDATE: Kind.UPDATE}
    there, back = found(one, other), found(other, one)
    assert there == {path: turned[kind] for path, kind in back.items()}


@given(objects, objects)
def test_what_others_add_to_an_object_goes_unseen(
    asked: dict[str, Any], others: dict[str, Any]
) -> None:
    live = {**{f"other-{key}": value for key, value in others.items()}, **asked}
    assert not found(cut(live, asked), asked)


@given(objects, objects)
def test_a_cut_has_nothing_that_was_not_asked_for(
    live: dict[str, Any], asked: dict[str, Any]
) -> None:
    assert cut(live, asked).keys() <= asked.keys()
    assert cut(live, live) == live


def policy(*peers: str) -> dict[str, Any]:
    return {"spec": {"ingress": [{"from": [{"podSelector": {"app": peer}} for peer in peers]}]}}


def test_a_field_that_someone_changed_is_seen() -> None:
    live, asked = policy("iam", "evil"), policy("iam", "chat")
    assert list(differences(cut(live, asked), asked)) == [
        Difference(
            ("spec", "ingress", 0, "from", 1, "podSelector", "app"), Kind.UPDATE, "evil", "chat"
        )
    ]


def test_an_element_that_someone_removed_is_seen() -> None:
    live, asked = policy("iam"), policy("iam", "chat")
    assert found(cut(live, asked), asked) == {"spec.ingress[0].from[1]": Kind.ADD}


def test_an_element_that_someone_appended_is_not_seen_as_with_the_official_provider() -> None:
    live, asked = policy("iam", "evil"), policy("iam")
    assert not found(cut(live, asked), asked)


def test_one_empty_rule_is_not_the_same_as_none() -> None:
    assert found({"ingress": []}, {"ingress": [{}]}) == {"ingress[0]": Kind.ADD}
    assert found({"ingress": [{}]}, {"ingress": []}) == {"ingress[0]": Kind.DELETE}


@pytest.mark.parametrize("empty", [None, [], {}])
def test_what_is_empty_may_as_well_be_missing(empty: object) -> None:
    assert not found({}, {"egress": empty})
    assert not found({"egress": empty}, {})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "ingress", 0, "from"), "spec.ingress[0].from"),
        (
            ("metadata", "labels", "app.kubernetes.io/name"),
            'metadata.labels["app.kubernetes.io/name"]',
        ),
        (("data", 'a"b'), 'data["a\\"b"]'),
    ],
)
def test_paths_are_written_as_pulumi_writes_them(path: tuple[str | int, ...], text: str) -> None:
    assert property_path(path) == text


@pytest.mark.parametrize(
    ("version", "kind", "path", "replaced"),
    [
        ("v1", "ConfigMap", ("metadata", "name"), True),
        ("v1", "ConfigMap", ("metadata", "namespace"), True),
        ("v1", "ConfigMap", ("metadata", "labels", "a"), False),
        ("v1", "ConfigMap", ("data", "a"), False),
        ("apps/v1", "Deployment", ("spec", "selector", "matchLabels", "app"), True),
        ("apps/v1", "Deployment", ("spec", "template", "spec"), False),
        ("batch/v1", "Job", ("spec", "template", "spec", "containers", 0, "image"), True),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", ("roleRef", "name"), True),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", ("subjects", 0), False),
        ("networking.k8s.io/v1", "NetworkPolicy", ("spec", "podSelector"), False),
    ],
)
def test_an_object_is_made_anew_only_where_a_field_cannot_change(
    version: str, kind: str, path: tuple[str | int, ...], *, replaced: bool
) -> None:
    manifest = {"apiVersion": version, "kind": kind}
    mutable = {"ConfigMap": True, "Secret": True}
    assert replaces(manifest, path, patch=False, mutable=mutable) is replaced


def test_content_changes_in_place_only_where_the_program_says_so() -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap"}
    fixed = {**manifest, "immutable": True}
    assert replaces(manifest, ("data", "a"), patch=False, mutable={"ConfigMap": False})
    assert replaces(fixed, ("data", "a"), patch=False, mutable={"ConfigMap": True})


def test_a_patch_is_replaced_only_where_it_is_for_another_object() -> None:
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment"}
    assert not replaces(manifest, ("spec", "selector"), patch=True)
    assert replaces(manifest, ("metadata", "name"), patch=True)
