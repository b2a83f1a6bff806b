"""A sidecar's compiled files as one bootstrap, where a pod would watch each of them.

Envoy takes an inotify instance for every file that it watches, some nine for each sidecar, and
Linux gives a user 128 unless told otherwise: a dozen sidecars would use them up. Nobody changes the
policy of a running local mesh, so only the SVID is watched. The resources stay as compiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zt.bundle import CompiledFile

Json = dict[str, Any]

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105
_LISTENERS, _CLUSTERS, _BOOTSTRAP = "listeners.yaml", "clusters.yaml", "bootstrap.yaml"
_CERTIFICATES = "tls_certificate_sds_secret_configs"
_VALIDATION = "validation_context_sds_secret_config"
_SPIRE_BUNDLE = "ROOTCA"


def bootstrap(files: Iterable[CompiledFile], svid: Path, bundle: Path) -> Json:
    """One ``config.bootstrap.v3.Bootstrap`` that says what all files of a sidecar say.

    ``svid`` is the SDS file in a folder that is swapped, ``bundle`` the PEM file of the trust
    bundle: they stand for the SPIRE agent.
    """
    contents = {file.path.rpartition("/")[2]: file.manifest() for file in files}
    own: Json = contents.pop(_BOOTSTRAP)
    listeners = _resources(contents.pop(_LISTENERS))
    clusters = _resources(contents.pop(_CLUSTERS))
    others = [resource for content in contents.values() for resource in _resources(content)]
    secrets = [_untyped(item) for item in others if item["@type"] == _SECRET]
    filters = {item["name"]: _untyped(item) for item in others if item["@type"] != _SECRET}
    inline = _Inline(filters, _file_source(svid))
    roots = {"trusted_ca": {"filename": str(bundle)}}
    static = {
        "listeners": [inline.of(_untyped(item)) for item in listeners],
        "clusters": [inline.of(_untyped(item)) for item in clusters],
        "secrets": [*secrets, {"name": _SPIRE_BUNDLE, "validation_context": roots}],
    }
    # Its own static resources are the way to the agent, which is not here.
    rest = {name: own[name] for name in own if name != "dynamic_resources"}
    return {**rest, "static_resources": static}


@dataclass(frozen=True, slots=True)
class _Inline:
    """Puts what would be discovered in its place: filters by name, and the SVID's source."""

    filters: dict[str, Json]
    svid: Json

    def of(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "config_discovery" in value:
            return self.filters[value["name"]]
        return {name: self._field(name, item) for name, item in value.items()}

    def _field(self, name: str, item: Any) -> Any:  # noqa: ANN401 - any JSON value
        if name == _CERTIFICATES:
            return [{"name": found["name"], "sds_config": self.svid} for found in item]
        if name == _VALIDATION:
            # A reference without a source is to a secret of the bootstrap.
            return {"name": item["name"]}
        return self.of(item)


def _file_source(file: Path) -> Json:
    """``core.v3.ConfigSource`` of a file that is read again whenever its folder is swapped."""
    return {
        "resource_api_version": "V3",
        # Without it Envoy turns ready without a certificate.
        "initial_fetch_timeout": "0s",
        "path_config_source": {
            "path": str(file),
            "watched_directory": {"path": str(file.parent)},
        },
    }


def _resources(content: Json) -> list[Json]:
    found: list[Json] = content["resources"]
    return found


def _untyped(resource: Json) -> Json:
    """Lists of a bootstrap have one type, so their entries do not name it."""
    return {name: value for name, value in resource.items() if name != "@type"}
