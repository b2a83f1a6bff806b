"""Kubernetes objects as resources: the one place where a manifest becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from zt.wellknown import LABEL_PREFIX

Manifest = Mapping[str, Any]

# What in a Secret is encrypted in the state.
_SECRET_FIELDS = ("data", "stringData")

_STAMP = f"{LABEL_PREFIX}reapply"


def register(
    manifest: Manifest,
    parent: pulumi.ComponentResource,
    *,
    depends_on: Sequence[pulumi.Resource] = (),
    patch: bool = False,
    **options: Any,  # noqa: ANN401 - those of pulumi.ResourceOptions
) -> pulumi.CustomResource:
    """Register one object under a component, whose Kubernetes provider it takes.

    With ``patch`` fields are set on an object that others own: it is there before, and stays.
    Further options are those of ``pulumi.ResourceOptions``. Values may be outputs, except name and
    namespace, which the resource is named after.
    """
    kind = manifest["kind"]
    secret = list(_SECRET_FIELDS) if kind == "Secret" else None
    merged = pulumi.ResourceOptions(
        parent=parent,
        depends_on=list(depends_on),
        additional_secret_outputs=secret,
        **options,
    )
    return pulumi.CustomResource(
        token_of(manifest["apiVersion"], f"{kind}Patch" if patch else kind),
        resource_name(parent, manifest),
        dict(manifest),
        merged,
    )


def stamped(manifest: Manifest, text: str) -> Manifest:
    """A manifest that is written whole whenever the text is another.

    Pulumi compares as much of a list as the program says, so that an element which somebody
    appended by hand would stay.
    """
    if not text:
        return manifest
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), _STAMP: text}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def token_of(api_version: str, kind: str) -> str:
    """Pulumi's type token of a kind, e.g. ``kubernetes:core/v1:ConfigMap``."""
    qualified = api_version if "/" in api_version else f"core/{api_version}"
    return f"kubernetes:{qualified}:{kind}"


def resource_name(parent: pulumi.ComponentResource, manifest: Manifest) -> str:
    """``<component>:<namespace>/<name>``, without the namespace for what has none.

    Kind is part of the type token already.
    """
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace")
    where = f"{namespace}/" if namespace else ""
    return f"{parent._name}:{where}{metadata['name']}"  # noqa: SLF001 - has no public name
