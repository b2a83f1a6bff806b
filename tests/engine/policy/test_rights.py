from hypothesis import given
from hypothesis import strategies as st

from engine.policy.rights import rights
from tests.engine.http.serving import ON_CALL, PROMETHEUS, READER, WITH_RIGHTS, WRITER
from tests.engine.samples import policy
from zt.spiffe import SCHEME

ACTIONS = ("read", "write", "metrics", "logs", "restart")
SUBJECTS = (READER, WRITER, "somebody@example.com")


def test_subjects_with_certificates_have_what_their_roles_give_on_the_evaluator() -> None:
    assert rights(policy(WITH_RIGHTS)) == {
        READER: ["read"],
        WRITER: ["write"],
        ON_CALL: ["step_up:read", "step_up:write"],
        PROMETHEUS: ["metrics"],
    }


def test_without_rules_nobody_has_a_right() -> None:
    assert rights(policy()) == {}


Rule = tuple[str, tuple[str, ...], bool]
rules = st.tuples(
    st.sampled_from(["engine", "*", "web", "db"]),
    st.lists(st.sampled_from(ACTIONS), min_size=1, unique=True).map(tuple),
    st.booleans(),
)


def written(found: list[tuple[Rule, list[str]]]) -> str:
    """Each rule has a role of its own, bound to some subjects."""
    text = WITH_RIGHTS.partition("# Who may ask")[0].rstrip().removesuffix("---")
    for number, ((service, actions, mfa), subjects) in enumerate(found):
        conditions = "[{requireMFA: true}]" if mfa else "[]"
        text += f"""
---
apiVersion: zt.hanzo.ai/v1
kind: OperatorAccessPolicy
metadata: {{name: p{number}}}
spec:
  rules:
    - role: r{number}
      targets: [{{service: "{service}", actions: [{", ".join(actions)}]}}]
      conditions: {conditions}
---
apiVersion: zt.hanzo.ai/v1
kind: OperatorRoleBinding
metadata: {{name: b{number}}}
spec: {{role: r{number}, subjects: [{", ".join(f'"{who}"' for who in subjects)}]}}
"""
    return text


@given(
    st.lists(
        st.tuples(rules, st.lists(st.sampled_from(SUBJECTS), min_size=1, unique=True)), max_size=5
    )
)
def test_a_right_is_there_just_where_some_rule_gives_it(
    found: list[tuple[Rule, list[str]]],
) -> None:
    given_rights = rights(policy(written(found)))
    assert given_rights.pop(PROMETHEUS) == ["metrics"]
    assert all(who.startswith(SCHEME) for who in given_rights)
    for who in (READER, WRITER):
        held = set(given_rights.get(who, ()))
        for action in ACTIONS:
            terms = {
                mfa
                for (service, actions, mfa), subjects in found
                if who in subjects and service in ("engine", "*") and action in actions
            }
            known = action in ("read", "write", "metrics")
            assert (action in held) == (known and False in terms)
            assert (f"step_up:{action}" in held) == (known and terms == {True})
