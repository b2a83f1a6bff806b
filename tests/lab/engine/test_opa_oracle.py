"""OPA reads the documents of a policy by itself, and the decision table answers the same."""

import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from engine.builder import snapshot_of
from lab.tools.build import tool
from tests.strategies import TODAY, policies
from zt.decide import decide, decision_table
from zt.model import Destination, ExternalService, Policy, Rule, Service, Source, matches_service

POLICIES = 500
REQUESTS = 24
REGO = Path(__file__).with_name("oracle.rego")
STRANGERS = ("", "external:nobody", "spiffe://hanzo.ai/east/web/nobody", "spiffe://other.org/a/b/c")
PORTS = (0, 22, 80, 443, 5432, 65535)

Ask = tuple[str, str, int]
Party = Service | ExternalService


@dataclass
class Case:
    policy: Policy
    asks: list[Ask]


def test_the_table_answers_as_opa_does(tmp_path: Path) -> None:
    cases = generated()
    asks = sum(len(case.asks) for case in cases)
    expected = opa_answers(cases, tmp_path)
    assert asks == len(expected) >= 10_000
    allowed = sum(answer.startswith("ALLOW") for answer in expected)
    assert asks / 3 <= allowed <= asks * 2 / 3
    assert len(set(expected)) > 10  # many rules are the first, not one
    answers = iter(expected)
    for case in cases:
        reference = decision_table(case.policy, TODAY)
        mapped = snapshot_of(case.policy, TODAY).table
        for ask in case.asks:
            decision = mapped.decide(*ask)
            shown = json.dumps(document(case.policy), indent=1)
            assert f"{decision.verdict} {decision.rule}" == next(answers), f"{ask} of {shown}"
            assert decision == decide(reference, *ask)


def test_opa_tells_wrong_answers_apart(tmp_path: Path) -> None:
    """A table of another day's rules is found out: the comparison is not of nothing."""
    cases = generated()
    later = TODAY.replace(year=TODAY.year + 1)
    answers = iter(opa_answers(cases, tmp_path))
    differing = 0
    for case in cases:
        table = decision_table(case.policy, later)
        for ask in case.asks:
            decision = decide(table, *ask)
            differing += f"{decision.verdict} {decision.rule}" != next(answers)
    assert differing > 100


def generated() -> list[Case]:
    """Random policies, each with its requests; the same each time."""
    found: list[Case] = []

    @seed(54)
    @settings(
        max_examples=POLICIES,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(policies())
    def collect(policy: Policy) -> None:
        dice = random.Random(len(found))  # noqa: S311 - reproducible, not secret
        found.append(Case(policy, [asked(policy, dice) for _ in range(REQUESTS)]))

    collect()
    return found


def asked(policy: Policy, dice: random.Random) -> Ask:
    """A request that a rule grants, or one that differs from such a request in something."""
    rules = [rule for access in policy.access for rule in access.rules]
    if not rules:
        return anything(policy, dice)
    in_force = [rule for rule in rules if not rule.expires or rule.expires >= TODAY]
    granted = source, destination, port = edge(policy, dice.choice(in_force or rules), dice)
    changed = (
        (destination, source, port),
        (source, destination, dice.choice(PORTS)),
        (destination, destination, port),
        (dice.choice(STRANGERS), destination, port),
        (source, dice.choice(STRANGERS), port),
        edge(policy, dice.choice(rules), dice),
        anything(policy, dice),
    )
    return granted if dice.randrange(2) else dice.choice(changed)


def edge(policy: Policy, rule: Rule, dice: random.Random) -> Ask:
    """One of the requests that a rule names."""
    to = dice.choice(rule.to)
    source = dice.choice(list(named(policy, rule.source)))
    destination = dice.choice(list(named(policy, to)))
    return identity(policy, source), identity(policy, destination), dice.choice(to.ports)


def named(policy: Policy, side: Source | Destination) -> Iterator[Party]:
    for external in policy.externals:
        if external.name == side.external:
            yield external
    for service in policy.services:
        if side.spiffe and matches_service(side.spiffe, service, policy.mesh):
            yield service


def anything(policy: Policy, dice: random.Random) -> Ask:
    everybody: tuple[Party, ...] = (*policy.services, *policy.externals)
    parties = [identity(policy, party) for party in everybody]
    return dice.choice(parties), dice.choice(parties), dice.choice(PORTS)


def identity(policy: Policy, party: Party) -> str:
    if isinstance(party, ExternalService):
        return f"external:{party.name}"
    return f"spiffe://{policy.mesh.trust_domain}/{party.cluster}/{party.namespace}/{party.account}"


def opa_answers(cases: list[Case], folder: Path) -> list[str]:
    """Of all requests, in their order, from one process."""
    content = [
        {"policy": document(case.policy), "today": str(TODAY), "requests": case.asks}
        for case in cases
    ]
    (folder / "cases.json").write_text(json.dumps({"cases": content}))
    command = (tool("opa"), "eval", "--format", "raw", "--data", REGO, "--data", "cases.json")
    done = subprocess.run(
        [*command, "data.oracle.answers"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers


def document(policy: Policy) -> dict[str, Any]:
    """A policy as its documents say it; policies in an order that means nothing."""
    return {
        "services": {
            identity(policy, service): [port.port for port in service.ports]
            for service in policy.services
        },
        "externals": {
            identity(policy, external): list(external.ports) for external in policy.externals
        },
        "access": [
            {"name": access.name, "rules": list(map(rule_document, access.rules))}
            for access in reversed(policy.access)
        ],
    }


def rule_document(rule: Rule) -> dict[str, Any]:
    expires = {"expires": str(rule.expires)} if rule.expires else {}
    to = [side_document(item) | {"ports": list(item.ports)} for item in rule.to]
    return {"from": side_document(rule.source), "to": to} | expires


def side_document(side: Source | Destination) -> dict[str, str]:
    if side.external is not None:
        return {"external": side.external}
    return {"spiffe": str(side.spiffe)}
