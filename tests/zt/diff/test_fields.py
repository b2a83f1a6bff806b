"""Fields of what stands in both policies."""

from dataclasses import replace
from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest

from tests.strategies import TODAY
from zt.diff import Change, Diff, diff
from zt.effective import effective
from zt.load import load_policy
from zt.model import Infrastructure, Policy

REAL = load_policy("policies")


def changed(new: Policy) -> Diff:
    return diff(effective(REAL, TODAY), effective(new, TODAY))


def test_a_wider_network_outside_changes_access() -> None:
    (first, *others) = REAL.externals
    wider = replace(first, cidrs=(*first.cidrs, ip_network("::/0")))

    found = changed(replace(REAL, externals=(wider, *others)))

    old, new = (", ".join(map(str, one.cidrs)) for one in (first, wider))
    assert found.changes == (Change(f"external:{first.name}", "cidrs", old, new, access=True),)
    assert found.changes_access


@pytest.mark.parametrize(
    ("field", "value", "access"),
    [
        ("selector", (("app", "other"),), True),
        ("replicas", 7, False),
        ("critical", None, False),
    ],
)
def test_a_changed_service_says_whether_others_are_meant_now(
    field: str, value: object, *, access: bool
) -> None:
    (first, *others) = REAL.services
    value = not first.critical if value is None else value
    fields: dict[str, Any] = {field: value}
    found = changed(replace(REAL, services=(replace(first, **fields), *others)))

    assert [(change.field, change.access) for change in found.changes] == [(field, access)]
    assert found.changes_access is access


def test_pods_that_newly_reach_each_other_change_access() -> None:
    (first, *others) = REAL.services
    found = changed(replace(REAL, services=(replace(first, peer_ports=(7000,)), *others)))

    assert found.changes == (Change(first.spiffe(REAL.mesh), "peerPorts", "", "7000", access=True),)
    assert found.changes_access


def test_a_default_that_is_written_out_is_no_change() -> None:
    written = tuple(
        replace(one, service_account=one.account, selector=tuple(one.labels.items()))
        for one in REAL.services
    )

    assert changed(replace(REAL, services=written)) == changed(REAL)


def test_another_evaluator_changes_access_and_another_lifetime_does_not() -> None:
    mesh = REAL.mesh
    evaluator = replace(mesh, infrastructure=Infrastructure(evaluator="other"))
    lifetime = replace(mesh, lifetimes=replace(mesh.lifetimes, svid=1800))

    assert changed(replace(REAL, mesh=evaluator)).changes_access
    assert changed(replace(REAL, mesh=lifetime)).changes == (
        Change("mesh", "lifetimes.svid", "3600", "1800", access=False),
    )


def test_a_changed_cluster_is_told_by_its_name() -> None:
    (first, *others) = REAL.mesh.clusters
    moved = replace(first, pod_cidr=ip_network("10.9.0.0/16"))
    found = changed(replace(REAL, mesh=replace(REAL.mesh, clusters=(moved, *others))))

    assert [change.field for change in found.changes] == [f"clusters.{first.name}.podCIDR"]


def test_a_rule_that_will_expire_is_told_wherever_it_moved() -> None:
    access = REAL.access[0]
    until = replace(access.rules[0], expires=date(2027, 1, 31))
    rules = (*access.rules[1:], until)
    found = changed(replace(REAL, access=(replace(access, rules=rules), *REAL.access[1:])))

    assert [(change.field, change.old, change.new) for change in found.changes] == [
        ("expires", "", "2027-01-31")
    ]
    assert not found.changes_access
