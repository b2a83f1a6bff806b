"""Stacks and bundles that the tests of SPIRE look at."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from components.settings import ExistingDatabase, KeySource
from tests.components.stack_settings import lab_settings
from tests.strategies import TODAY
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.facts import Facts
from zt.load import load_policy

POLICY = load_policy(Path(__file__).parents[3] / "policies")

_SETTINGS = lab_settings("hanzo-k8s")
LAB = replace(_SETTINGS, spire=replace(_SETTINGS.spire, node_authority="spire-node-ca"))
PRODUCTION = replace(
    LAB,
    production=True,
    spire=replace(
        LAB.spire,
        authority=KeySource(address="https://kms.hanzo.ai", project="zt-root-ca", path="spire/h"),
        datastore=ExistingDatabase(secret="spire-datastore", key="connection"),
    ),
)
# Where no service runs outside Kubernetes.
PLAIN = replace(LAB, cluster="lux-k8s", spire=replace(LAB.spire, node_authority=None))
STACKS = {"lab": LAB, "production": PRODUCTION, "plain": PLAIN}


@cache
def bundle_of(cluster: str) -> Bundle:
    return compile_policy(POLICY, cluster, TODAY)


def facts_of(cluster: str) -> Facts:
    facts = bundle_of(cluster).facts
    assert facts is not None
    return facts
