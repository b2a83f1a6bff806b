"""What is tried and what should come of it, on the lab's own policies."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lab.mesh.trail import Entry
from lab.services.policies import lay
from lab.stack.folder import ROOT
from lab.verify.attempt import NOWHERE, Attempt, Layer, Origin, Way, surprise
from lab.verify.plan import Plan
from zt.decide import Verdict, decide, decision_table
from zt.effective import effective
from zt.load import load_policy
from zt.model import Policy

_DAY = date(2026, 1, 1)
_OWN = frozenset({"zt-policy-engine", "zt-audit-db"})
_IAM = "spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder: Path = tmp_path_factory.mktemp("laid") / "policies"
    lay(ROOT / "policies", folder, short=False)
    return load_policy(folder)


@pytest.fixture(scope="module")
def attempts(policy: Policy) -> tuple[Attempt, ...]:
    plan = Plan(
        effective(policy, _DAY), decision_table(policy, _DAY), "hanzo-k8s", _OWN, tunnel=False
    )
    return tuple(plan.attempts())


def _of(attempts: tuple[Attempt, ...], source: str, destination: str) -> dict[Way, Attempt]:
    return {
        attempt.way: attempt
        for attempt in attempts
        if (attempt.source.service.name, attempt.destination.service.name) == (source, destination)
        and attempt.destination.service.cluster == "hanzo-k8s"
    }


def test_every_ordered_pair_on_every_port_is_tried_by_both_names(
    policy: Policy, attempts: tuple[Attempt, ...]
) -> None:
    tried = {
        (a.source.spiffe, a.destination.spiffe, a.port.port) for a in attempts if a.way is Way.FULL
    }
    here = [s for s in policy.services if s.cluster == "hanzo-k8s"]
    wanted = {
        (source.spiffe(policy.mesh), called.spiffe(policy.mesh), port.port)
        for source in here
        for called in policy.services
        if called is not source
        for port in called.ports
    }
    assert tried == wanted
    both = {(a.source.spiffe, a.destination.spiffe) for a in attempts if a.way is Way.NAME}
    assert both >= {(s, d) for s, d, _ in wanted if d.startswith("spiffe://hanzo.ai/hanzo-k8s/")}


def test_each_attempt_is_as_decide_has_it(policy: Policy, attempts: tuple[Attempt, ...]) -> None:
    table = decision_table(policy, _DAY)
    for attempt in attempts:
        verdict = decide(
            table, attempt.source.spiffe, attempt.destination.spiffe, attempt.port.port
        ).verdict
        assert attempt.passes <= (verdict is Verdict.ALLOW)
        if verdict is Verdict.ALLOW:
            assert attempt.layer in (Layer.EVALUATOR, Layer.API, Layer.TUNNEL)


def test_what_is_allowed_passes_by_both_names_and_is_recorded(
    attempts: tuple[Attempt, ...],
) -> None:
    found = _of(attempts, "iam", "postgres")
    assert {way: item.host for way, item in found.items()} == {
        Way.NAME: "postgres",
        Way.FULL: "postgres.hanzo.svc.cluster.local",
    }
    origin = Origin("iam-0", "hanzo-k8s-1")
    postgres = "spiffe://hanzo.ai/hanzo-k8s/hanzo/postgres"
    expected = found[Way.NAME].expected(origin)
    assert expected == (
        Entry(_IAM, postgres, 5432, "ALLOW", "ALLOW", "hanzo-core-policy/rule-1", "evaluator"),
        origin,
    )


def test_what_is_not_is_dropped_without_a_record_and_refused_at_the_pod_with_one(
    attempts: tuple[Attempt, ...],
) -> None:
    found = _of(attempts, "chat", "postgres")
    assert set(found) == set(Way)
    for way in (Way.NAME, Way.FULL):
        assert found[way].layer is Layer.NETWORK_POLICY
        assert found[way].expected(Origin("chat-0", "hanzo-k8s-1")) is None
    chat = "spiffe://hanzo.ai/hanzo-k8s/hanzo/chat"
    postgres = "spiffe://hanzo.ai/hanzo-k8s/hanzo/postgres"
    expected = found[Way.IDENTITY].expected(Origin("chat-0", "hanzo-k8s-1"))
    assert expected == (
        Entry(chat, postgres, 5432, "DENY", "DENY", "default", "handshake"),
        NOWHERE,
    )
    tls = found[Way.IDENTITY].question["tls"]
    assert tls == {"serverName": "5432.postgres.hanzo.hanzo-k8s", "alpn": ["zt"]}


def test_the_evaluator_is_its_own_doorkeeper(attempts: tuple[Attempt, ...]) -> None:
    found = _of(attempts, "prometheus", "zt-policy-engine")
    expected = found[Way.NAME].expected(Origin("prometheus-0", "hanzo-k8s-1"))
    assert expected is not None
    assert expected.entry.layer == "api"
    refused = _of(attempts, "iam", "zt-policy-engine")
    assert refused[Way.NAME].layer is Layer.NETWORK_POLICY
    expected = refused[Way.IDENTITY].expected(NOWHERE)
    assert expected is not None
    assert (expected.entry.layer, expected.entry.verdict) == ("api", "DENY")
    for status, what in ((403, type(None)), (200, str)):
        answer = {"ok": True, "answer": {"status": status, "body": {}}}
        assert isinstance(surprise(refused[Way.IDENTITY], answer), what)


def test_names_of_other_namespaces(attempts: tuple[Attempt, ...]) -> None:
    assert _of(attempts, "iam", "prometheus")[Way.NAME].host == "prometheus.monitoring"
    assert _of(attempts, "prometheus", "iam")[Way.NAME].host == "iam.hanzo"


def test_other_clusters_wait_for_the_tunnel_or_have_no_name(
    policy: Policy, attempts: tuple[Attempt, ...]
) -> None:
    plan = Plan(
        effective(policy, _DAY), decision_table(policy, _DAY), "lux-k8s", _OWN, tunnel=False
    )
    crossing = {
        (a.source.service.name, a.destination.service.name): a
        for a in plan.attempts()
        if a.destination.service.cluster == "hanzo-k8s"
    }
    assert crossing["validator", "gateway"].waits
    assert crossing["validator", "postgres"].layer is Layer.DNS
    # The gateways themselves come with the tunnel.
    assert all(
        a.waits
        for a in attempts
        if "wg-gateway" in (a.source.service.name, a.destination.service.name)
    )


def test_with_a_tunnel_what_is_allowed_crosses(policy: Policy) -> None:
    resolved, table = effective(policy, _DAY), decision_table(policy, _DAY)
    attempts = tuple(Plan(resolved, table, "lux-k8s", _OWN, tunnel=True).attempts())
    crossing = [a for a in attempts if a.destination.service.cluster == "hanzo-k8s"]
    passing = {(a.source.service.name, a.destination.service.name, a.host): a for a in crossing}
    name = "gateway.hanzo.hanzo-k8s"
    called = passing["validator", "gateway", name]
    assert called.layer is Layer.EVALUATOR
    assert passing["validator", "gateway", "gateway.hanzo.svc.cluster.local"].passes
    expected = called.expected(Origin("wg-gateway-0", "hanzo-k8s-1"))
    assert expected is not None
    assert expected.entry.source == "spiffe://hanzo.ai/lux-k8s/lux/validator"
    assert not any(a.waits for a in attempts)
    refused = {a.layer for a in crossing if not a.passes}
    assert refused == {Layer.DNS}
    # The gateway is a service like others, but where it brings what others say.
    gateway = {a.destination.service.name: a.layer for a in attempts if _is_from_gateway(a)}
    assert gateway["validator"] is Layer.HANDSHAKE  # not by name: prometheus calls it from afar
    assert gateway["zt-audit-db"] is Layer.HANDSHAKE


def _is_from_gateway(attempt: Attempt) -> bool:
    called = attempt.destination.service
    return attempt.source.service.name == "wg-gateway" and called.cluster == "lux-k8s"


def test_nobody_calls_from_outside_kubernetes(attempts: tuple[Attempt, ...]) -> None:
    assert "deploy" not in {a.source.service.name for a in attempts}
    assert "deploy" not in {a.destination.service.name for a in attempts}


def test_each_protocol_is_asked_as_it_is_spoken(attempts: tuple[Attempt, ...]) -> None:
    asked = _of(attempts, "iam", "ledger")[Way.NAME].question
    assert (asked["mode"], asked["greeted"]) == ("line", True)
    # In vain: whatever it would say of itself is a leak.
    assert _of(attempts, "chat", "ledger")[Way.NAME].question["mode"] == "raw"
    assert _of(attempts, "chat", "ledger")[Way.IDENTITY].question["send"] == ""
    assert _of(attempts, "iam", "redis")[Way.NAME].question["mode"] == "line"
    database = _of(attempts, "zt-policy-engine", "zt-audit-db")[Way.NAME].question
    assert (database["mode"], len(database["send"])) == ("raw", 8)


@pytest.mark.parametrize(
    ("source", "way", "answer", "what"),
    [
        ("iam", Way.NAME, {"ok": True, "answer": {"service": "postgres"}}, None),
        ("iam", Way.NAME, {"ok": True, "answer": {"service": "redis"}}, "somebody else"),
        ("iam", Way.NAME, {"ok": False, "error": "reset"}, "should pass"),
        ("chat", Way.NAME, {"ok": False, "error": "unreachable"}, None),
        # A packet came through: NetworkPolicies have let it.
        ("chat", Way.NAME, {"ok": False, "error": "reset"}, "something else"),
        ("chat", Way.NAME, {"ok": True, "answer": {"service": "postgres"}}, "should be refused"),
        ("chat", Way.IDENTITY, {"ok": False, "error": "tls"}, None),
        ("chat", Way.IDENTITY, {"ok": False, "error": "unreachable"}, "something else"),
        ("chat", Way.IDENTITY, {"ok": False, "error": "reset", "answer": "8.4"}, "should be"),
    ],
)
def test_surprises(
    attempts: tuple[Attempt, ...], source: str, way: Way, answer: dict[str, Any], what: str | None
) -> None:
    found = surprise(_of(attempts, source, "postgres")[way], answer)
    if what is None:
        assert found is None
    else:
        assert found is not None
        assert what in found
