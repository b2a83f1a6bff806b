import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics import Metrics, nearest_rank
from zt.decide import Verdict


def scrape(metrics: Metrics) -> dict[str, float]:
    text = metrics.render(policy_ready=True, policy_stale=False, audit_available=False)
    assert text.endswith("\n")
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def test_decisions_are_counted_under_the_specifications_labels() -> None:
    metrics = Metrics()
    for verdict in (Verdict.ALLOW, Verdict.ALLOW, Verdict.DENY):
        metrics.decision(verdict, "spiffe://a", "spiffe://b")
    found = scrape(metrics)
    assert found['zt_decisions_total{decision="allow",source="spiffe://a",dest="spiffe://b"}'] == 2
    assert found['zt_decisions_total{decision="deny",source="spiffe://a",dest="spiffe://b"}'] == 1


def test_durations_are_a_summary_of_three_quantiles() -> None:
    metrics = Metrics()
    for number in range(1, 101):
        metrics.duration(number / 1000)
    found = scrape(metrics)
    name = "zt_evaluation_duration_seconds"
    assert found[f'{name}{{quantile="0.5"}}'] == 0.05
    assert found[f'{name}{{quantile="0.9"}}'] == 0.09
    assert found[f'{name}{{quantile="0.99"}}'] == 0.099
    assert found[f"{name}_count"] == 100
    assert found[f"{name}_sum"] == pytest.approx(5.05)


def test_quantiles_follow_the_latest_decisions() -> None:
    metrics = Metrics()
    for seconds in [1.0] * 5000 + [2.0] * 4096:
        metrics.duration(seconds)
    assert scrape(metrics)['zt_evaluation_duration_seconds{quantile="0.5"}'] == 2.0


def test_before_any_decision_quantiles_are_not_numbers() -> None:
    assert math.isnan(scrape(Metrics())['zt_evaluation_duration_seconds{quantile="0.99"}'])


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0, 1))
def test_a_quantile_has_at_least_its_share_of_values_at_or_below_it(
    values: list[float], quantile: float
) -> None:
    found = nearest_rank(sorted(values), quantile)
    at_or_below = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert at_or_below >= quantile * len(values) - 1e-9
    assert below <= quantile * len(values)


def test_another_certificate_from_the_same_address_is_a_rotation() -> None:
    metrics = Metrics()
    for address, certificate in [
        ("10.0.0.1", "first"),
        ("10.0.0.1", "first"),
        ("10.0.0.2", "of another replica"),
        ("10.0.0.1", "second"),
        ("10.0.0.2", "of another replica"),
        ("10.0.0.1", "second"),
    ]:
        metrics.certificate("spiffe://a", address, certificate)
    metrics.certificate("spiffe://b", "10.0.0.1", "third")
    found = scrape(metrics)
    assert found['zt_svid_rotations_total{service="spiffe://a"}'] == 1
    assert found['zt_svid_rotations_total{service="spiffe://b"}'] == 0


def test_what_a_label_cannot_hold_is_escaped() -> None:
    metrics = Metrics()
    metrics.refused_without_identity('a"b\\c\nd')
    assert scrape(metrics)['zt_refused_without_identity_total{reason="a\\"b\\\\c\\nd"}'] == 1


def test_the_state_of_policy_and_trail_is_shown() -> None:
    found = scrape(Metrics())
    assert found["zt_policy_ready"] == 1
    assert found["zt_policy_stale"] == 0
    assert found["zt_audit_available"] == 0
