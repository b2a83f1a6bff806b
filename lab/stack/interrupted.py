"""Takes up what an interrupted run left: a lock, and creations of which nobody knows the end.

The state says of such a creation that it was begun. Whether the object is there only the API server
knows; to make it once more would fail, since what exists is never taken over unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi import automation

from lab.provider.cluster import NOT_FOUND, Cluster, Refused
from zt.wellknown import MANAGED_BY

_PATCH = "Patch"


def resume(stack: automation.Stack, cluster: Cluster) -> tuple[str, ...]:
    """Take up what an interrupted run left: its lock, and creations of unknown end.

    An object that such a creation made is the stack's; one that was not made is made by the next
    ``up``. Returns the IDs of those that were there.

    Raises:
        automation.CommandError: if the engine can't.
    """
    stack.cancel()
    found = {
        urn: identity
        for urn, type_, identity in _pending(stack)
        if not type_.endswith(_PATCH) and _is_ours(cluster, type_, identity)
    }
    arguments = [word for pair in found.items() for word in pair]
    if arguments:
        _run(stack, ["--skip-pending-creates", *_each("--import-pending-creates", arguments)])
    _run(stack, ["--clear-pending-creates"])
    return tuple(sorted(found.values()))


def _pending(stack: automation.Stack) -> list[tuple[str, str, str]]:
    """URN, type and ID of each creation that was begun and never ended."""
    state: Mapping[str, Any] = stack.export_stack().deployment or {}
    begun = [
        operation["resource"]
        for operation in state.get("pending_operations") or ()
        if operation["type"] == "creating"
    ]
    return [(item["urn"], item["type"], _identity(item["inputs"])) for item in begun]


def _identity(inputs: Mapping[str, Any]) -> str:
    metadata = inputs["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def _is_ours(cluster: Cluster, type_: str, identity: str) -> bool:
    """Whether the creation got as far as the object; one that others made is theirs."""
    namespace, _, name = identity.rpartition("/")
    _, version, kind = type_.split(":")
    try:
        place = cluster.place(version.removeprefix("core/"), kind)
        found = cluster.get(place.path(namespace, name))
    except Refused as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return MANAGED_BY.items() <= (found["metadata"].get("labels") or {}).items()


def _each(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _run(stack: automation.Stack, options: list[str]) -> None:
    """Refresh with options that the Automation API has no names for."""
    stack._run_pulumi_cmd_sync(["refresh", "--yes", "--color=never", *options])  # noqa: SLF001
