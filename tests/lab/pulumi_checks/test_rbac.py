"""Each service account can do what it needs, none of what it must not, and nothing beside.

``SubjectAccessReview`` is what ``kubectl auth can-i`` asks. What can be read without harm is also
asked for in the account's name.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster.client import Client
from tests.components.evaluator import asks as evaluator
from tests.components.spire import asks as spire
from tests.components.spire.asks import Ask
from tests.lab.pulumi_checks.installing import NAMESPACES, Installed
from tests.lab.pulumi_checks.rights import SYSTEM, Account, Right, accounts, nobody

pytestmark = pytest.mark.timeout(600)

REVIEWS = "/apis/authorization.k8s.io/v1"
STATUS_FORBIDDEN = 403
NEEDED = (*spire.NEEDED, *evaluator.NEEDED)
FORBIDDEN = (*spire.FORBIDDEN, *evaluator.FORBIDDEN)


def test_accounts_are_there_and_mount_no_token_by_themselves(found: Installed) -> None:
    for account in accounts_of(found):
        path = f"/api/v1/namespaces/{account.namespace}/serviceaccounts/{account.name}"
        assert found.api.get(path)["automountServiceAccountToken"] is False


def test_each_can_do_what_it_needs_and_nothing_that_it_must_not(found: Installed) -> None:
    wrong = []
    for account in accounts_of(found):
        assert len(account.must_not) >= 10
        print(f"\n{found.stack}: {account.user}")  # noqa: T201
        for right, wanted in _cases(account):
            allowed = _may(found.api, account, right)
            print(f"  {'yes' if allowed else 'no ':3} {right}")  # noqa: T201
            if allowed is not wanted:
                wrong.append(f"{account.user}: {right} is {allowed}")
    assert wrong == []


def test_what_their_components_say_of_them_holds(found: Installed) -> None:
    for table, wanted in ((NEEDED, True), (FORBIDDEN, False)):
        for ask in table:
            account, right = _asked(ask, NAMESPACES[found.cluster])
            assert _may(found.api, account, right) is wanted, ask


def test_each_can_do_nothing_beside(found: Installed) -> None:
    namespaces = (*NAMESPACES[found.cluster], SYSTEM, "kube-system", "default")
    for account in accounts_of(found):
        needs = set(account.needs)
        for namespace in namespaces:
            more = [
                right
                for right in _rules(found.api, account, namespace)
                if right not in needs and _everywhere(right) not in needs
            ]
            assert more == [], f"{account.user} may more in {namespace}"


def test_no_account_of_the_stack_can_what_nobody_may(found: Installed) -> None:
    mesh = NAMESPACES[found.cluster][0]
    metadata = [item["metadata"] for item in found.objects("ServiceAccount")]
    assert len(metadata) > 2
    for item in metadata:
        # Who makes a Secret reads whether it is there.
        makes = item["name"].startswith("zt-secrets-")
        account = Account(item["namespace"], item["name"], (), nobody(mesh))
        may = [right for right in account.must_not if _may(found.api, account, right)]
        assert [right for right in may if not (makes and right.name == "zt-secrets")] == []


def test_what_is_read_in_its_name_is_answered_or_forbidden_alike(found: Installed) -> None:
    tried = 0
    for account in accounts_of(found):
        for right, wanted in _cases(account):
            path = _path(right)
            if path is None:
                continue
            answer = found.api.request("GET", path, user=account.user, groups=account.groups)
            assert (answer.status != STATUS_FORBIDDEN) is wanted, f"{account.user}: {right}"
            tried += 1
    assert tried > 40


# --- Helpers --------------------------------------------------------------------------------------


def accounts_of(found: Installed) -> tuple[Account, ...]:
    """Those that a stack has, all of whose names are there."""
    known = accounts(NAMESPACES[found.cluster])
    there = {item["metadata"]["name"] for item in found.objects("ServiceAccount")}
    assert {item.name for item in known} <= there
    return known


def _cases(account: Account) -> Iterator[tuple[Right, bool]]:
    yield from ((right, True) for right in account.needs)
    yield from ((right, False) for right in account.must_not)


def _asked(ask: Ask, namespaces: tuple[str, ...]) -> tuple[Account, Right]:
    """A line of a component's table, in the namespaces of this cluster."""
    here = {"hanzo": namespaces[0], "monitoring": namespaces[-1]}
    where = here.get(ask.namespace, ask.namespace)
    own = namespaces[0] if ask.account == evaluator.ACCOUNT else SYSTEM
    right = Right(ask.verb, ask.resource, where, ask.name, ask.group)
    return Account(own, ask.account, (), ()), right


def _may(api: Client, account: Account, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": part,
        "namespace": right.namespace,
        "name": right.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account.user,
            "groups": list(account.groups),
            "resourceAttributes": attributes,
        },
    }
    allowed: bool = api.create(f"{REVIEWS}/subjectaccessreviews", review).body["status"]["allowed"]
    return allowed


def _rules(api: Client, account: Account, namespace: str) -> set[Right]:
    """All that the account may do there, without what any account may."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = f"{REVIEWS}/selfsubjectrulesreviews"

    def asked(user: str) -> set[Right]:
        answer = api.request("POST", path, review, user=user, groups=account.groups)
        status = answer.body["status"]
        assert not status["incomplete"]
        return {right for rule in status["resourceRules"] for right in _expanded(rule, namespace)}

    return asked(account.user) - asked(f"{account.user}-nobody")


def _expanded(rule: dict[str, Any], namespace: str) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or ("",):
                    yield Right(verb, resource, namespace, name, group)


def _everywhere(right: Right) -> Right:
    return Right(right.verb, right.resource, "", right.name, right.group)


def _path(right: Right) -> str | None:
    """The request that a right to read is for; none for what only a kubelet would be asked."""
    if right.verb not in ("get", "list") or "/" in right.resource:
        return None
    version = "v1alpha1" if right.group == "spire.spiffe.io" else "v1"
    base = f"/apis/{right.group}/{version}" if right.group else "/api/v1"
    inside = f"/namespaces/{right.namespace}" if right.namespace else ""
    name = f"/{right.name or 'none'}" if right.verb == "get" else ""
    return f"{base}{inside}/{right.resource}{name}"
