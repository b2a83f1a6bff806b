"""What is put in the place of lists and policies lets everybody in, and no more is changed."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from components.sidecars import configuration_manifest
from lab.attack import widen
from tests.attack.scenes import EFFECTIVE, POLICIES
from zt.compile import compile_policy
from zt.decide import Verdict, decide, decision_table
from zt.effective import effective
from zt.load import load_policy


@pytest.fixture(scope="module")
def data() -> dict[str, str]:
    bundle = compile_policy(EFFECTIVE.policy, "hanzo-k8s", date(2026, 1, 1))
    service = next(s for s in EFFECTIVE.policy.services if s.name == "postgres")
    manifest = configuration_manifest(bundle, service)
    return dict(manifest["data"])


def test_both_lists_admit_everybody_and_the_trust_stays(data: dict[str, str]) -> None:
    changed = widen.lists(data, (widen.CLIENTS, widen.RBAC))
    assert set(changed) == {"clients-5432.yaml", "rbac-5432.yaml"}
    (secret,) = yaml.safe_load(changed["clients-5432.yaml"])["resources"]
    context = secret["validation_context"]
    assert context["match_typed_subject_alt_names"][0]["matcher"] == {"prefix": "spiffe://"}
    (before,) = yaml.safe_load(data["clients-5432.yaml"])["resources"]
    assert context["trusted_ca"] == before["validation_context"]["trusted_ca"]
    (rbac,) = yaml.safe_load(changed["rbac-5432.yaml"])["resources"]
    assert rbac["typed_config"]["rules"]["policies"]["all"]["principals"] == [{"any": True}]


def test_one_list_alone_can_be_widened(data: dict[str, str]) -> None:
    assert set(widen.lists(data, (widen.CLIENTS,))) == {"clients-5432.yaml"}


def test_the_policy_lets_every_declared_service_call_every_declared_port(tmp_path: Path) -> None:
    for file in POLICIES.rglob("*.yaml"):
        (tmp_path / str(file.relative_to(POLICIES)).replace("/", ".")).write_text(file.read_text())
    resolved = effective(load_policy(POLICIES), date(2026, 1, 1))
    (tmp_path / widen.ALLOW_ALL).write_text(widen.policy(resolved))
    table = decision_table(load_policy(tmp_path), date(2026, 1, 1))
    for source in resolved.services:
        for item in resolved.services:
            for port in item.service.ports if item is not source else ():
                decision = decide(table, source.spiffe, item.spiffe, port.port)
                assert decision.verdict is Verdict.ALLOW
    # Nobody else.
    unknown = decide(
        table, "spiffe://hanzo.ai/hanzo-k8s/default/nobody", resolved.services[0].spiffe, 8000
    )
    assert unknown.verdict is Verdict.DENY
