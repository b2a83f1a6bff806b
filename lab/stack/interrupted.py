"""Takes up what an interrupted run left: a lock, and creations of which nobody knows the end.

The state says of such a creation that it was begun. Whether the object is there only the API server
knows; to make it once more would fail, since what exists is never taken over unasked.
`pulumi refresh --import-pending-creates` only forgets it (3.259), so the state itself is completed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pulumi import automation

from lab.cluster.client import NOT_FOUND
from lab.provider.cluster import Cluster, Refused
from lab.provider.objects import identity_of
from zt.wellknown import MANAGED_BY

Json = dict[str, Any]
# Whether a creation got as far as the object: by type token and ID.
IsThere = Callable[[str, str], bool]
_PATCH = "Patch"


def resume(stack: automation.Stack, cluster: Cluster) -> tuple[str, ...]:
    """Release the lock, and settle what was begun: what was made is the stack's, the rest is not.

    The next ``up`` makes what is missing. Returns the URNs of what had been made.

    Raises:
        automation.CommandError: if the engine can't.
        Refused: if the API server can't be asked.
    """
    stack.cancel()
    exported = stack.export_stack()
    state = dict(exported.deployment or {})
    settled, made = completed(state, lambda type_, identity: is_ours(cluster, type_, identity))
    if settled != state:
        stack.import_stack(automation.Deployment(exported.version, settled))
    if made:
        stack.refresh(color="never")  # the state has yet to learn what the objects are like
    return made


def completed(state: Json, is_there: IsThere) -> tuple[Json, tuple[str, ...]]:
    """A state without anything begun, and the URNs of what was made beyond what it said.

    Fields that a patch has set are none of these: to set them again does no harm.
    """
    settled = copy.deepcopy(state)
    known = {item["urn"] for item in settled.get("resources") or ()}
    made: list[str] = []
    for item in _begun(settled):
        if _is_made(item, is_there) and _references(item) <= known:
            settled["resources"].append(item)
            known.add(item["urn"])
            made.append(item["urn"])
    settled.pop("pending_operations", None)
    return settled, tuple(made)


def is_ours(cluster: Cluster, type_: str, identity: str) -> bool:
    """Whether an object is there, and ours by its label: one that others made is theirs.

    Raises:
        Refused: if the API server can't be asked.
    """
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


def _begun(state: Mapping[str, Any]) -> Iterable[Json]:
    """Resources whose creation was begun, in that order."""
    for operation in state.get("pending_operations") or ():
        if operation["type"] == "creating":
            yield operation["resource"]


def _is_made(item: Json, is_there: IsThere) -> bool:
    """Whether a creation is to be taken for ended; an object gets its ID then."""
    if not item["custom"]:
        return True  # a component is nothing but its record
    if not item["type"].startswith("kubernetes:") or item["type"].endswith(_PATCH):
        return False
    identity = identity_of(item["inputs"])
    if not is_there(item["type"], identity):
        return False
    item["id"] = identity
    return True


def _references(item: Json) -> set[str]:
    """URNs that a state must have before this resource."""
    provider = str(item.get("provider") or "").rpartition("::")[0]
    found = {item.get("parent"), provider, *(item.get("dependencies") or ())}
    return {urn for urn in found if urn}
