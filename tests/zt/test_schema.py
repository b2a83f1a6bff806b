"""The JSON Schema for editors."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from jsonschema import Draft202012Validator

from tests.strategies import policies
from tests.zt.small_policy import POLICY, changed, findings
from tests.zt.written import written
from zt.decode import is_required, yaml_fields
from zt.load import load_policy
from zt.model import KINDS, Policy
from zt.schema import schema, text

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(schema())


def complaints(document: object) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(document)]


def test_the_schema_in_docs_is_current() -> None:
    path = ROOT / "docs" / "policy.schema.json"
    assert path.read_text() == text(), "python -m zt.schema > docs/policy.schema.json"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json.loads(text()))


def test_it_knows_every_field_and_what_it_is_for() -> None:
    definitions = schema()["$defs"]
    assert {kind.__name__ for kind in KINDS} <= definitions.keys()
    for definition in definitions.values():
        assert definition["additionalProperties"] is False
        assert all(item["description"] for item in definition["properties"].values())
    for kind in KINDS:
        fields = {name: item for name, item in yaml_fields(kind).items() if name != "name"}
        definition = definitions[kind.__name__]
        assert definition["properties"].keys() == fields.keys()
        required = {name for name, item in fields.items() if is_required(item)}
        assert set(definition.get("required", ())) == required


def test_defaults_are_written_as_a_policy_writes_them() -> None:
    lifetimes = schema()["$defs"]["Lifetimes"]["properties"]
    assert (lifetimes["svid"]["default"], lifetimes["wireGuardKey"]["default"]) == ("1h", "90d")
    assert schema()["$defs"]["Port"]["properties"]["protocol"]["default"] == "tcp"
    assert schema()["$defs"]["Service"]["properties"]["critical"]["default"] is False
    assert "default" not in schema()["$defs"]["Service"]["properties"]["serviceAccount"]


@given(policies())
def test_what_can_be_read_fits_it(policy: Policy) -> None:
    assert [complaint for item in written(policy) for complaint in complaints(item)] == []


@pytest.mark.parametrize("path", ["policies", "tests/zt/data/policy.yaml"])
def test_the_real_policy_fits_it(path: str) -> None:
    policy = load_policy(ROOT / path)
    assert [complaint for item in written(policy) for complaint in complaints(item)] == []


def test_the_files_themselves_fit_it() -> None:
    """As an editor sees them, without the loader in between."""
    for file in (ROOT / "policies").rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            assert complaints(document) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("kind: Rollout", "kind: Rolout", "'Rolout' is not one of"),
        ("critical: true", "kritical: true", "'kritical' was unexpected"),
        ("trustDomain: hanzo.ai", "trustDomain: hanzo", "'hanzo' does not match"),
        ("  cluster: ci\n", "", "'cluster' is a required property"),
        ("port: 4222", "port: 70000", "70000 is greater than the maximum of 65535"),
        ("port: 4222", "port: '4222'", "'4222' is not of type 'integer'"),
        ("protocol: tcp", "protocol: udp", "'udp' is not one of"),
        ("svid: 1h", "svid: 3600", "3600 is not of type 'string'"),
        ("svid: 1h", "svid: soon", "'soon' does not match"),
        ("ports: [8000]", "ports: []", "[] should be non-empty"),
        ("defaultAction: DENY", "defaultAction: ALLOW", "'ALLOW' is not one of ['DENY']"),
        ("metadata: {name: queue}", "metadata: {name: Queue}", "'Queue' does not match"),
        ("metadata: {name: queue}", "metadata: {}", "'name' is a required property"),
    ],
)
def test_an_editor_underlines_what_the_loader_refuses(old: str, new: str, complaint: str) -> None:
    text = changed(old, new)
    assert findings(text)
    found = [message for item in yaml.safe_load_all(text) for message in complaints(item)]
    assert any(complaint in message for message in found), found


def test_the_small_policy_fits_it_as_written() -> None:
    documents: list[Any] = list(yaml.safe_load_all(POLICY))
    assert [complaint for item in documents for complaint in complaints(item)] == []
