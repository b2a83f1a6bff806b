"""The schemas take every compiled registration and what is written back, and refuse mistakes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.spire import crds
from tests.components.spire.cases import POLICY
from tests.strategies import TODAY, policies
from zt.compile.spire import compile_spire
from zt.effective import effective
from zt.model import Policy

Json = dict[str, Any]

DEFINITIONS = {item["spec"]["names"]["kind"]: item for item in crds.manifests()}


def schema_of(kind: str) -> Json:
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    schema: Json = version["schema"]["openAPIV3Schema"]
    return schema


def strict(schema: Json) -> Json:
    """As the API server applies it with strict validation: what it does not know is an error."""
    found = copy.deepcopy(schema)
    for node in nodes(found):
        if "properties" in node:
            node["additionalProperties"] = False
    return found


def nodes(schema: Json) -> Iterator[Json]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    if "items" in schema:
        yield from nodes(schema["items"])


def problems(manifest: Json) -> list[str]:
    validator = jsonschema.Draft202012Validator(strict(schema_of(manifest["kind"])))
    return [error.json_path for error in validator.iter_errors(manifest)]


def registrations(policy: Policy) -> list[Json]:
    return [
        file.manifest()
        for cluster in policy.mesh.clusters
        for file in compile_spire(effective(policy, TODAY), cluster.name)
        if file.path.startswith("spire/registrations/")
    ]


@given(policies())
def test_every_compiled_registration_is_accepted(policy: Policy) -> None:
    for manifest in registrations(policy):
        assert problems(manifest) == [], manifest


REAL = registrations(POLICY)


def test_both_kinds_are_among_those_that_are_changed_below() -> None:
    assert {item["kind"] for item in REAL} == {"ClusterSPIFFEID", "ClusterStaticEntry"}


WRONG: dict[str, Callable[[Json], object]] = {
    "unknown key": lambda spec: spec.update(podSelectors={}),
    "no trust domain": lambda spec: spec.update({id_key(spec): "spiffe:///hanzo/iam"}),
    "another scheme": lambda spec: spec.update({id_key(spec): "https://hanzo.ai/iam"}),
    "no path": lambda spec: spec.update({id_key(spec): "spiffe://hanzo.ai"}),
    "slash at the end": lambda spec: spec.update({id_key(spec): "spiffe://hanzo.ai/iam/"}),
    "no identity": lambda spec: spec.pop(id_key(spec)),
    "bare number as lifetime": lambda spec: spec.update({ttl_key(spec): 3600}),
    "lifetime in days": lambda spec: spec.update({ttl_key(spec): "1d"}),
    "lifetime below zero": lambda spec: spec.update({ttl_key(spec): "-1h"}),
    "selector without a type": lambda spec: spec.update({selectors_key(spec): ["ns"]}),
    "selectors as text": lambda spec: spec.update({selectors_key(spec): "k8s:ns:hanzo"}),
    "admin as text": lambda spec: spec.update(admin="yes"),
    "federation with a SPIFFE ID": lambda spec: spec.update(federatesWith=["spiffe://a.b"]),
    "class as a list": lambda spec: spec.update(className=["hanzo-zt"]),
}


def id_key(spec: Json) -> str:
    return "spiffeID" if "parentID" in spec else "spiffeIDTemplate"


def ttl_key(spec: Json) -> str:
    return "x509SVIDTTL" if "parentID" in spec else "ttl"


def selectors_key(spec: Json) -> str:
    return "selectors" if "parentID" in spec else "workloadSelectorTemplates"


@given(st.sampled_from(REAL), st.sampled_from(sorted(WRONG)))
def test_a_wrong_registration_is_refused(manifest: Json, mistake: str) -> None:
    wrong = copy.deepcopy(manifest)
    WRONG[mistake](wrong["spec"])
    assert problems(wrong)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"parentID": "agent"}, "$.spec.parentID"),
        ({"selectors": []}, "$.spec.selectors"),
        ({"podSelector": {}}, "$.spec"),
    ],
)
def test_a_wrong_static_entry_is_refused(change: Json, path: str) -> None:
    wrong = copy.deepcopy(next(item for item in REAL if item["kind"] == "ClusterStaticEntry"))
    wrong["spec"].update(change)
    assert problems(wrong) == [path]


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabel": {"app": "iam"}},
        {"matchLabels": {"app": 1}},
        {"matchExpressions": [{"key": "app", "operator": "Is", "values": ["iam"]}]},
        {"matchExpressions": [{"operator": "Exists"}]},
    ],
)
def test_a_wrong_selector_is_refused(selector: Json) -> None:
    """Pruned of what it does not know, it would select every pod."""
    wrong = copy.deepcopy(next(item for item in REAL if item["kind"] == "ClusterSPIFFEID"))
    wrong["spec"]["podSelector"] = selector
    assert problems(wrong)


def test_what_the_controller_manager_writes_back_is_accepted() -> None:
    """It sends the whole object with each status, and Go's zero values where nothing was given."""
    pods = copy.deepcopy(next(item for item in REAL if item["kind"] == "ClusterSPIFFEID"))
    pods["spec"] |= {"ttl": "1h0m0s", "jwtTtl": "0s"}
    counts = schema_of("ClusterSPIFFEID")["properties"]["status"]["properties"]["stats"]
    pods["status"] = {"stats": dict.fromkeys(counts["properties"], 0)}
    static = copy.deepcopy(next(item for item in REAL if item["kind"] == "ClusterStaticEntry"))
    static["spec"] |= {"jwtSVIDTTL": "0s"}
    static["status"] = {"rendered": True, "masked": False, "set": True}
    assert problems(pods) == problems(static) == []


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_each_schema_is_structural(kind: str) -> None:
    """Every value has a type, or the API server refuses the definition."""
    assert all("type" in node for node in nodes(schema_of(kind)))


@pytest.mark.parametrize("version", ["1.33", "1.35"])
@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_the_definitions_are_valid_objects(kind: str, version: str) -> None:
    definition = DEFINITIONS[kind]
    kubernetes_validate.validate(definition, version, strict=True)
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{names['plural']}.{crds.GROUP}"
