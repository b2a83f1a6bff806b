"""What a kubelet makes of a container's arguments.

Written from the Kubernetes API's description of ``args``: ``$(NAME)`` is replaced by a variable of
the container's environment, and stays as it is where there is none; ``$$`` is a dollar sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


def arguments(container: Mapping[str, Any], fields: Mapping[str, str]) -> list[str]:
    """The arguments, where the pod's fields are these."""
    environment = {item["name"]: _value(item, fields) for item in container.get("env", ())}
    return [_expanded(text, environment) for text in container.get("args", ())]


def _value(item: Mapping[str, Any], fields: Mapping[str, str]) -> str:
    if "value" in item:
        return str(item["value"])
    return fields[item["valueFrom"]["fieldRef"]["fieldPath"]]


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found.group(0) == "$$":
            return "$"
        return environment.get(found.group(1), found.group(0))

    return _REFERENCE.sub(replaced, text)
