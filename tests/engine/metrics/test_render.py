import math
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from engine.audit.status import DrainStatus
from engine.metrics.families import FAMILIES
from engine.metrics.metrics import Metrics
from engine.metrics.render import State, render, rendered
from engine.policy.status import Status, write_status
from zt.decide import Verdict


def values(text: str) -> dict[str, float]:
    """Samples without labels, and those with one by its value."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_new_evaluator_exports_every_family() -> None:
    text = rendered([Metrics().reading()], State(ready=False, audit_available=False))
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert {family.removesuffix("_total") for family in FAMILIES} == set(found)
    for name, family in FAMILIES.items():
        assert found[name.removesuffix("_total")].type == family.kind
        assert found[name.removesuffix("_total")].documentation == family.text


def test_every_sample_has_the_labels_that_its_family_names(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics")
    metrics.bump(metrics.counter(Verdict.ALLOW, "a", "b"))
    metrics.observe(1000)
    for certificate in "xy":
        metrics.certificate("a", "10.0.0.1", certificate)
    metrics.refused_without_identity("no_certificate")
    metrics.unknown_caller("no_right")
    shown: set[str] = set()
    for family in text_string_to_metric_families(
        render(tmp_path, ready=True, audit_available=True)
    ):
        for sample in family.samples:
            name = sample.name if sample.name in FAMILIES else family.name
            plain = sample.name.endswith(("_sum", "_count"))
            assert tuple(sample.labels) == (() if plain else FAMILIES[name].labels)
            shown.add(name)
    assert shown == set(FAMILIES)


def test_the_state_of_policy_and_trail_is_shown(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    write_status(tmp_path / "policy", Status().put("r7").refuse(("no such service",)))
    DrainStatus(rows=7, last_commit=5.0, oldest=time.time() - 30, lost=2, redated=3).write(tmp_path)
    found = values(render(tmp_path, ready=True, audit_available=False))
    assert found["zt_policy_ready"] == 1
    assert found["zt_policy_stale"] == 1
    assert found["zt_policy_info r7"] == 1
    assert found["zt_policy_reloads_total ok"] == 1
    assert found["zt_policy_reloads_total failed"] == 1
    assert found["zt_audit_available"] == 0
    assert found["zt_audit_rows_total"] == 7
    assert found["zt_audit_last_commit_timestamp_seconds"] == 5
    assert 30 <= found["zt_audit_spool_oldest_seconds"] < 60
    assert found["zt_audit_drainer_failing"] == 0
    assert found["zt_audit_lost_total"] == 2
    assert found["zt_audit_redated_total"] == 3


def test_before_any_decision_quantiles_are_not_numbers() -> None:
    found = values(rendered([], State(ready=True, audit_available=True)))
    assert math.isnan(found["zt_evaluation_duration_seconds 0.99"])
    assert found["zt_evaluation_duration_seconds_count"] == 0
    assert found["zt_evaluation_seconds_bucket +Inf"] == 0
