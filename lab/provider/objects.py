"""Creates, updates, patches, reads and deletes one object, as the official provider does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lab.cluster.client import NOT_FOUND
from lab.provider.cluster import Cluster, Place, Refused
from lab.provider.shape import cut
from lab.provider.state import Known
from lab.provider.values import Json

_CREATOR = "pulumi-kubernetes"
# Whose fields an update takes over: its own creation's, and kubectl's apply.
_TAKEN_OVER = (_CREATOR, "kubectl", "before-first-apply")
_FORCE, _PROPAGATION = "pulumi.com/patchForce", "pulumi.com/deletionPropagationPolicy"
# A namespace or definition that an object needs may be made in the same moment.
_RETRIES, _FIRST_PAUSE = 5, 0.2
_PATIENCE, _PAUSE, _LONGEST_PAUSE = 600.0, 0.02, 0.5

T = TypeVar("T")


def identity_of(manifest: Json) -> str:
    """An object's ID in a state: ``<namespace>/<name>``, or its name alone."""
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


@dataclass(frozen=True, slots=True)
class Mode:
    """How writes go: ``force`` takes fields from other managers, ``dry`` only tries."""

    force: bool = False
    dry: bool = False


def create(cluster: Cluster, known: Known, mode: Mode) -> Known:
    """Create what the inputs ask for.

    Raises:
        Refused: if that can't be done; an object that exists is not taken over.
    """

    def attempt() -> Json:
        place, namespace, _ = _where(cluster, known.inputs)
        return cluster.create(place.path(namespace), known.inputs, _CREATOR, dry=mode.dry)

    live = attempt() if mode.dry else _retried(attempt)
    if not mode.dry and known.inputs["kind"] == "CustomResourceDefinition":
        _established(cluster, live)
    return replace(known, live=live)


def patch(cluster: Cluster, known: Known, mode: Mode) -> Known:
    """Apply fields to an object that others own.

    Raises:
        Refused: if that can't be done.
    """

    def attempt() -> Json:
        place, namespace, name = _where(cluster, known.inputs)
        force = mode.force or _annotated(known.inputs, _FORCE) == "true"
        return cluster.apply(
            place.path(namespace, name), known.inputs, known.manager, force=force, dry=mode.dry
        )

    return replace(known, live=attempt() if mode.dry else _retried(attempt))


def update(cluster: Cluster, known: Known, mode: Mode) -> Known:
    """Bring an object to what the inputs ask for.

    Raises:
        Refused: if that can't be done.
    """
    place, namespace, name = _where(cluster, known.inputs)
    path = place.path(namespace, name)
    found = cluster.get(path)
    if known.inputs["kind"] == "CustomResourceDefinition":
        version = found["metadata"]["resourceVersion"]
        metadata = {**known.inputs["metadata"], "resourceVersion": version}
        asked = {**known.inputs, "metadata": metadata}
        return replace(known, live=cluster.replace(path, asked, known.manager, dry=mode.dry))
    if not mode.dry:
        _take_over(cluster, path, found, known.manager)
    # A trial has taken nothing over, so it may meet its own creation's fields.
    own = mode.dry and any(item["manager"] == _CREATOR for item in _managers(found))
    return patch(cluster, known, replace(mode, force=mode.force or own))


def read(cluster: Cluster, known: Known) -> Known | None:
    """An object as it is, and its inputs as they would be now; ``None`` if it is gone.

    Raises:
        Refused: if the API server can't be asked.
    """
    try:
        place, namespace, name = _where(cluster, known.inputs)
        live = cluster.get(place.path(namespace, name))
    except Refused as error:
        if error.status == NOT_FOUND:
            return None
        raise
    return replace(known, live=live, inputs=cut(live, known.inputs))


def delete(cluster: Cluster, known: Known) -> None:
    """Delete an object, and wait until it is gone.

    Raises:
        Refused: if that can't be done in ten minutes.
    """
    try:
        place, namespace, name = _where(cluster, known.live)
        path = place.path(namespace, name)
        policy = _annotated(known.inputs, _PROPAGATION) or "foreground"
        cluster.delete(path, policy.capitalize())
        _await(lambda: _is_gone(cluster, path, known.live["metadata"].get("uid")), path)
    except Refused as error:
        if error.status != NOT_FOUND:
            raise


def release(cluster: Cluster, known: Known) -> None:
    """Give fields up that were applied to an object of others, which stays.

    Raises:
        Refused: if that can't be done.
    """
    place, namespace, name = _where(cluster, known.live)
    identity = {"name": name, **({"namespace": namespace} if place.namespaced else {})}
    nothing = {
        "apiVersion": known.live["apiVersion"],
        "kind": known.live["kind"],
        "metadata": identity,
    }
    try:
        # Applying to an object that is gone would make it.
        cluster.get(place.path(namespace, name))
        cluster.apply(place.path(namespace, name), nothing, known.manager, force=False, dry=False)
    except Refused as error:
        if error.status != NOT_FOUND:
            raise


def _where(cluster: Cluster, manifest: Json) -> tuple[Place, str | None, str]:
    metadata = manifest["metadata"]
    place = cluster.place(manifest["apiVersion"], manifest["kind"])
    return place, metadata.get("namespace"), metadata["name"]


def _annotated(manifest: Json, name: str) -> str | None:
    found = (manifest.get("metadata", {}).get("annotations") or {}).get(name)
    return found if isinstance(found, str) else None


def _retried(attempt: Callable[[], T]) -> T:
    """Try again while something is missing; a refusal for another reason is final."""
    for number in range(_RETRIES):
        try:
            return attempt()
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
        time.sleep(_FIRST_PAUSE * 2**number)
    return attempt()


def _await(reached: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + _PATIENCE, _PAUSE
    while not reached():
        if time.monotonic() > deadline:
            raise Refused(0, "Timeout", f"{what} is not done after {_PATIENCE:.0f} s")
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_gone(cluster: Cluster, path: str, uid: str | None) -> bool:
    """Another object of the same name is another object."""
    try:
        return bool(cluster.get(path)["metadata"]["uid"] != uid)
    except Refused as error:
        if error.status == NOT_FOUND:
            return True
        raise


def _established(cluster: Cluster, definition: Json) -> None:
    """Wait until objects of a new kind can be made."""
    name, spec = definition["metadata"]["name"], definition["spec"]
    path = f"/apis/{definition['apiVersion']}/customresourcedefinitions/{name}"
    versions = [f"{spec['group']}/{item['name']}" for item in spec["versions"] if item["served"]]

    def reached() -> bool:
        conditions = (cluster.get(path).get("status") or {}).get("conditions") or ()
        if not any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return False
        try:
            for version in versions:
                cluster.place(version, spec["names"]["kind"], fresh=True)
        except Refused:
            return False
        return True

    _await(reached, name)


# --- Field managers -------------------------------------------------------------------------------


def _managers(live: Json) -> list[Json]:
    return list(live["metadata"].get("managedFields") or ())


def _take_over(cluster: Cluster, path: str, live: Json, manager: str) -> None:
    """Make fields of the creation, and of kubectl's apply, fields that this manager applies.

    An update's fields and an apply's are two managers to the API server, even under one name.
    """
    managers = _managers(live)
    mine = [item for item in managers if _is_applied_by(item, manager)]
    taken = [item for item in managers if _is_taken_over(item)]
    if not taken:
        return
    joined: Json = {}
    for item in (*mine, *taken):
        joined = _joined(joined, item.get("fieldsV1", {}))
    entry = {**taken[0], "manager": manager, "operation": "Apply", "fieldsV1": joined}
    others = [item for item in managers if item not in mine and item not in taken]
    version = live["metadata"]["resourceVersion"]
    cluster.patch(
        path,
        [
            {"op": "replace", "path": "/metadata/managedFields", "value": [*others, entry]},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ],
    )


def _is_applied_by(entry: Json, manager: str) -> bool:
    return bool(entry["manager"] == manager and entry["operation"] == "Apply")


def _is_taken_over(entry: Json) -> bool:
    return entry["manager"] in _TAKEN_OVER and "subresource" not in entry


def _joined(one: Json, other: Json) -> Json:
    """Both sets of fields; the API server nests them by name."""
    both: dict[str, Any] = dict(one)
    for key, value in other.items():
        both[key] = _joined(both.get(key, {}), value) if isinstance(value, dict) else value
    return both
