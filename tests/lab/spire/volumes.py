"""Volumes of a pod as folders, filled from the API as a kubelet fills them."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster.client import Client

Json = dict[str, Any]

_MODE = 0o644
_PATIENCE = 60.0


class MissingError(Exception):
    """What a volume needs is not there yet: a pod waits for it."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """Makes the volumes of one pod below a folder; ``node`` stands for the node's own files."""

    api: Client
    pod: Json
    folder: Path
    node: Path

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def group(self) -> int:
        return int(self.pod["spec"].get("securityContext", {}).get("fsGroup", 0))

    def make(self) -> Mapping[str, Path]:
        """Wait for all of them, as a pod does in ContainerCreating."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return {item["name"]: self._volume(item) for item in self.pod["spec"]["volumes"]}
            except MissingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _volume(self, volume: Json) -> Path:
        (kind,) = volume.keys() - {"name"}
        if kind == "hostPath":
            target: Path = self.node / str(volume[kind]["path"]).lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            return target
        target = self.folder / str(volume["name"])
        target.mkdir(parents=True, exist_ok=True)
        os.chown(target, 0, self.group)
        if kind in {"emptyDir", "persistentVolumeClaim"}:
            target.chmod(0o2777)
            return target
        mode = volume[kind].get("defaultMode", _MODE)
        sources = volume[kind].get("sources") or [{kind: volume[kind]}]
        for source in sources:
            ((name, value),) = source.items()
            for path, content in _SOURCES[name](self, value).items():
                self._write(target / path, content, mode)
        return target

    def _write(self, path: Path, content: bytes, mode: int) -> None:
        """With ``fsGroup``, the group may read: the mode is at least 0440."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.chown(path, 0, self.group)
        path.chmod(mode | 0o440 if self.group else mode)

    def config_map(self, source: Json) -> Mapping[str, bytes]:
        return self._keys("configmaps", source["name"], source, str.encode)

    def secret(self, source: Json) -> Mapping[str, bytes]:
        name = source.get("secretName") or source["name"]
        return self._keys("secrets", name, source, base64.b64decode)

    def _keys(
        self, kind: str, name: str, source: Json, decode: Callable[[str], bytes]
    ) -> Mapping[str, bytes]:
        found = self.api.get(f"/api/v1/namespaces/{self.namespace}/{kind}/{name}")
        if found is None and not source.get("optional"):
            raise MissingError(f"{kind} {name}")
        data = (found or {}).get("data", {})
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        missing = [item["key"] for item in items if item["key"] not in data]
        if missing and not source.get("optional"):
            raise MissingError(f"{kind} {name}: {missing}")
        return {item["path"]: decode(data[item["key"]]) for item in items if item["key"] in data}

    def token(self, source: Json) -> Mapping[str, bytes]:
        """A token bound to this pod, as the kubelet asks for it."""
        metadata = self.pod["metadata"]
        pod = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec: Json = {
            "audiences": [source["audience"]] if "audience" in source else [],
            "expirationSeconds": source["expirationSeconds"],
            "boundObjectRef": pod,
        }
        account = self.pod["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.api.create(path, request)
        return {source["path"]: answer.body["status"]["token"].encode()}

    def downward(self, source: Json) -> Mapping[str, bytes]:
        for item in source["items"]:
            assert item["fieldRef"]["fieldPath"] == "metadata.namespace"
        return {item["path"]: self.namespace.encode() for item in source["items"]}


_SOURCES: Mapping[str, Callable[[Volumes, Json], Mapping[str, bytes]]] = {
    "configMap": Volumes.config_map,
    "secret": Volumes.secret,
    "serviceAccountToken": Volumes.token,
    "downwardAPI": Volumes.downward,
}
