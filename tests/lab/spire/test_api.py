"""SPIRE's kinds and rights, as the real API server understands them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from components.spire import crds
from lab.up.objects import path_of
from tests.components.spire.asks import FORBIDDEN, NEEDED, Ask
from tests.components.spire.test_crds import REAL, WRONG
from tests.lab.spire.site import Site

Json = dict[str, Any]

INVALID, BAD_REQUEST = 422, 400


def tried(site: Site, manifest: Json) -> int:
    """The status of creating it, with nothing created."""
    folder = path_of(manifest).rpartition("/")[0]
    return site.api.request("POST", f"{folder}?dryRun=All&fieldValidation=Strict", manifest).status


@pytest.mark.parametrize("mistake", sorted(WRONG))
@pytest.mark.parametrize("kind", ["ClusterSPIFFEID", "ClusterStaticEntry"])
def test_a_wrong_registration_is_refused(site: Site, kind: str, mistake: str) -> None:
    wrong = copy.deepcopy(next(item for item in REAL if item["kind"] == kind))
    wrong["metadata"]["name"] = "wrong"
    assert tried(site, wrong) == 201
    WRONG[mistake](wrong["spec"])
    assert tried(site, wrong) in {INVALID, BAD_REQUEST}


@pytest.mark.parametrize(
    ("profile", "status"),
    [
        ({"type": "https_web"}, 201),
        ({"type": "https_spiffe", "endpointSPIFFEID": "spiffe://other.org/bundle"}, 201),
        ({"type": "https_spiffe"}, INVALID),
        ({"type": "http"}, INVALID),
    ],
)
def test_a_federation_names_whom_it_trusts(site: Site, profile: Json, status: int) -> None:
    manifest = {
        "apiVersion": f"{crds.GROUP}/{crds.VERSION}",
        "kind": "ClusterFederatedTrustDomain",
        "metadata": {"name": "other"},
        "spec": {
            "trustDomain": "other.org",
            "bundleEndpointURL": "https://other.org/bundle",
            "bundleEndpointProfile": profile,
        },
    }
    assert tried(site, manifest) == status


@pytest.mark.parametrize("definition", crds.manifests(), ids=lambda item: item["metadata"]["name"])
def test_the_definitions_have_nothing_to_complain_of(site: Site, definition: Json) -> None:
    found = site.api.get(path_of(definition))
    conditions = {item["type"]: item["status"] for item in found["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("ask", NEEDED, ids=str)
def test_spire_may_do_what_it_needs(site: Site, ask: Ask) -> None:
    assert may(site, ask)


@pytest.mark.parametrize("ask", FORBIDDEN, ids=str)
def test_spire_may_not(site: Site, ask: Ask) -> None:
    assert not may(site, ask)


def may(site: Site, ask: Ask) -> bool:
    resource, _, subresource = ask.resource.partition("/")
    attributes = {
        "verb": ask.verb,
        "group": ask.group,
        "resource": resource,
        "subresource": subresource,
        "namespace": ask.namespace,
        "name": ask.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:spire-system:{ask.account}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
    answer = site.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer.body["status"]["allowed"])
