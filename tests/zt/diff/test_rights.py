"""What people and agents may do before and after."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import TODAY
from zt.diff import AgentRight, OperatorRight, RoleHolder, diff
from zt.diff.fields import Change
from zt.effective import effective
from zt.load import load_policy
from zt.model import (
    Action,
    AgentAccessPolicy,
    AgentTarget,
    ClaimSelector,
    Condition,
    Method,
    OperatorAccessPolicy,
    OperatorRoleBinding,
    OperatorRule,
    Policy,
    Target,
)

REAL = load_policy("policies")
SERVICES = sorted({service.name for service in REAL.services})
NO_CONDITION, MFA, INCIDENT = (), Condition(require_mfa=True), Condition(require_incident=True)


def gained(old: Policy, new: Policy) -> tuple[object, ...]:
    return diff(effective(old, TODAY), effective(new, TODAY)).rights_gained


def with_rules(*rules: OperatorRule) -> Policy:
    return replace(REAL, operators=(OperatorAccessPolicy("access", rules),))


def rule(service: str, *conditions: Condition, action: Action = Action.READ) -> OperatorRule:
    return OperatorRule("sre", (Target(service, (action,)),), conditions)


def test_a_right_on_all_services_is_told_as_such() -> None:
    found = gained(with_rules(rule("chat")), with_rules(rule("*")))

    assert found == (OperatorRight("sre", Action.READ, "*", (), "access/rule-1"),)


def test_a_new_service_gives_nobody_a_right_that_stood_before() -> None:
    old = with_rules(rule("*"))
    more = replace(old.services[0], name="newcomer", service_account=None)
    new = replace(old, services=(*old.services, more))

    assert gained(old, new) == ()
    assert not diff(effective(old, TODAY), effective(new, TODAY)).changes_access


def test_a_right_on_all_services_includes_that_on_one() -> None:
    assert gained(with_rules(rule("*")), with_rules(rule("chat"))) == ()


def test_a_right_without_its_condition_is_gained() -> None:
    old, new = with_rules(rule("chat", MFA, INCIDENT)), with_rules(rule("chat", MFA))

    assert gained(old, new) == (
        OperatorRight("sre", Action.READ, "chat", ("MFA",), "access/rule-1"),
    )
    assert gained(new, old) == ()


def test_a_second_rule_with_more_conditions_gives_nothing() -> None:
    assert gained(with_rules(rule("chat")), with_rules(rule("chat"), rule("chat", MFA))) == ()


conditions = st.sampled_from([(), (MFA,), (INCIDENT,), (MFA, INCIDENT)])
rules = st.builds(
    lambda service, action, found: rule(service, *found, action=action),
    st.sampled_from(["*", "chat", "iam"]),
    st.sampled_from([Action.READ, Action.LOGS]),
    conditions,
)


def may(policy: Policy, service: str, action: Action, fulfilled: set[str]) -> bool:
    """Whether any rule lets the role do it: said here once more, another way."""
    return any(
        target.service in ("*", service)
        and action in target.actions
        and all(not condition.require_mfa or "MFA" in fulfilled for condition in one.conditions)
        and all(not c.require_incident or "incident" in fulfilled for c in one.conditions)
        for access in policy.operators
        for one in access.rules
        for target in one.targets
    )


@settings(max_examples=200)
@given(st.lists(rules, max_size=4), st.lists(rules, max_size=4))
def test_rights_gained_are_what_could_not_be_done_before(
    before: list[OperatorRule], after: list[OperatorRule]
) -> None:
    old, new = with_rules(*before), with_rules(*after)

    found = gained(old, new)

    for service in SERVICES:
        for action in (Action.READ, Action.LOGS):
            for fulfilled in (set[str](), {"MFA"}, {"incident"}, {"MFA", "incident"}):
                newly = may(new, service, action, fulfilled)
                newly = newly and not may(old, service, action, fulfilled)
                told = any(
                    isinstance(right, OperatorRight)
                    and right.service in ("*", service)
                    and right.action is action
                    and set(right.conditions) <= fulfilled
                    for right in found
                )
                assert told or not newly
                # A right that was there under other conditions may be told of as well, no other.
                assert may(new, service, action, fulfilled) or not told


def test_who_newly_holds_a_role_is_told() -> None:
    binding = OperatorRoleBinding("team", "sre", claims=(ClaimSelector("groups", "ops"),))
    new = replace(REAL, bindings=(*REAL.bindings, binding))

    assert gained(REAL, new) == (RoleHolder("sre", "claim groups=ops", "team"),)
    assert diff(effective(new, TODAY), effective(REAL, TODAY)).rights_lost == gained(REAL, new)


def agent(*targets: AgentTarget, **fields: object) -> Policy:
    policy = AgentAccessPolicy("models", "agent", targets, **fields)  # type: ignore[arg-type]
    return replace(REAL, agents=(policy,))


def test_an_agents_wider_path_is_gained() -> None:
    narrow = agent(AgentTarget("gateway", 4000, (Method.POST,), ("/v1/chat",)))
    wide = agent(AgentTarget("gateway", 4000, (Method.POST,), ("/v1",)))

    right = AgentRight("agent", "gateway", 4000, "/v1", (Method.POST,), "models")
    assert gained(narrow, wide) == (right,)
    assert gained(wide, narrow) == ()


def test_a_path_that_only_begins_alike_is_gained() -> None:
    old = agent(AgentTarget("gateway", 4000, (Method.POST,), ("/v1",)))
    new = agent(AgentTarget("gateway", 4000, (Method.POST,), ("/v1x",)))

    assert len(gained(old, new)) == 1


def test_only_the_methods_that_are_new_are_gained() -> None:
    old = agent(AgentTarget("gateway", 4000, (Method.POST,), ("/v1",)))
    new = agent(AgentTarget("gateway", 4000, (Method.POST, Method.DELETE), ("/v1",)))

    right = AgentRight("agent", "gateway", 4000, "/v1", (Method.DELETE,), "models")
    assert gained(old, new) == (right,)


def test_an_agents_longer_token_life_changes_access() -> None:
    target = AgentTarget("gateway", 4000)
    old, new = agent(target), agent(target, max_token_lifetime=3600)

    found = diff(effective(old, TODAY), effective(new, TODAY))

    assert found.changes == (
        Change("agent agent", "maxTokenLifetime", "900 s", "3600 s", access=True),
    )
    assert found.changes_access
