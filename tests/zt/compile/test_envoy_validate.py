"""A real Envoy accepts every compiled configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracles.envoy_static import (
    WithBundle,
    static_bootstrap,
    unknown_clusters,
    validate,
    write_certificate,
)
from tests.strategies import TODAY, policies
from zt.compile.envoy import compile_envoy
from zt.effective import effective
from zt.load import load_policy
from zt.model import Phase, Policy, Rollout, RolloutPhase


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("envoy")
    write_certificate(path)
    return path


def sidecars(policy: Policy, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    resolved = effective(policy, TODAY)
    for place in (*(c.name for c in policy.mesh.clusters), *policy.mesh.outside):
        files: dict[str, dict[str, str]] = {}
        for file in compile_envoy(resolved, place, WithBundle(resolved, folder)):
            _, service, name = file.path.split("/")
            files.setdefault(service, {})[name] = file.text()
        yield from ((f"{place}/{service}", texts) for service, texts in files.items())


def complaints(policy: Policy, folder: Path) -> dict[str, str]:
    """What Envoy, or we, have to say against each sidecar."""
    found = {}
    for name, files in sidecars(policy, folder):
        bootstrap = static_bootstrap(files, folder)
        answer = validate(bootstrap, folder / "bootstrap.json")
        if answer.returncode or unknown_clusters(bootstrap):
            found[name] = f"{answer.stderr} {unknown_clusters(bootstrap)}"
    return found


@pytest.mark.parametrize("phase", list(Phase))
def test_envoy_accepts_every_sidecar_of_the_real_policy(phase: Phase, folder: Path) -> None:
    policy = load_policy("policies")
    step = RolloutPhase("step", phase, phase)
    rolled = Policy(
        policy.mesh,
        policy.services,
        policy.externals,
        policy.access,
        rollout=Rollout("rollout", (step,), "step"),
    )
    assert complaints(rolled, folder) == {}


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(policies())
def test_envoy_accepts_sidecars_of_random_policies(folder: Path, policy: Policy) -> None:
    assert complaints(policy, folder) == {}


def test_what_envoy_refuses_is_noticed(folder: Path) -> None:
    files = dict(sidecars(load_policy("policies"), folder))["hanzo-k8s/postgres"]
    wrong = files | {"clients-5432.yaml": files["clients-5432.yaml"].replace("exact:", "exactly:")}
    answer = validate(static_bootstrap(wrong, folder), folder / "bootstrap.json")
    assert answer.returncode != 0
    assert "exactly" in answer.stderr
