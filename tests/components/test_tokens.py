"""Type tokens of components are parts of URNs: to change one is to replace all that it holds."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pytest

import components
from tests.components.registered import STACKS, as_given, configuration, main, run, with_kubeconfig

TOKENS = {
    "Admission": "hanzo-zt:components:Admission",
    "Audit": "hanzo-zt:components:Audit",
    "Cluster": "hanzo-zt:components:Cluster",
    "Evaluator": "hanzo-zt:components:Evaluator",
    "GeneratedSecrets": "hanzo-zt:components:GeneratedSecrets",
    "Namespaces": "hanzo-zt:components:Namespaces",
    "NetworkPolicies": "hanzo-zt:components:NetworkPolicies",
    "Sidecars": "hanzo-zt:components:Sidecars",
    "Spire": "hanzo-zt:components:Spire",
    "Wireguard": "hanzo-zt:components:Wireguard",
}
NAMES = {
    "admission",
    "audit",
    "cluster",
    "evaluator",
    "namespaces",
    "networkpolicies",
    "sidecars",
    "spire",
    "wireguard",
}


def classes() -> Iterator[type[pulumi.ComponentResource]]:
    for module in pkgutil.walk_packages(components.__path__, "components."):
        for item in vars(importlib.import_module(module.name)).values():
            is_component = isinstance(item, type) and issubclass(item, pulumi.ComponentResource)
            if is_component and item.__module__ == module.name:
                yield item


def test_every_component_has_a_token_that_is_written_here() -> None:
    assert {item.__name__ for item in classes()} == TOKENS.keys()


@pytest.mark.parametrize("stack", STACKS)
def test_tokens_and_names_stay_what_they_are(stack: str, tmp_path: Path) -> None:
    seen = run(main, stack, as_given(with_kubeconfig(configuration(stack), tmp_path)))
    made = [resource for resource in seen.resources if resource.is_component]
    assert {resource.type for resource in made} <= set(TOKENS.values())
    top = {resource.name for resource in made if "pulumi:pulumi:Stack::" in resource.parent}
    assert top <= NAMES
    assert NAMES - {"wireguard"} <= top
