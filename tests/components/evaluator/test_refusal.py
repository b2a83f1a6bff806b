"""A policy that no ConfigMap holds stops a stack before anything of it is registered."""

from __future__ import annotations

from components.program import install
from tests.components.registered import refusal
from tests.components.spire.cases import LAB, bundle_of


def test_policies_that_are_too_large_stop_before_anything_is_made() -> None:
    async def program() -> None:
        await install(bundle_of("hanzo-k8s"), LAB, {"large.yaml": "x" * (1 << 20)})

    assert "bytes, and ConfigMap zt-policies holds 1,048,576" in refusal(program, "a-stack", {})
