"""A review: bytes in, bytes out."""

from __future__ import annotations

import base64
from typing import Any, TypeGuard

import orjson

from engine.admission.patch import patch_between
from zt.inject import Images, Injected, Injection, Refused, inject

Json = dict[str, Any]

_VERSION = "admission.k8s.io/v1"
_KIND = "AdmissionReview"
_FORBIDDEN = 403
_UNAVAILABLE = 503
# The API server cuts what is longer.
_LONGEST_WARNING = 256


def review(body: bytes, injection: Injection | None, images: Images) -> bytes:
    """Answer a review.

    Raises:
        ValueError: if it is none of a pod that is created; the message says why.
    """
    request = _request(body)
    response = {"uid": request["uid"], **_verdict(request, injection, images)}
    return orjson.dumps({"apiVersion": _VERSION, "kind": _KIND, "response": response})


def _request(body: bytes) -> Json:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the body is no JSON: {error}") from None
    if not isinstance(content, dict) or (content.get("apiVersion"), content.get("kind")) != (
        _VERSION,
        _KIND,
    ):
        raise ValueError(f"the body is no {_KIND} of {_VERSION}")
    request = content.get("request")
    if isinstance(request, dict) and isinstance(request.get("uid"), str):
        return request
    raise ValueError("the review has no request with a uid")


def _verdict(request: Json, injection: Injection | None, images: Images) -> Json:
    pod, namespace = request.get("object"), request.get("namespace")
    if request.get("operation") != "CREATE" or not _is_pod(pod) or not isinstance(namespace, str):
        raise ValueError("the review is not of a pod that is created")
    if injection is None:
        why = "the evaluator has no policy yet, so it can't tell what the pod needs: try again"
        return _refusal(why, _UNAVAILABLE, "ServiceUnavailable")
    try:
        found = inject(pod, namespace, injection, images)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the pod is not as an API server writes one: {error!r}") from None
    if isinstance(found, Refused):
        return _refusal(found.reason, _FORBIDDEN, "Forbidden")
    return _admission(pod, found)


def _is_pod(value: object) -> TypeGuard[Json]:
    if not isinstance(value, dict) or value.get("kind") not in (None, "Pod"):
        return False
    spec = value.get("spec")
    return isinstance(spec, dict) and isinstance(spec.get("containers"), list)


def _refusal(message: str, code: int, reason: str) -> Json:
    return {"allowed": False, "status": {"message": message, "code": code, "reason": reason}}


def _admission(pod: Json, found: Injected) -> Json:
    answer: Json = {"allowed": True}
    patch = patch_between(pod, found.pod)
    if patch:
        answer |= {
            "patchType": "JSONPatch",
            "patch": base64.b64encode(orjson.dumps(patch)).decode(),
        }
    if found.warnings:
        answer["warnings"] = [warning[:_LONGEST_WARNING] for warning in found.warnings]
    return answer
