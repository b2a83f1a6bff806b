"""Collects what tells why a lab failed, in one folder: events, pods, and every log."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.cluster.client import Client
from lab.cluster.model import LabError, Layout

Json = dict[str, Any]

_LINES = 500
_LISTS = {
    "events": "/api/v1/events",
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "jobs": "/apis/batch/v1/jobs",
}


def gather(layout: Layout, cluster: str, api: Client) -> Path:
    """Write all that is known of a cluster below ``<state>/failures``; returns the folder.

    What can't be had is left out: whoever calls this has something worse to tell.
    """
    target = layout.failures / f"{time.strftime('%Y%m%d-%H%M%S')}-{cluster}"
    target.mkdir(parents=True, mode=0o700, exist_ok=True)
    for name, path in _LISTS.items():
        found = _asked(api, path)
        if found is not None:
            (target / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    for name, text in _logs(api):
        (target / f"{name}.log").write_text(text, encoding="utf-8")
    shutil.copytree(layout.run.logs, target / "processes", dirs_exist_ok=True)
    return target


def _asked(api: Client, path: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return api.get(path)
    except (LabError, OSError):
        return None


def _logs(api: Client) -> Iterator[tuple[str, str]]:
    """Last lines of every container, also of the one before it was restarted."""
    for pod in (_asked(api, _LISTS["pods"]) or {"items": []})["items"]:
        metadata, spec = pod["metadata"], pod["spec"]
        base = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            for suffix, before in (("", ""), (".before", "&previous=true")):
                query = f"?container={container['name']}&tailLines={_LINES}{before}"
                text = _asked(api, base + query)
                if isinstance(text, str) and text:
                    name = f"{metadata['namespace']}.{metadata['name']}.{container['name']}"
                    yield name + suffix, text
