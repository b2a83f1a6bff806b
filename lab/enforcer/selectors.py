"""Label selectors, as the API reference defines them (``LabelSelector``)."""

from __future__ import annotations

from lab.enforcer.model import Json, Labels


def selects(selector: Json, labels: Labels) -> bool:
    """Whether a selector selects what carries the labels; an empty selector selects everything."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def _holds(requirement: Json, labels: Labels) -> bool:
    """``NotIn`` holds for what lacks the label, too.

    Raises:
        ValueError: for an operator that the API does not have.
    """
    key, values = requirement["key"], requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"a label selector has no operator {requirement['operator']}")
