"""``__main__.py`` under a monitor of our own, for every stack: what it registers, and how."""

import collections
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pulumi_digitalocean as digitalocean
import pytest

from tests.components.registered import (
    CHECKOUT,
    PROJECT,
    STACKS,
    Json,
    Registered,
    Run,
    as_given,
    configuration,
    created,
    main,
    run,
    texts,
    with_kubeconfig,
)
from tests.components.sdk_types import problems
from tests.strategies import TODAY
from zt.bundle import Bundle
from zt.compile import compile_policy
from zt.load import load_policy

MOST_RESOURCES = 300
MANAGED = ("app.kubernetes.io/managed-by", "hanzo-zt")
# Planes whose files are manifests, each one object.
OBJECTS = ("networkpolicies", "admission", "spire/registrations")

# A cluster that is made; and the parts of DigitalOcean together.
CREATED, DIGITALOCEAN = "created", "digitalocean"
_AUDIT = {"managed": {"size": "db-s-2vcpu-4gb", "nodes": 2, "region": "sfo3"}}


def settings_of(stack: str, folder: Path) -> Json:
    if stack == CREATED:
        return created()
    if stack == DIGITALOCEAN:
        return {**created(), "hanzo-zt:audit": _AUDIT}
    return with_kubeconfig(configuration(stack), folder)


@pytest.fixture(scope="module", params=[*STACKS, CREATED, DIGITALOCEAN])
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def seen(stack: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = settings_of(stack, tmp_path_factory.mktemp("stack"))
    return run(main, stack, as_given(config))


@pytest.fixture(scope="module")
def bundle(seen: Run) -> Bundle:
    return compile_policy(load_policy(CHECKOUT / "policies"), seen.exports["cluster"], TODAY)


def kubernetes(seen: Run) -> Iterator[Registered]:
    return (resource for resource in seen.resources if resource.is_kubernetes)


def key_of(manifest: Json) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


# --- What is registered ---------------------------------------------------------------------------


def test_every_compiled_object_is_registered_as_it_was_compiled(seen: Run, bundle: Bundle) -> None:
    registered = {key_of(resource.inputs): resource.inputs for resource in kubernetes(seen)}
    manifests = [file.manifest() for plane in OBJECTS for file in bundle.under(plane)]
    assert manifests
    for manifest in manifests:
        assert registered[key_of(manifest)] == manifest


def test_every_sidecar_gets_the_files_that_were_compiled_for_it(seen: Run, bundle: Bundle) -> None:
    assert bundle.facts
    for service in bundle.facts.services:
        registered = seen.named(f"sidecars:{service.namespace}/zt-envoy-{service.name}")
        files = {
            PurePosixPath(file.path).name: file for file in bundle.under(f"envoy/{service.name}")
        }
        assert files
        assert registered.inputs["data"] == {name: file.text() for name, file in files.items()}


def test_no_policy_is_registered_that_was_not_compiled(seen: Run, bundle: Bundle) -> None:
    compiled = {key_of(file.manifest()) for plane in OBJECTS for file in bundle.under(plane)}
    kinds = {kind for kind, _, _ in compiled} - {"ConfigMap", "NetworkPolicy"}
    assert kinds
    for resource in kubernetes(seen):
        if resource.inputs["kind"] in kinds:
            assert key_of(resource.inputs) in compiled


def test_all_that_a_stack_registers_is_this(
    seen: Run, stack: str, golden: Callable[[str, str], None]
) -> None:
    """Type tokens and names are parts of the URN: to change one is to replace a live object."""
    lines = sorted(f"{resource.type} {resource.name}" for resource in seen.resources)
    golden(f"stacks/{stack}.txt", "\n".join(lines) + "\n")


def test_a_stack_is_small_enough_to_be_previewed_in_seconds(seen: Run) -> None:
    assert len(seen.resources) <= MOST_RESOURCES


def test_no_two_resources_are_the_same(seen: Run) -> None:
    counts = collections.Counter(resource.urn for resource in seen.resources)
    objects = collections.Counter(key_of(resource.inputs) for resource in kubernetes(seen))
    assert set(counts.values()) == {1}
    assert set(objects.values()) == {1}


# --- How ------------------------------------------------------------------------------------------


def test_every_object_is_a_child_of_a_component_of_the_stack(seen: Run, stack: str) -> None:
    components = {resource.urn for resource in seen.resources if resource.is_component}
    root = f"urn:pulumi:{stack}::{PROJECT}::pulumi:pulumi:Stack::{PROJECT}-{stack}"
    for resource in seen.resources:
        allowed = {*components, root} if resource.is_component else components
        assert resource.parent in allowed, resource.urn


def test_every_object_goes_to_the_cluster_of_the_stack(seen: Run) -> None:
    (provider,) = seen.of("pulumi:providers:kubernetes")
    for resource in kubernetes(seen):
        assert resource.provider == f"{provider.urn}::{provider.name}-id"


def test_the_provider_applies_on_the_server_and_changes_in_place(seen: Run) -> None:
    (provider,) = seen.of("pulumi:providers:kubernetes")
    for switch in (
        "enableServerSideApply",
        "enablePatchForce",
        "enableConfigMapMutable",
        "enableSecretMutable",
    ):
        assert provider.inputs[switch] == "true"
    assert provider.inputs["clusterIdentifier"] == seen.exports["cluster"]
    assert "upsertExistingObjects" not in provider.inputs


def test_every_component_registers_its_outputs(seen: Run) -> None:
    for resource in seen.resources:
        if resource.is_component:
            assert resource.urn in seen.outputs, resource.urn


def test_what_the_stack_makes_says_so_and_what_it_labels_does_not(seen: Run) -> None:
    for resource in kubernetes(seen):
        labels = resource.inputs["metadata"].get("labels", {})
        assert (MANAGED in labels.items()) is not resource.type.endswith("Patch"), resource.urn


def test_of_a_team_s_namespace_only_labels_are_touched(seen: Run, bundle: Bundle) -> None:
    assert bundle.facts
    patches = [resource.inputs for resource in kubernetes(seen) if "Patch" in resource.type]
    assert {patch["metadata"]["name"] for patch in patches} == set(bundle.facts.namespaces)
    for patch in patches:
        assert patch.keys() == {"apiVersion", "kind", "metadata"}
        assert patch["metadata"].keys() == {"name", "labels"}
    made = {resource.name for resource in seen.of("kubernetes:core/v1:Namespace")}
    assert made == {"namespaces:spire-system"}


def test_everything_comes_after_the_namespaces(seen: Run) -> None:
    """By dependencies alone: the engine does at once whatever these allow."""
    namespaces = {child.urn for child in seen.children(seen.named("namespaces"))}
    for resource in kubernetes(seen):
        if resource.urn not in namespaces:
            assert namespaces <= everything_before(seen, resource), resource.urn


# What has to be there before what, by kind.
ORDER = (
    ("ConfigMap admission:", "ValidatingAdmissionPolicy admission:"),
    ("ConfigMap admission:", "ValidatingAdmissionPolicyBinding admission:"),
    ("ValidatingAdmissionPolicy admission:", "ValidatingAdmissionPolicyBinding admission:"),
    ("CustomResourceDefinition spire:", "ClusterSPIFFEID spire:"),
    ("StatefulSet spire:", "DaemonSet spire:"),
    ("StatefulSet spire:", "Deployment evaluator:"),
    ("DaemonSet spire:", "Deployment evaluator:"),
    ("Deployment evaluator:", "MutatingWebhookConfiguration sidecars:"),
)


@pytest.mark.parametrize(("first", "later"), ORDER)
def test_what_is_needed_is_there_before(seen: Run, first: str, later: str) -> None:
    firsts, laters = _matching(seen, first), _matching(seen, later)
    assert firsts
    assert laters
    for resource in laters:
        assert {item.urn for item in firsts} <= everything_before(seen, resource), resource.urn


def _matching(seen: Run, beginning: str) -> list[Registered]:
    return [
        resource
        for resource in seen.resources
        if f"{resource.type.rpartition(':')[2]} {resource.name}".startswith(beginning)
    ]


def everything_before(seen: Run, resource: Registered) -> set[str]:
    by_urn = {item.urn: item for item in seen.resources}
    found: set[str] = set()
    rest = [resource]
    while rest:
        item = rest.pop()
        before = {*item.dependencies, item.parent} & by_urn.keys() - found
        found |= before
        rest.extend(by_urn[urn] for urn in before)
    return found


def test_nothing_is_waiting_for_itself(seen: Run) -> None:
    for resource in seen.resources:
        assert resource.urn not in everything_before(seen, resource)


def test_nothing_is_sent_that_an_api_server_would_not_store(seen: Run) -> None:
    """It drops nulls, and every later preview would show them as a change."""
    for resource in kubernetes(seen):
        assert not holds_null(resource.inputs), resource.urn


def holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(holds_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(holds_null, value)))


# --- DigitalOcean ---------------------------------------------------------------------------------


def test_arguments_of_digitalocean_are_those_of_its_sdk(seen: Run) -> None:
    for resource in seen.resources:
        if resource.type.startswith("digitalocean:"):
            arguments = getattr(digitalocean, resource.type.rpartition(":")[2] + "Args")
            assert not list(problems(arguments, resource.inputs)), resource.urn


def test_a_cluster_that_is_made_is_protected_and_has_pools_of_its_own(seen: Run) -> None:
    for resource in seen.of("digitalocean:index/kubernetesCluster:KubernetesCluster"):
        assert resource.protect
        assert resource.inputs["nodePool"]["nodeCount"] == 1
        assert seen.of("digitalocean:index/kubernetesNodePool:KubernetesNodePool")
    for resource in seen.of("digitalocean:index/vpc:Vpc"):
        assert resource.protect


def test_the_networks_of_a_cluster_are_those_of_the_policy(seen: Run, bundle: Bundle) -> None:
    assert bundle.facts
    for resource in seen.of("digitalocean:index/kubernetesCluster:KubernetesCluster"):
        assert resource.inputs["clusterSubnet"] == str(bundle.facts.pod_cidr)
        assert resource.inputs["serviceSubnet"] == str(bundle.facts.service_cidr)


def test_the_kubeconfig_of_a_cluster_that_is_made_is_a_secret(seen: Run) -> None:
    (provider,) = seen.of("pulumi:providers:kubernetes")
    made = bool(seen.of("digitalocean:index/kubernetesCluster:KubernetesCluster"))
    assert ("kubeconfig" in provider.secrets) is made


# --- Secrets --------------------------------------------------------------------------------------

# What keys, tokens and connection strings with passwords look like.
SECRET = re.compile(
    r"PRIVATE KEY|\beyJ[\w-]{10,}\.|kubeconfig-of-a-created-cluster"
    r"|\w+://[^/\s:@]+:[^/\s@${]+@|(?i:password\s*=\s*[^\s${'\"]+)"
)


def test_nothing_secret_is_sent_in_clear(seen: Run) -> None:
    for resource in seen.resources:
        for path, text in texts(resource.inputs):
            if not any(path.startswith(secret) for secret in resource.secrets):
                assert not SECRET.search(text), f"{resource.urn} {path}"


def test_what_others_may_know_is_public(seen: Run) -> None:
    assert not SECRET.search(json.dumps(seen.exports))
    assert {"cluster", "trustDomain", "policyDigest", "evaluator"} <= seen.exports.keys()


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC PRIVATE KEY-----",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
        "postgresql://zt:hunter2@db:5432/audit",
        "host=db password=hunter2",
    ],
)
def test_a_planted_secret_is_found(text: str) -> None:
    assert SECRET.search(text)


def test_a_secret_s_content_is_encrypted_in_the_state(seen: Run) -> None:
    for resource in seen.of("kubernetes:core/v1:Secret"):
        assert {"data", "stringData"} <= set(resource.outputs_secret)


# --- Whoever runs it ------------------------------------------------------------------------------


def test_the_program_is_short() -> None:
    assert len((CHECKOUT / "__main__.py").read_text().splitlines()) <= 60


def test_a_policy_change_changes_what_it_concerns(tmp_path: Path) -> None:
    """One port less for one caller: its NetworkPolicies and lists, and no pod."""
    policies = tmp_path / "policies"
    _copy(CHECKOUT / "policies", policies, "ports: [6379]", "ports: [6379]")
    before = _inputs(tmp_path, policies)
    _copy(CHECKOUT / "policies", policies, "ports: [7700]", "ports: [7700]")
    rule = '        - spiffe: "spiffe://hanzo.ai/hanzo-k8s/hanzo/search"\n          ports: [7700]\n'
    _copy(CHECKOUT / "policies", policies, rule, "")
    after = _inputs(tmp_path, policies)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    kinds = {name.split()[0].rpartition(":")[2] for name in changed}
    assert kinds <= {"ConfigMap", "NetworkPolicy"}
    assert "networkpolicies:hanzo/search-ingress" in {name.split()[1] for name in changed}


def test_another_stamp_writes_policies_whole(tmp_path: Path) -> None:
    config = with_kubeconfig(configuration("hanzo-k8s"), tmp_path)
    before = run(main, "hanzo-k8s", as_given(config))
    after = run(main, "hanzo-k8s", as_given({**config, "hanzo-zt:reapply": "2026-11-24"}))
    changed = {
        new.urn: new.inputs["metadata"]["annotations"]
        for old, new in zip(by_urn(before), by_urn(after), strict=True)
        if old.inputs != new.inputs
    }
    held = [before.named(name) for name in ("networkpolicies", "admission", "sidecars")]
    assert changed.keys() == {child.urn for item in held for child in before.children(item)}
    assert all(item["zt.hanzo.ai/reapply"] == "2026-11-24" for item in changed.values())


def by_urn(seen: Run) -> list[Registered]:
    return sorted(seen.resources, key=lambda resource: resource.urn)


def _copy(source: Path, target: Path, old: str, new: str) -> None:
    for file in source.rglob("*.yaml"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text().replace(old, new))


def _inputs(folder: Path, policies: Path) -> dict[str, Json]:
    config = with_kubeconfig(configuration("hanzo-k8s"), folder)
    seen = run(main, "hanzo-k8s", as_given({**config, "hanzo-zt:policies": str(policies)}))
    return {f"{resource.type} {resource.name}": resource.inputs for resource in seen.resources}
