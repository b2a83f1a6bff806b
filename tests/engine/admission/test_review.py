"""AdmissionReviews as API servers send them, and the patches that answer them."""

from __future__ import annotations

import base64
import copy
import json
import time
from dataclasses import replace
from typing import Any

import jsonpatch
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.admission.patch import patch_between
from engine.admission.review import review
from tests.zt.inject.samples import EAST, IMAGES, SAMPLES, injected, pods, sample
from zt.inject import Injected, Refused, inject

Json = dict[str, Any]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(0, 2, width=16)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.sampled_from("a/~1 "), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def request(pod: object, of: object, **more: Any) -> bytes:  # noqa: ANN401 - any JSON value
    content = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": of,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        **more,
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": content}
    return json.dumps(body).encode()


def answered(body: bytes) -> Json:
    found = json.loads(review(body, EAST, IMAGES))
    assert found["apiVersion"] == "admission.k8s.io/v1"
    assert found["kind"] == "AdmissionReview"
    assert found["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    response = found["response"]
    assert isinstance(response, dict)
    return response


def patched(pod: Json, response: Json) -> Json:
    """The pod, as another's implementation of RFC 6902 patches it."""
    if "patch" not in response:
        return pod
    assert response["patchType"] == "JSONPatch"
    patch = json.loads(base64.b64decode(response["patch"], validate=True))
    changed = jsonpatch.apply_patch(copy.deepcopy(pod), patch)
    assert isinstance(changed, dict)
    return changed


@pytest.mark.parametrize("name", SAMPLES)
def test_the_patch_makes_the_pod_that_was_reviewed(name: str) -> None:
    namespace, pod = sample(name)
    response = answered(request(pod, namespace))
    assert response["allowed"] is True
    assert patched(pod, response) == injected(namespace, pod)


@settings(max_examples=100)
@given(pods())
def test_any_pod_is_patched_as_it_is_injected(found: tuple[str, Json]) -> None:
    namespace, pod = found
    response = answered(request(pod, namespace))
    expected = inject(pod, namespace, EAST, IMAGES)
    if isinstance(expected, Injected):
        assert response["allowed"] is True
        assert patched(pod, response) == expected.pod
        assert response.get("warnings", []) == list(expected.warnings)
        # Asked again, there is nothing left to do.
        assert "patch" not in answered(request(expected.pod, namespace))
    else:
        assert response == {
            "uid": response["uid"],
            "allowed": False,
            "status": {"message": expected.reason, "code": 403, "reason": "Forbidden"},
        }


@given(VALUES, VALUES)
def test_a_patch_makes_one_document_into_another(before: object, after: object) -> None:
    assume(isinstance(before, (dict, list)) and isinstance(after, type(before)))
    got = jsonpatch.apply_patch(copy.deepcopy(before), patch_between(before, after))
    assert json.dumps(got, sort_keys=True) == json.dumps(
        json.loads(json.dumps(after)), sort_keys=True
    ) or _equal_numbers(got, after)


def _equal_numbers(one: object, other: object) -> bool:
    """JSON has one kind of number: 1 and 1.0 are the same."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal_numbers(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal_numbers, one, other))
    return one == other


@given(VALUES)
def test_nothing_is_patched_where_nothing_changes(value: object) -> None:
    assert patch_between(value, copy.deepcopy(value)) == []


def test_a_dry_run_is_answered_like_any_other() -> None:
    namespace, pod = sample("deployment")
    assert answered(request(pod, namespace, dryRun=True)) == answered(request(pod, namespace))


def test_the_namespace_is_that_of_the_request() -> None:
    """A pod that is created need not name its own."""
    _, pod = sample("deployment")
    pod["metadata"]["namespace"] = "elsewhere"
    assert patched(pod, answered(request(pod, "web"))) == injected("web", pod)


def test_who_is_told_something_is_told_in_a_warning() -> None:
    pod = {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
    response = answered(request(pod, "w" * 300))
    assert response["allowed"] is True
    assert "patch" not in response
    (warning,) = response["warnings"]
    assert warning.startswith("no Service declares service account default in namespace w")
    assert len(warning) == 256


def test_without_a_policy_no_pod_starts_and_the_answer_says_why() -> None:
    namespace, pod = sample("deployment")
    response = json.loads(review(request(pod, namespace), None, IMAGES))["response"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 503
    assert "no policy yet" in response["status"]["message"]


def test_declared_only_refuses_in_the_words_of_the_admission_policy() -> None:
    pod = {"metadata": {}, "spec": {"serviceAccountName": "x", "containers": []}}
    found = inject(pod, "web", replace(EAST, declared_only=True), IMAGES)
    assert isinstance(found, Refused)
    assert found.reason.startswith("no Service declares service account x in namespace web: ")


_, POD = sample("deployment")
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "another kind": json.dumps({"apiVersion": "v1", "kind": "Pod"}).encode(),
    "another version": request(POD, "web").replace(b"k8s.io/v1", b"k8s.io/v1beta1"),
    "no request": b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
    "no uid": request(POD, "web", uid=None),
    "no object": request(POD, "web", object=None),
    "no namespace": request(POD, None),
    "an update": request(POD, "web", operation="UPDATE"),
    "no pod": request({"kind": "Service", "spec": {"containers": []}}, "web"),
    "no containers": request({"spec": {"serviceAccountName": "shop"}}, "web"),
    "a container that is none": request(
        {"spec": {"serviceAccountName": "shop", "containers": ["web"]}}, "web"
    ),
    "labels for a spec": request({"spec": []}, "web"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_review_of_a_new_pod_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        review(body, EAST, IMAGES)


@settings(max_examples=200)
@given(VALUES, st.sampled_from(["object", "namespace", "uid", "operation"]))
def test_whatever_comes_is_answered_or_a_value_error(value: object, key: str) -> None:
    try:
        found = review(request(POD, "web", **{key: value}), EAST, IMAGES)
    except ValueError:
        return
    assert json.loads(found)["kind"] == "AdmissionReview"


def test_a_review_takes_a_few_milliseconds() -> None:
    namespace, pod = sample("probes")
    body = request(pod, namespace)
    times = []
    for _ in range(300):
        began = time.process_time()
        review(body, EAST, IMAGES)
        times.append(time.process_time() - began)
    assert sorted(times)[-3] < 0.02
