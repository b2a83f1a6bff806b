from typing import Any

import pytest
from pulumi.automation import EngineEvent

from lab.stack.changes import changes, messages


def event(operation: str, kind: str = "kubernetes:core/v1:ConfigMap", **more: Any) -> EngineEvent:  # noqa: ANN401
    metadata = {
        "op": operation,
        "urn": f"urn:pulumi:lab::hanzo-zt::{kind}::sidecars:hanzo/zt-envoy-iam",
        "type": kind,
        "provider": "",
        **more,
    }
    return EngineEvent.from_json(
        {"sequence": 1, "timestamp": 1, "resOutputsEvent": {"metadata": metadata}}
    )


def state(**inputs: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "", "urn": "", "id": "", "parent": "", "provider": "", "inputs": inputs}


@pytest.mark.parametrize("operation", ["same", "read", "refresh"])
def test_what_stays_is_no_change(operation: str) -> None:
    assert changes([event(operation)]) == ()


def test_the_stack_and_its_providers_are_no_change() -> None:
    assert changes([event("create", "pulumi:pulumi:Stack")]) == ()


def test_a_change_says_which_fields_and_what_was_and_is_there() -> None:
    (change,) = changes(
        [
            event(
                "update",
                old=state(data={"lds.yaml": ["a"], "old": "x"}),
                new=state(data={"lds.yaml": ["b"]}),
                detailedDiff={
                    'data["lds.yaml"][0]': {"diffKind": "update", "inputDiff": False},
                    "data.old": {"diffKind": "delete", "inputDiff": False},
                },
            )
        ]
    )
    assert str(change) == (
        "~ core/v1:ConfigMap sidecars:hanzo/zt-envoy-iam\n"
        '    data.old: "x" -> nothing\n'
        '    data["lds.yaml"][0]: "a" -> "b"'
    )


def test_of_a_text_the_lines_that_differ_are_shown() -> None:
    difference = {"data.a": {"diffKind": "update", "inputDiff": False}}
    old, new = state(data={"a": "one\ntwo\n"}), state(data={"a": "one\nthree\n"})
    (change,) = changes([event("update", old=old, new=new, detailedDiff=difference)])
    assert str(change).splitlines()[1:] == ["    data.a:", "        -two", "        +three"]


def test_long_values_are_cut() -> None:
    difference = {"data.a": {"diffKind": "update", "inputDiff": False}}
    new = state(data={"a": "x" * 1000})
    (change,) = changes([event("update", old=state(), new=new, detailedDiff=difference)])
    assert len(str(change)) < 400


def test_warnings_and_errors_are_kept() -> None:
    def said(severity: str) -> EngineEvent:
        body = {"message": f"{severity}\n", "color": "never", "severity": severity}
        return EngineEvent.from_json({"sequence": 1, "timestamp": 1, "diagnosticEvent": body})

    assert messages([said("info"), said("warning"), said("error")]) == ("warning", "error")
