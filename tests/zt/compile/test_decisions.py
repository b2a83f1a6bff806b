"""The evaluator's table as a file."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TODAY, documents, policies
from zt.compile.decisions import compile_decisions, decode, encode, revision
from zt.decide import decision_table
from zt.effective import effective
from zt.load import assemble, load_policy
from zt.model import Policy

POLICY = load_policy(Path(__file__).parents[3] / "policies")


def encoded(policy: Policy) -> str:
    return encode(effective(policy, TODAY), decision_table(policy, TODAY))


def test_the_file_of_the_real_policy_reads_one_entry_a_line() -> None:
    (file,) = compile_decisions(effective(POLICY, TODAY), "lux-k8s", decision_table(POLICY, TODAY))
    assert file.path == "decisions.json"
    lines = file.text().splitlines()
    assert lines[1] == '  "apiVersion": "zt.hanzo.ai/v1",'
    assert (
        '    ["spiffe://hanzo.ai/hanzo-k8s/hanzo/chat", "spiffe://hanzo.ai/hanzo-k8s/hanzo/gateway",'
        ' 4000, "hanzo-core-policy/rule-3"],'
    ) in lines
    assert (
        '    {"id": "external:model-provider", "cidrs": [],'
        ' "hosts": ["api.openai.com", "api.anthropic.com"], "ports": [443]}'
    ) in lines


def test_a_service_is_described_for_who_has_only_this_file() -> None:
    content = json.loads(encoded(POLICY))
    found = {item["id"]: item for item in content["services"]}
    assert found["spiffe://hanzo.ai/lux-k8s/lux/zt-policy-engine"] == {
        "id": "spiffe://hanzo.ai/lux-k8s/lux/zt-policy-engine",
        "name": "zt-policy-engine",
        "cluster": "lux-k8s",
        "namespace": "lux",
        "phase": "enforce",
        "ports": [{"port": 8054, "protocol": "http"}],
        "selectors": [
            "spiffe://hanzo.ai/lux-k8s/lux/zt-policy-engine",
            "spiffe://hanzo.ai/*/*/zt-policy-engine",
        ],
    }


def test_every_cluster_gets_the_same_table() -> None:
    resolved, table = effective(POLICY, TODAY), decision_table(POLICY, TODAY)
    texts = {
        file.text()
        for place in ("hanzo-k8s", "lux-k8s", "ci")
        for file in compile_decisions(resolved, place, table)
    }
    assert len(texts) == 1


@settings(max_examples=500)
@given(policies())
def test_what_is_read_is_what_was_written(policy: Policy) -> None:
    table = decision_table(policy, TODAY)
    text = encode(effective(policy, TODAY), table)
    assert decode(text) == table
    assert json.loads(text)["revision"] == revision(effective(policy, TODAY), table)


@given(policies(), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_change_a_byte(policy: Policy, random: Random) -> None:
    shuffled = list(documents(policy))
    random.shuffle(shuffled)
    assert encoded(assemble(shuffled)) == encoded(policy)


def test_the_revision_changes_on_the_day_after_a_rule_expires() -> None:
    core, *others = POLICY.access
    rule = replace(core.rules[0], expires=TODAY)
    access = (replace(core, rules=(rule, *core.rules[1:])), *others)
    policy = replace(POLICY, access=access)
    yesterday, today, tomorrow = (
        revision(effective(policy, day), decision_table(policy, day))
        for day in (TODAY - timedelta(1), TODAY, TODAY + timedelta(1))
    )
    assert yesterday == today != tomorrow


def changed(text: str, **content: object) -> str:
    return json.dumps(json.loads(text) | content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        (encoded(POLICY)[:-100], "not JSON"),
        ("[]", "not a decision table"),
        (changed(encoded(POLICY), apiVersion="zt.hanzo.ai/v2"), "not a decision table"),
        (changed(encoded(POLICY), rules=[]), "not as it was compiled"),
        (changed(encoded(POLICY), revision=None), "not as it was compiled"),
        (encoded(POLICY).replace("5432", "5433", 1), "not as it was compiled"),
    ],
)
def test_a_file_that_is_not_as_it_was_compiled_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        decode(text)
    assert str(raised.value).endswith("compile it again")


def test_a_file_that_was_only_laid_out_anew_is_read() -> None:
    text = encoded(POLICY)
    assert decode(json.dumps(json.loads(text), indent=4, sort_keys=True)) == decode(text)
