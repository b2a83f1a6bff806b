"""SPIRE as the component makes it, on a real API server, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

from lab.cluster.client import client
from lab.cluster.model import ControlPlane
from tests.authorities import issuing_cas
from tests.components.spire.cases import facts_of
from tests.lab.spire import site as places
from tests.lab.spire.node import Machine
from tests.lab.spire.site import SETTINGS, Site


@pytest.fixture(scope="package")
def site(
    control_planes: Mapping[str, ControlPlane], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    place = control_planes[SETTINGS.cluster]
    api = client(place.kubeconfig)
    facts = facts_of(SETTINGS.cluster)
    root = issuing_cas(facts.trust_domain, [SETTINGS.cluster])[SETTINGS.cluster]
    before = [*places.prerequisites(root, facts.namespaces)]
    manifests = places.registered(SETTINGS)
    folder = tmp_path_factory.mktemp("node") / "node"
    images = places.images(SETTINGS, tmp_path_factory.mktemp("image"))
    machine = Machine(api, place, folder, images)
    with closing(machine):
        try:
            places.apply_all(api, before)
            places.apply_all(api, map(_runnable, manifests))
            yield places.start(api, machine, manifests, root["bundle.crt"])
        finally:
            places.remove(api, [*before, *manifests])
            api.delete(f"/api/v1/nodes/{machine.name}")


def _runnable(manifest: places.Json) -> places.Json:
    if manifest["kind"] == "StatefulSet" and manifest["metadata"]["name"] == "spire-datastore":
        return places.behind_a_front(manifest)
    return manifest
