"""What the component registers, seen by a monitor that needs no engine."""

from __future__ import annotations

from dataclasses import replace

import pulumi
import pytest

from components.settings import StackSettings
from components.spire import Spire, refusals
from tests.components.registered import Registered, Run, run
from tests.components.spire.cases import LAB, PLAIN, PRODUCTION, STACKS, bundle_of

TYPE = "hanzo-zt:components:Spire"


def registered(settings: StackSettings) -> Run:
    def program() -> None:
        Spire("spire", bundle_of(settings.cluster), settings, pulumi.ResourceOptions())

    return run(program, settings.cluster, {})


def known(run_: Run) -> dict[tuple[str, str], Registered]:
    return {(item.type.split(":")[-1], item.name): item for item in run_.resources}


def test_all_that_is_registered() -> None:
    facts = bundle_of("lux-k8s").facts
    assert facts is not None
    seen = registered(
        replace(PLAIN, spire=replace(PLAIN.spire, datastore=PRODUCTION.spire.datastore))
    )
    expected = {
        ("Spire", "spire"),
        ("CustomResourceDefinition", "spire:clusterspiffeids.spire.spiffe.io"),
        ("CustomResourceDefinition", "spire:clusterstaticentries.spire.spiffe.io"),
        ("CustomResourceDefinition", "spire:clusterfederatedtrustdomains.spire.spiffe.io"),
        ("ServiceAccount", "spire:spire-system/spire-server"),
        ("ServiceAccount", "spire:spire-system/spire-agent"),
        *((kind, "spire:zt-spire-server") for kind in ("ClusterRole", "ClusterRoleBinding")),
        *((kind, "spire:zt-spire-agent") for kind in ("ClusterRole", "ClusterRoleBinding")),
        *(
            (kind, f"spire:{namespace}/zt-spire-server")
            for kind in ("Role", "RoleBinding")
            for namespace in ("lux", "spire-system")
        ),
        ("NetworkPolicy", "spire:spire-system/default-deny"),
        ("NetworkPolicy", "spire:spire-system/spire-server"),
        ("NetworkPolicy", "spire:spire-system/spire-agent"),
        ("ConfigMap", "spire:lux/spire-bundle"),
        ("ConfigMap", "spire:spire-system/spire-bundle"),
        ("ConfigMap", "spire:spire-system/spire-server"),
        ("ConfigMap", "spire:spire-system/spire-controller-manager"),
        ("ConfigMap", "spire:spire-system/spire-agent"),
        ("PodDisruptionBudget", "spire:spire-system/spire-server"),
        ("StatefulSet", "spire:spire-system/spire-server"),
        ("Service", "spire:spire-system/spire-server"),
        ("DaemonSet", "spire:spire-system/spire-agent"),
        *(("ClusterSPIFFEID", f"spire:{item.namespace}.{item.name}") for item in facts.services),
    }
    assert facts.namespaces == ("lux",)
    assert known(seen).keys() == expected
    assert len(seen.resources) == len(expected)


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_registrations_are_as_compiled_and_wait_for_their_kinds(stack: str) -> None:
    settings = STACKS[stack]
    seen = registered(settings)
    files = bundle_of(settings.cluster).under("spire/registrations")
    compiled = {file.manifest()["metadata"]["name"]: file.manifest() for file in files}
    found = [item for item in seen.resources if "spire.spiffe.io" in item.type]
    assert {item.inputs["metadata"]["name"]: item.inputs for item in found} == compiled
    assert len(found) == len(compiled)
    kinds = {item.urn for item in seen.resources if item.type.endswith("CustomResourceDefinition")}
    assert all(kinds <= set(item.dependencies) for item in found)


@pytest.mark.parametrize("stack", sorted(STACKS))
def test_children_are_the_components(stack: str) -> None:
    seen = registered(STACKS[stack])
    (spire,) = seen.of(TYPE)
    inner = [item.urn for item in seen.resources if item.type.endswith(":GeneratedSecrets")]
    parents = {item.parent for item in seen.resources if item is not spire}
    assert parents == {spire.urn, *inner}
    (outputs,) = (out for urn, out in seen.outputs.items() if urn == spire.urn)
    facts = bundle_of(STACKS[stack].cluster).facts
    assert facts is not None
    assert outputs["registrations"] >= len(facts.services)


def test_agents_wait_for_servers_and_these_for_their_rights_and_maps() -> None:
    found = known(registered(LAB))
    agents = found["DaemonSet", "spire:spire-system/spire-agent"]
    servers = found["StatefulSet", "spire:spire-system/spire-server"]
    service = found["Service", "spire:spire-system/spire-server"]
    assert {servers.urn, service.urn} <= set(agents.dependencies)
    assert agents.urn not in servers.dependencies
    rights = {"Role", "ClusterRole", "CustomResourceDefinition"}
    needed = {
        item.urn
        for (kind, name), item in found.items()
        if (kind in rights and name.startswith("spire:")) or name.endswith("/spire-bundle")
    }
    needed.add(found["StatefulSet", "spire:spire-system/spire-datastore"].urn)
    assert len(needed) == 12
    assert needed <= set(servers.dependencies)
    # A registration that is refused keeps no server from starting.
    assert not [urn for urn in servers.dependencies if "ClusterSPIFFEID" in urn]
    # The official provider waits until a Service has endpoints, which are the servers.
    assert service.urn not in servers.dependencies


def test_a_database_is_made_only_where_none_exists() -> None:
    made = ("StatefulSet", "spire:spire-system/spire-datastore")
    assert made in known(registered(LAB))
    assert made not in known(registered(PRODUCTION))
    assert not registered(PRODUCTION).of("hanzo-zt:components:GeneratedSecrets")


def test_no_secret_is_an_input_of_any_resource() -> None:
    for settings in STACKS.values():
        seen = registered(settings)
        assert not [item for item in seen.resources if item.type.endswith(":Secret")]
        assert not [item for item in seen.resources if item.secrets]


def test_a_service_outside_needs_the_ca_of_its_agents() -> None:
    without = replace(LAB, spire=replace(LAB.spire, node_authority=None))
    (sentence,) = refusals(bundle_of("hanzo-k8s"), without)
    assert sentence.startswith("hanzo-zt:spire.nodeAuthority is missing")
    assert refusals(bundle_of("hanzo-k8s"), LAB) == ()
    assert refusals(bundle_of("lux-k8s"), PLAIN) == ()
