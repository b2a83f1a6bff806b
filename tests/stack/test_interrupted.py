from typing import Any

from lab.stack.interrupted import completed

STACK = "urn:pulumi:lab::hanzo-zt::pulumi:pulumi:Stack::hanzo-zt-lab"
PROVIDER = "urn:pulumi:lab::hanzo-zt::pulumi:providers:kubernetes::cluster"


def resource(name: str, kind: str = "core/v1:ConfigMap", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "urn": f"urn:pulumi:lab::hanzo-zt::kubernetes:{kind}::{name}",
        "type": f"kubernetes:{kind}",
        "custom": True,
        "inputs": {"metadata": {"name": name, "namespace": "hanzo"}},
        "parent": STACK,
        "provider": f"{PROVIDER}::some-id",
        **more,
    }


def state(*begun: dict[str, Any], kind: str = "creating") -> dict[str, Any]:
    return {
        "manifest": {},
        "resources": [{"urn": STACK}, {"urn": PROVIDER}],
        "pending_operations": [{"type": kind, "resource": item} for item in begun],
    }


def taken_up(found: dict[str, Any], *there: str) -> list[tuple[str, str | None]]:
    """Names and IDs of what was added to the state."""
    settled, made = completed(found, lambda _, identity: identity in there)
    assert "pending_operations" not in settled
    added = settled["resources"][2:]
    assert made == tuple(item["urn"] for item in added)
    return [(item["urn"].rpartition("::")[2], item.get("id")) for item in added]


def test_what_was_made_is_the_stacks_and_what_was_not_is_made_by_the_next_up() -> None:
    found = state(resource("one"), resource("two"))
    assert taken_up(found, "hanzo/two") == [("two", "hanzo/two")]
    assert len(found["pending_operations"]) == 2, "the state given is left alone"


def test_an_object_without_namespace_is_known_by_its_name_alone() -> None:
    item = resource("one", "core/v1:Namespace", inputs={"metadata": {"name": "one"}})
    assert taken_up(state(item), "one") == [("one", "one")]


def test_a_component_is_made_by_being_recorded_and_its_children_come_after_it() -> None:
    component = resource("spire", "Component", custom=False, provider="", type="hanzo-zt:Spire")
    child = resource("one", parent=component["urn"])
    assert taken_up(state(component, child), "hanzo/one") == [("spire", None), ("one", "hanzo/one")]


def test_what_needs_something_unknown_is_left_out() -> None:
    child = resource("one", dependencies=["urn:pulumi:lab::hanzo-zt::kubernetes:core/v1:X::gone"])
    assert taken_up(state(child), "hanzo/one") == []


def test_a_patch_is_set_again_and_changes_and_deletions_are_repeated() -> None:
    patch = resource("one", "core/v1:NamespacePatch")
    assert taken_up(state(patch), "hanzo/one") == []
    for kind in ("updating", "deleting", "reading"):
        assert taken_up(state(resource("one"), kind=kind), "hanzo/one") == []
