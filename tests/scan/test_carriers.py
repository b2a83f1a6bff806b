"""What this project writes has no secrets in it: bundles, and what a stack registers."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.scan.scan import scan
from tests.components.registered import (
    STACKS,
    Registered,
    as_given,
    configuration,
    main,
    run,
    with_kubeconfig,
)
from tests.scan.planting import KINDS
from zt.compile import compile_policy
from zt.load import load_policy

ROOT = Path(__file__).parents[2]
POLICIES = ["policies", "tests/policies/minimal.yaml", "tests/policies/rollout.yaml"]


@pytest.mark.parametrize("path", POLICIES)
def test_compiled_bundles_have_none(path: str) -> None:
    policy = load_policy(ROOT / path)
    places = [*(cluster.name for cluster in policy.mesh.clusters), *policy.mesh.outside]
    files = [
        (f"{place}/{file.path}", file.text().encode())
        for place in places
        for file in compile_policy(policy, place, date(2026, 11, 24)).files
    ]

    assert len(files) > 10
    assert scan(files) == []


@pytest.fixture(scope="module", params=STACKS)
def resources(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Registered]:
    config = with_kubeconfig(configuration(request.param), tmp_path_factory.mktemp("stack"))
    return run(main, request.param, as_given(config)).resources


def carriers(resources: list[Registered]) -> Iterator[tuple[str, bytes]]:
    """What is registered in clear: the objects, without what is sent as a secret."""
    for resource in resources:
        clear = redacted(resource.inputs, frozenset(resource.secrets))
        yield resource.urn, json.dumps(clear, indent=1).encode()


def redacted(value: object, secrets: frozenset[str], path: str = "") -> object:
    if path in secrets:
        return "[secret]"
    if isinstance(value, dict):
        return {
            key: redacted(item, secrets, f"{path}.{key}" if path else key)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item, secrets, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def test_what_a_stack_registers_has_none(resources: list[Registered]) -> None:
    assert len(resources) > 50
    assert scan(carriers(resources)) == []


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(data=st.data())
def test_a_key_planted_in_a_registered_object_is_found(
    kind: str, data: st.DataObject, resources: list[Registered]
) -> None:
    maps = [resource for resource in resources if resource.type.endswith(":ConfigMap")]
    resource = data.draw(st.sampled_from(maps))
    secret = data.draw(KINDS[kind]).decode()
    inputs = {**resource.inputs, "data": {**resource.inputs.get("data", {}), "extra": secret}}

    assert scan([("planted", json.dumps(inputs).encode())])
