"""Good pods are admitted; each kind of bad one is refused with the sentence that helps."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.client import MERGE, Answer, Client
from tests.lab.pulumi_checks.installing import NAMESPACES, Installed
from zt.compile import compile_policy
from zt.load import load_policy
from zt.model import Service

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[3]
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
OUTSIDE = "outside-the-mesh"
_PATIENCE = 30.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A pod, and what it is answered; nothing where it is admitted."""

    what: str
    namespace: str
    account: str | None
    labels: dict[str, str] = field(default_factory=dict)
    says: str = ""


def services(cluster: str) -> tuple[Service, ...]:
    facts = compile_policy(load_policy(ROOT / "policies"), cluster, date(2026, 11, 24)).facts
    assert facts is not None
    return facts.services


def cases(cluster: str) -> Iterator[Case]:
    """For each service its own pod; then what others try."""
    mesh, *others = NAMESPACES[cluster]
    first, second = [item for item in services(cluster) if item.namespace == mesh][:2]
    for item in services(cluster):
        yield Case("its own pod", item.namespace, item.account, item.labels)
    yield Case("more labels", mesh, first.account, {**first.labels, "tier": "web"})
    yield Case("no labels", mesh, first.account)
    yield Case("somebody's labels", mesh, first.account, {"app": "somebody"})
    yield Case(
        "another's labels", mesh, second.account, first.labels, claims(first, second.account)
    )
    yield Case(
        "another's labels", mesh, first.account, second.labels, claims(second, first.account)
    )
    yield Case("no account", mesh, None, {}, undeclared("default", mesh))
    yield Case("an account of nobody", mesh, "nobody", {}, undeclared("nobody", mesh))
    yield Case("a label of ours", mesh, first.account, reserved("phase"), is_reserved("phase"))
    own = {**first.labels, **reserved("canary")}
    yield Case("ours beside its own", mesh, first.account, own, is_reserved("canary"))
    for other in others:
        there = next(item for item in services(cluster) if item.namespace == other)
        yield Case("labels of another namespace", other, there.account, first.labels)
        yield Case(
            "account of another namespace",
            other,
            first.account,
            {},
            undeclared(first.account, other),
        )
    yield Case("outside the mesh", OUTSIDE, "nobody", first.labels)
    yield Case("outside the mesh", OUTSIDE, None, reserved("phase"))


def claims(service: Service, account: str) -> str:
    labels = ",".join(f"{key}={value}" for key, value in service.labels.items())
    return (
        f"the labels {labels} are those of service account {service.namespace}.{service.account}, "
        f"but the pod runs as {service.namespace}.{account}: change its labels, or let it run as "
        "that service account"
    )


def undeclared(account: str, namespace: str) -> str:
    return (
        f"no Service declares service account {account} in namespace {namespace}: declare it under "
        "policies/, or let the pod run as a declared one"
    )


def reserved(name: str) -> dict[str, str]:
    return {f"zt.hanzo.ai/{name}": "true"}


def is_reserved(name: str) -> str:
    return (
        f"label zt.hanzo.ai/{name} is reserved: labels that start with zt.hanzo.ai/ are set by the "
        "mesh alone, so remove it"
    )


@pytest.fixture(scope="module")
def accounts(found: Installed) -> Iterator[Client]:
    """An API server with the service accounts of the cases, and a namespace outside the mesh."""
    named = sorted(
        {(case.namespace, case.account) for case in cases(found.cluster) if case.account}
    )
    made = [_make(found.api, "/api/v1/namespaces", OUTSIDE)]
    for namespace, account in named:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        made.append(_make(found.api, path, account))
    yield found.api
    for path in filter(None, reversed(made)):
        found.api.delete(path)


@pytest.fixture(scope="module")
def api(found: Installed, accounts: Client) -> Iterator[Client]:
    """The same without the injection webhook, which nobody serves here."""
    webhooks = [item.object for item in found.tried if item.object.path.startswith(WEBHOOKS)]
    for item in webhooks:
        accounts.delete(item.path)
    _await_policies(found)
    yield accounts
    for item in webhooks:
        accounts.apply(item.path, item.manifest)


def test_while_nobody_serves_the_webhook_only_the_meshs_own_pods_start(
    found: Installed, accounts: Client
) -> None:
    (webhook,) = found.objects("MutatingWebhookConfiguration")
    own = {"zt-policy-engine", "wg-gateway"}
    for item in services(found.cluster):
        case = Case("", item.namespace, item.account, item.labels)
        answer = _eventually(accounts, case, admitted=item.name in own)
        assert answer.ok is (item.name in own), answer.message
        assert answer.ok or webhook["webhooks"][0]["name"] in answer.message
    assert tried(accounts, Case("", OUTSIDE, "nobody")).ok


def test_pods_are_admitted_or_refused_with_a_sentence(found: Installed, api: Client) -> None:
    wrong = []
    print(f"\n{found.stack}")  # noqa: T201
    for case in cases(found.cluster):
        answer = tried(api, case)
        verdict = "admitted" if answer.ok else "refused"
        print(f"  {verdict:8} {case.what}: {case.account} {case.labels} in {case.namespace}")  # noqa: T201
        if not answer.ok:
            print(f"           {said(answer)}")  # noqa: T201
        if answer.ok is bool(case.says) or said(answer) != case.says:
            wrong.append(f"{case}: {answer.status} {answer.message}")
    assert wrong == []


def test_a_pod_that_runs_cannot_take_anothers_labels(found: Installed, api: Client) -> None:
    mesh = NAMESPACES[found.cluster][0]
    first, second = [item for item in services(found.cluster) if item.namespace == mesh][:2]
    path = f"/api/v1/namespaces/{mesh}/pods"
    api.create(path, pod(Case("", mesh, first.account, first.labels)))
    try:
        claim = _relabelled(api, f"{path}/checks", second.labels)
        own = _relabelled(api, f"{path}/checks", reserved("phase"))
        harmless = _relabelled(api, f"{path}/checks", {"tier": "web"})
    finally:
        api.delete(f"{path}/checks?gracePeriodSeconds=0")

    assert said(claim) == claims(second, first.account)
    assert said(own) == is_reserved("phase")
    assert harmless.ok


def tried(api: Client, case: Case) -> Answer:
    return api.request("POST", f"/api/v1/namespaces/{case.namespace}/pods?dryRun=All", pod(case))


def pod(case: Case) -> Json:
    account = {"serviceAccountName": case.account} if case.account else {}
    return {
        "metadata": {"name": "checks", "labels": case.labels},
        "spec": {**account, "containers": [{"name": "main", "image": "example.invalid/main:1"}]},
    }


def said(answer: Answer) -> str:
    """The sentence of the first policy that refused."""
    return "" if answer.ok else answer.message.partition(" denied request: ")[2]


def _relabelled(api: Client, path: str, labels: dict[str, str]) -> Answer:
    body = {"metadata": {"labels": labels}}
    return api.request("PATCH", f"{path}?dryRun=All", body, content_type=MERGE)


def _make(api: Client, path: str, name: str) -> str | None:
    """Make what isn't there; its path, if it was made."""
    if api.get(f"{path}/{name}") is not None:
        return None
    api.create(path, {"metadata": {"name": name}})
    return f"{path}/{name}"


def _await_policies(found: Installed) -> None:
    """Policies are in force some seconds after they are there."""
    for case in cases(found.cluster):
        _eventually(found.api, case, admitted=not case.says)


def _eventually(api: Client, case: Case, *, admitted: bool) -> Answer:
    """The answer, once it is as expected; the last one, if that never comes."""
    deadline = time.monotonic() + _PATIENCE
    while (answer := tried(api, case)).ok is not admitted and time.monotonic() < deadline:
        time.sleep(0.3)
    return answer
