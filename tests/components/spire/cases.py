"""Stacks and bundles that the tests of SPIRE look at."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from components.settings import (
    Adopted,
    ClusterDatabase,
    DevelopmentAuthority,
    Evaluator,
    ExistingDatabase,
    KeySource,
    Spire,
    StackSettings,
)
from tests.strategies import TODAY
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.facts import Facts
from zt.load import load_policy

POLICY = load_policy(Path(__file__).parents[3] / "policies")

LAB = StackSettings(
    cluster="hanzo-k8s",
    production=False,
    kubernetes=Adopted(kubeconfig="kubeconfig"),
    spire=Spire(
        replicas=2,
        authority=DevelopmentAuthority(secret="spire-development-ca"),
        datastore=ClusterDatabase(storage="1Gi"),
        node_authority="spire-node-ca",
    ),
    evaluator=Evaluator(replicas=3),
    audit=ClusterDatabase(storage="1Gi"),
)
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
