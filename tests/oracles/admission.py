"""What the API server does with a ValidatingAdmissionPolicy whose binding gives it parameters.

Its expressions are evaluated by an implementation of CEL of its own; ``split`` is of Kubernetes'
string library, which that lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cel

Object = Mapping[str, Any]


def request(
    pod: Object, *, operation: str = "CREATE", old: Object | None = None
) -> dict[str, Object | None]:
    """What expressions know of a request, besides the parameters."""
    asked = {"operation": operation, "namespace": pod["metadata"]["namespace"]}
    return {"object": pod, "oldObject": old, "request": asked}


def denials(policy: Object, params: Object, asked: Mapping[str, Any]) -> list[str]:
    """The messages with which a policy refuses a request; none, and it is admitted."""
    spec = policy["spec"]
    known = {**asked, "params": params, "variables": dict[str, Any]()}
    if asked["request"]["operation"] not in operations(policy):
        return []
    if not all(_evaluate(item["expression"], known) for item in spec.get("matchConditions", ())):
        return []
    for variable in spec["variables"]:
        known["variables"][variable["name"]] = _evaluate(variable["expression"], known)
    return [
        str(_evaluate(item["messageExpression"], known))
        for item in spec["validations"]
        if _evaluate(item["expression"], known) is not True
    ]


def operations(policy: Object) -> list[str]:
    """The operations on pods that a policy is about."""
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == ([""], ["v1"], ["pods"])
    return list(rule["operations"])


def _evaluate(expression: str, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any CEL value
    context = cel.Context(dict(known))
    context.add_function("split", lambda text, separator: text.split(separator))
    return cel.evaluate(expression, context)
