import json
from pathlib import Path

import pytest

from tests.strategies import TODAY
from tests.zt.cli.conftest import Run
from zt.decide import Verdict, decide, decision_table
from zt.load import load_policy

HANZO = "spiffe://hanzo.ai/hanzo-k8s/hanzo"


def test_an_allowed_connection_exits_with_zero_and_names_its_rule(run: Run) -> None:
    found = run("explain", "--from", "chat", "--to", "gateway", "--port", 4000)

    assert found.exit_code == 0
    lines = found.output.splitlines()
    assert lines[0] == f"ALLOW {HANZO}/chat -> {HANZO}/gateway port 4000"
    at = "policies/access/hanzo-core-policy.yaml:26:7"
    assert lines[1] == f"  rule   hanzo-core-policy/rule-3 at {at}"


def test_a_denied_one_exits_with_one_and_says_what_to_add(run: Run) -> None:
    found = run("explain", "--from", "chat", "--to", "postgres", "--port", 5432)

    assert found.exit_code == 1
    assert found.output.startswith("DENY ")
    assert f'    - spiffe: "{HANZO}/postgres"\n      ports: [5432]\n' in found.output


@pytest.mark.parametrize(
    ("name", "spiffe"),
    [
        ("chat", f"{HANZO}/chat"),
        ("hanzo-k8s/chat", f"{HANZO}/chat"),
        ("hanzo-k8s/hanzo/chat", f"{HANZO}/chat"),
        (f"{HANZO}/chat", f"{HANZO}/chat"),
        ("lux-k8s/zt-policy-engine", "spiffe://hanzo.ai/lux-k8s/lux/zt-policy-engine"),
        ("external:internet", "external:internet"),
    ],
)
def test_a_party_may_be_named_in_several_ways(run: Run, name: str, spiffe: str) -> None:
    found = run("explain", "--from", name, "--to", "gateway", "--port", 4000, "--json")

    assert json.loads(found.output)["source"] == spiffe


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chatt", "no service is called 'chatt' (did you mean 'chat'?)"),
        (
            "zt-policy-engine",
            "names 2 services: say which of hanzo-k8s/zt-policy-engine, lux-k8s/zt-policy-engine",
        ),
        (
            "spiffe://hanzo.ai/ns/hanzo/sa/iam",
            "it should be 'spiffe://hanzo.ai/<cluster>/hanzo/iam'",
        ),
        (
            "spiffe://hanzo.ai/*/*/iam",
            "'spiffe://hanzo.ai/*/*/iam' is a pattern: name one identity",
        ),
    ],
)
def test_a_name_that_is_none_is_misuse(run: Run, name: str, message: str) -> None:
    found = run("explain", "--from", name, "--to", "gateway", "--port", 4000)

    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize("port", ["0", "70000", "http"])
def test_a_port_that_is_none_is_misuse(run: Run, port: str) -> None:
    assert run("explain", "--from", "chat", "--to", "iam", "--port", port).exit_code == 2


def test_json_of_every_pair_says_what_decide_says(run: Run, small: Path) -> None:
    table = decision_table(load_policy(small), TODAY)

    for source in table.ports:
        for destination, ports in table.ports.items():
            for port in ports:
                ends = ("--from", source, "--to", destination, "--port", port)
                found = run("explain", *ends, "--json", small)
                decision = decide(table, source, destination, port)
                answer = json.loads(found.output)
                assert answer["verdict"] == decision.verdict
                assert answer["rule"] == decision.rule
                assert found.exit_code == (decision.verdict is Verdict.DENY)
