"""Verification of a cluster that is made up: its wire and its trail do what the test says."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from lab.attack.certificates import Issuer
from lab.check.model import Check
from lab.mesh.authority import authority
from lab.nodes.model import Node
from lab.nodes.pods import Pod
from lab.services.policies import lay
from lab.stack.folder import ROOT
from lab.verify import verify as verify_module
from lab.verify.attempt import NOWHERE, Layer, Origin, Way
from lab.verify.callers import Callers
from lab.verify.plan import Plan
from lab.verify.report import Report, as_json, odd, page, show
from lab.verify.trail import Record
from lab.verify.verify import Stage, Verification, _origin, verify
from zt.decide import decision_table
from zt.effective import Effective, effective
from zt.load import load_policy

Json = dict[str, Any]

_DAY = date(2026, 1, 1)
_OWN = frozenset({"zt-policy-engine", "zt-audit-db"})


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Effective:
    folder: Path = tmp_path_factory.mktemp("laid") / "policies"
    lay(ROOT / "policies", folder, short=False)
    return effective(load_policy(folder), _DAY)


class World:
    """A cluster: what the wire does with a call, and what the trail says afterwards."""

    def __init__(self, resolved: Effective) -> None:
        self.resolved = resolved
        self.table = decision_table(resolved.policy, _DAY)
        self.records: list[Record] = []
        self.forgets: set[tuple[str, str]] = set()
        self.open: set[tuple[str, str]] = set()
        items = resolved.in_cluster("hanzo-k8s")
        self.pods = {
            item.service.name: _pod(item.service.name, number)
            for number, item in enumerate(items)
            if item.service.name != "wg-gateway"
        }

    def stage(self) -> Stage:
        return Stage(
            cluster="hanzo-k8s",
            plan=Plan(self.resolved, self.table, "hanzo-k8s", _OWN, tunnel=False),
            pods=self.pods,
            nodes={"hanzo-k8s-1": cast("Node", None)},
            callers=cast("Callers", self),
            issuer=Issuer(authority("hanzo.ai", datetime.now(UTC), 3600)),
            records=self.trail,
        )

    def of(self, pod: Pod) -> "_Dialer":
        return _Dialer(self, pod)

    def trail(
        self, start: datetime, enough: Callable[[Sequence[Record]], bool]
    ) -> tuple[Record, ...]:
        enough(self.records)
        return tuple(record for record in self.records if record.time >= start)

    def record(self, source: str, called: str, verdict: str, layer: str, pod: Pod | None) -> None:
        if (source, called) in self.forgets:
            return
        items = {item.service.name: item for item in self.resolved.in_cluster("hanzo-k8s")}
        port = items[called].service.ports[0].port
        grants = [
            grant.rule.name
            for grant in items[source].upstreams
            if grant.destination is items[called].service
        ]
        self.records.append(
            Record(
                time=datetime.now(UTC),
                source_id=items[source].spiffe,
                source_pod=pod.name if pod else None,
                source_node=pod.node if pod else None,
                destination_id=items[called].spiffe,
                destination_port=port,
                verdict=verdict,
                would_be=verdict,
                rule=grants[0] if grants else "default",
                reason="rule",
                layer=layer,
            )
        )


class _Dialer:
    def __init__(self, world: World, pod: Pod) -> None:
        self._world, self._pod = world, pod

    def ask(self, question: Json) -> Json:
        world, source = self._world, self._pod.account
        host = question["host"]
        called = host.split(".")[0]
        items = {item.service.name: item for item in world.resolved.in_cluster("hanzo-k8s")}
        if called not in items or ".lux." in host:
            return {"ok": False, "error": "name"}
        granted = any(
            grant.destination is items[called].service for grant in items[source].upstreams
        )
        if granted or (source, called) in world.open:
            layer = "api" if called == "zt-policy-engine" else "evaluator"
            world.record(source, called, "ALLOW", layer, self._pod)
            return {"ok": True, "answer": {"service": called} if called not in _OWN else "N"}
        return {"ok": False, "error": "unreachable"}


class _Host:
    """The dialer on the node: the handshake refuses whom it should."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self, question: Json) -> Json:
        from cryptography import x509  # noqa: PLC0415

        shown = x509.load_pem_x509_certificate(question["tls"]["certificatePem"].encode())
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        called = question["tls"]["serverName"].split(".")[1]
        assert question["host"] == self._world.pods[called].address
        source = uri.rpartition("/")[2]
        if called == "zt-policy-engine":
            self._world.record(source, called, "DENY", "api", None)
            return {"ok": True, "answer": {"status": 403, "body": {}}}
        self._world.record(source, called, "DENY", "handshake", None)
        return {"ok": False, "error": "tls"}

    def close(self) -> None:
        pass


def _pod(name: str, number: int) -> Pod:
    return Pod(
        namespace="hanzo",
        name=f"{name}-0",
        uid=name,
        address=f"10.240.1.{number}",
        node="hanzo-k8s-1",
        account=name,
        phase="Running",
        ready=True,
        labels={},
        containers={},
    )


@pytest.fixture
def world(resolved: Effective, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(resolved)
    monkeypatch.setattr(verify_module, "_on_node", lambda _: _Host(found))
    return found


def _verified(world: World) -> Verification:
    (found,) = verify([world.stage()])
    return found


def test_a_cluster_that_holds_has_no_mismatch(world: World) -> None:
    found = _verified(world)
    assert list(odd(found)) == []
    assert found.mismatches == 0
    layers = {outcome.attempt.layer for outcome in found.outcomes}
    assert layers == set(Layer) - {Layer.TUNNEL, Layer.NO_LISTENER}
    ways = [outcome.attempt.way for outcome in found.outcomes]
    assert ways.count(Way.IDENTITY) > 100
    assert found.waiting
    assert found.records == len(world.records)


def test_a_record_that_is_missing_is_a_mismatch(world: World) -> None:
    world.forgets.add(("iam", "postgres"))
    found = _verified(world)
    # By both names.
    assert found.mismatches == 2
    assert found.missing.total() == 2
    assert any("no record" in line for line in odd(found))


def test_a_record_from_another_pod_is_missing_and_odd(world: World) -> None:
    world.pods["iam"] = _pod("iam", 99)
    stage = world.stage()
    honest = world.record

    def lie(source: str, called: str, verdict: str, layer: str, pod: Pod | None) -> None:
        honest(source, called, verdict, layer, _pod("other", 1) if pod and source == "iam" else pod)

    world.record = lie  # type: ignore[method-assign]
    (found,) = verify([stage])
    assert found.mismatches > 0
    assert found.missing.total() == found.unexpected.total()


def test_a_way_in_is_a_mismatch(world: World) -> None:
    world.open.add(("chat", "postgres"))
    found = _verified(world)
    surprises = [outcome for outcome in found.outcomes if outcome.surprise]
    assert {s.attempt.source.service.name for s in surprises} == {"chat"}
    # Two calls that passed, and two records that should not be.
    assert found.mismatches == 4
    assert found.unexpected.total() == 2


def test_a_record_too_many_is_a_mismatch(world: World) -> None:
    stage = world.stage()
    world.record("iam", "postgres", "ALLOW", "evaluator", world.pods["iam"])
    late = world.records.pop()
    honest = world.trail
    world.trail = lambda *args: (*honest(*args), late)  # type: ignore[method-assign]
    (found,) = verify([Stage(**{**_fields(stage), "records": world.trail})])
    assert found.unexpected.total() == found.mismatches == 1


def test_what_evaluators_write_by_themselves_is_no_mismatch(world: World) -> None:
    world.record("zt-policy-engine", "zt-audit-db", "ALLOW", "evaluator", _pod("another", 7))
    late = world.records.pop()
    honest = world.trail
    world.trail = lambda *args: (*honest(*args), late)  # type: ignore[method-assign]
    (found,) = verify([Stage(**{**_fields(world.stage()), "records": world.trail})])
    assert found.mismatches == 0


def _fields(stage: Stage) -> dict[str, Any]:
    return {name: getattr(stage, name) for name in stage.__dataclass_fields__}


def test_reports_say_what_was_seen(world: World) -> None:
    world.forgets.add(("iam", "postgres"))
    broken = Check("SVID", "hanzo/iam-0", held=False, detail="it has expired")
    report = Report((_verified(world),), (broken, Check("SVID", "b", held=True, detail="")))
    found = json.loads(json.dumps(as_json(report)))
    assert found["mismatches"] == 3
    (cluster,) = found["clusters"]
    assert sum(row["tried"] for row in cluster["layers"]) == cluster["attempts"]
    assert cluster["passed"] + cluster["refused"] == cluster["attempts"]
    assert cluster["missing"][0]["source"].endswith("/iam")
    assert [check["held"] for check in found["checks"]] == [False, True]
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        show(console, report)
    shown = capture.get()
    assert "3 mismatches" in shown
    assert "it has expired" in shown
    text = page(report)
    assert "**mismatches: 3**" in text
    assert "| iam | ledger:3306 (lab-policy/rule-3)" in text
    assert "| chat | gateway:4000 (hanzo-core-policy/rule-3) |" in text
    assert "| search | nobody |" in text
    assert "| SVID | 2 | 1 |" in text
    assert "- SVID: hanzo/iam-0: it has expired" in text
    assert "- 2 x no record of ('spiffe://hanzo.ai/hanzo-k8s/hanzo/iam'" in text
    assert "Waiting for the tunnel: " in text
    assert max(map(len, (line for line in text.splitlines() if not line.startswith("|")))) < 400


def test_what_crosses_comes_from_the_gateway_beyond(world: World) -> None:
    resolved = world.resolved
    plan = Plan(resolved, world.table, "lux-k8s", _OWN, tunnel=True)
    beyond = replace(world.stage(), pods={"wg-gateway": _pod("wg-gateway", 3)})
    passing = [a for a in plan.attempts() if a.passes]
    own = _pod("validator", 4)
    origins = {
        (a.source.service.name, a.destination.service.name): _origin(a, own, [beyond])
        for a in passing
    }
    assert origins["validator", "gateway"] == Origin("wg-gateway-0", "hanzo-k8s-1")
    scraping = Plan(resolved, world.table, "hanzo-k8s", _OWN, tunnel=True).attempts()
    gateways = [
        a
        for a in scraping
        if a.passes
        and a.destination.service.name == "wg-gateway"
        and a.destination.service.cluster == "lux-k8s"
    ]
    there = replace(beyond, cluster="lux-k8s")
    assert {_origin(a, own, [there]) for a in gateways} == {NOWHERE}
