"""Each stack through its life, by the real engine on a real API server.

DigitalOcean is left out: the stacks adopt the lab's control planes. No pod runs in them, so what is
shown is the objects.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pulumi import automation

from lab.cluster.model import ControlPlane
from lab.provider.cluster import Cluster
from lab.provider.serve import Serving, serving
from lab.scan.scan import scan
from lab.stack.folder import Engine, opened
from lab.stack.interrupted import resume
from lab.stack.run import Outcome, destroy, preview, refresh, up
from lab.tools.build import tool
from tests.lab.pulumi.cut_off import cut_off
from tests.lab.pulumi.others import assert_same, settle
from tests.lab.pulumi.policies import add_rule, concerned, copied, remove_rule
from tests.lab.pulumi.small import admin, done

pytestmark = pytest.mark.timeout(900)

STACKS = ("hanzo-k8s", "lux-k8s", "lab-hanzo-k8s", "lab-lux-k8s")
POLICY_API = "/apis/networking.k8s.io/v1"
# Who gets a rule to IAM, and whose policy is edited by hand, by cluster.
SOURCES = {"hanzo-k8s": "hanzo-k8s/hanzo/chat", "lux-k8s": "lux-k8s/lux/validator"}
EDITED = {"hanzo-k8s": "hanzo/postgres-ingress", "lux-k8s": "lux/validator-ingress"}
ACROSS = "Validators reach models across the tunnel"
# The audit trail outlives its stack: the volume of its database, which Kubernetes made for it.
_TRAIL = "/api/v1/persistentvolumeclaims/hanzo/data-zt-audit-db-0"
KEPT = {"hanzo-k8s": frozenset({_TRAIL}), "lux-k8s": frozenset[str]()}
# So many resources of the program were made when the engine is killed.
KILLED_AFTER = 30


@dataclass(frozen=True)
class Place:
    """A stack, the cluster that it is for, and its policies, which tests change."""

    name: str
    cluster: str
    kubeconfig: Path
    http: httpx.Client
    policies: Path
    engine: Engine
    provider: Serving

    @property
    def over(self) -> Mapping[str, Any]:
        """What is laid over the stack's own configuration."""
        adopt = {"kubeconfig": str(self.kubeconfig), "context": None}
        return {
            "kubernetes": {"adopt": adopt},
            "policies": str(self.policies),
        }

    def open(self) -> automation.Stack:
        return opened(self.name, self.engine, self.over)


@pytest.fixture(params=STACKS)
def place(
    request: pytest.FixtureRequest,
    control_planes: Mapping[str, ControlPlane],
    tmp_path: Path,
) -> Iterator[Place]:
    name: str = request.param
    cluster = name.removeprefix("lab-")
    kubeconfig = control_planes[cluster].kubeconfig
    with serving() as provider, admin(kubeconfig) as http:
        folder = tmp_path / "engine"
        engine = Engine(pulumi=tool("pulumi"), folder=folder, environment=provider.environment)
        policies = copied(tmp_path / "policies")
        found = Place(name, cluster, kubeconfig, http, policies, engine, provider)
        yield found
        # A test that failed half way leaves the cluster to the next one.
        destroy(found.open())


def test_a_stack_comes_stays_follows_the_policy_and_goes(place: Place, tmp_path: Path) -> None:
    before = settle(place.http)
    stack = place.open()
    assert_creates_alone(preview(stack))
    first = up(stack)
    assert_creates_alone(first)
    assert not up(stack).changes
    assert not refresh(stack).changes, "the API server stores something else than was asked for"

    assert_no_keys(place.engine, stack)
    original = copied(tmp_path / "original")
    add_rule(place.policies, SOURCES[place.cluster], "hanzo-k8s/hanzo/iam", 8000)
    assert_follows(place, original, "a rule more")
    added = copied(tmp_path / "added", place.policies)
    remove_rule(place.policies, ACROSS)
    assert_follows(place, added, "a rule less")

    assert_repairs(place)
    destroy(place.open())
    assert_same(place.http, before, KEPT[place.cluster])
    assert place.provider.warned == []


def test_an_interrupted_run_is_taken_up_again(place: Place) -> None:
    before = settle(place.http)
    cut_off(place.name, place.engine, place.over, KILLED_AFTER)
    stack = place.open()
    resume(stack, Cluster(place.http))
    rest = up(stack)
    # What was half made may be brought to its end; nothing that was made is lost, or made again.
    assert {change.operation for change in rest.changes} <= {"create", "update"}, str(rest)
    assert 0 < rest.counts["create"] < rest.resources
    assert not up(stack).changes
    destroy(stack)
    assert_same(place.http, before, KEPT[place.cluster])


# --- What is asserted -----------------------------------------------------------------------------


def assert_creates_alone(outcome: Outcome) -> None:
    assert {change.operation for change in outcome.changes} == {"create"}


def assert_no_keys(engine: Engine, stack: automation.Stack) -> None:
    """The state, in clear and as it is kept, has neither key material nor passphrase; no log is."""
    clear = json.dumps(stack.export_stack().deployment).encode()
    kept = list(engine.state.rglob("stacks/**/*.json"))
    assert kept
    assert not (engine.home / "logs").is_dir()
    carriers = [("in clear", clear), *((str(path), path.read_bytes()) for path in kept)]
    assert scan(carriers, planted=[engine.passphrase.read_bytes()]) == []


def assert_follows(place: Place, before: Path, what: str) -> None:
    """Only what is compiled differently changes, and in place."""
    outcome = up(place.open())
    print(f"\n{place.name}, {what}:\n{outcome}")  # noqa: T201 - shown by `pytest -rA`
    assert {change.operation for change in outcome.changes} == {"update"}
    changed = {
        f"{change.type.rpartition(':')[2]} {change.name.partition(':')[2]}"
        for change in outcome.changes
    }
    assert changed == concerned(place.cluster, before, place.policies)


def assert_repairs(place: Place) -> None:
    """Someone edits a NetworkPolicy: refresh shows that, and ``up`` undoes it."""
    namespace, name = EDITED[place.cluster].split("/")
    path = f"{POLICY_API}/namespaces/{namespace}/networkpolicies/{name}"
    was = done(place.http.get(path))["spec"]
    edit = [{"op": "replace", "path": "/spec/podSelector", "value": {"matchLabels": {"app": "x"}}}]
    headers = {"Content-Type": "application/json-patch+json"}
    done(place.http.patch(f"{path}?fieldManager=kubectl-edit", json=edit, headers=headers))
    (shown,) = refresh(place.open()).changes
    print(f"\n{place.name}, edited by hand:\n{shown}")  # noqa: T201
    assert (shown.operation, shown.name) == ("update", f"networkpolicies:{namespace}/{name}")
    assert "spec.podSelector" in str(shown)
    (repaired,) = up(place.open()).changes
    assert (repaired.operation, repaired.name) == ("update", shown.name)
    assert done(place.http.get(path))["spec"] == was
