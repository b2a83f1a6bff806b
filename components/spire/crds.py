"""The custom resources of spire-controller-manager, with schemas that refuse what it cannot use.

Its own validating webhook is not needed then: the schema holds while no SPIRE server runs, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.pods import metadata

GROUP = "spire.spiffe.io"
VERSION = "v1alpha1"

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_COUNT: Json = {"type": "integer", "minimum": 0}
# As Go reads and writes it: the controller-manager writes "0s" back where none was given.
_DURATION: Json = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"}
# Templates begin like this as well: {{ .TrustDomain }}.
_SPIFFE_ID: Json = {"type": "string", "pattern": r"^spiffe://[^/]+/.*[^/]$", "maxLength": 2048}
_SELECTOR: Json = {"type": "string", "pattern": r"^[^:]+:.+$"}
_TRUST_DOMAIN: Json = {"type": "string", "pattern": r"^[a-z0-9._-]{1,255}$"}
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def manifests() -> list[Json]:
    """One definition for each kind."""
    return [_spiffe_ids(), _static_entries(), _federated_trust_domains()]


def _list_of(items: Json, **further: int) -> Json:
    return {"type": "array", "items": items, **further}


def _object(properties: Mapping[str, Json], *required: str) -> Json:
    found: Json = {"type": "object", "properties": dict(properties)}
    return found | {"required": list(required)} if required else found


def _label_selector() -> Json:
    expression = _object(
        {
            "key": _TEXT,
            "operator": {"type": "string", "enum": list(_OPERATORS)},
            "values": _list_of(_TEXT),
        },
        "key",
        "operator",
    )
    return _object(
        {
            "matchLabels": {"type": "object", "additionalProperties": _TEXT},
            "matchExpressions": _list_of(expression),
        }
    )


def _spiffe_ids() -> Json:
    """An identity for the pods of a selector: one entry for each."""
    spec = _object(
        {
            "spiffeIDTemplate": _SPIFFE_ID,
            "ttl": _DURATION,
            "jwtTtl": _DURATION,
            "dnsNameTemplates": _list_of(_TEXT),
            "workloadSelectorTemplates": _list_of(_SELECTOR),
            "federatesWith": _list_of(_TRUST_DOMAIN),
            "namespaceSelector": _label_selector(),
            "podSelector": _label_selector(),
            "admin": _FLAG,
            "downstream": _FLAG,
            "autoPopulateDNSNames": _FLAG,
            "className": _TEXT,
            "fallback": _FLAG,
            "hint": _TEXT,
        },
        "spiffeIDTemplate",
    )
    counts = (
        "namespacesSelected",
        "namespacesIgnored",
        "podsSelected",
        "podEntryRenderFailures",
        "entriesMasked",
        "entriesToSet",
        "entryFailures",
    )
    status = _object({"stats": _object(dict.fromkeys(counts, _COUNT))})
    columns = [
        _column("ID", ".spec.spiffeIDTemplate"),
        _column("Pods", ".status.stats.podsSelected", "integer"),
        _column("Entries", ".status.stats.entriesToSet", "integer"),
        _column("Failures", ".status.stats.entryFailures", "integer"),
    ]
    return _definition("ClusterSPIFFEID", "clusterspiffeids", spec, status, columns)


def _static_entries() -> Json:
    """An entry as it is, for what runs outside Kubernetes."""
    spec = _object(
        {
            "spiffeID": _SPIFFE_ID,
            "parentID": _SPIFFE_ID,
            "selectors": _list_of(_SELECTOR, minItems=1),
            "federatesWith": _list_of(_TRUST_DOMAIN),
            "x509SVIDTTL": _DURATION,
            "jwtSVIDTTL": _DURATION,
            "dnsNames": _list_of(_TEXT),
            "hint": _TEXT,
            "admin": _FLAG,
            "downstream": _FLAG,
            "storeSVID": _FLAG,
            "className": _TEXT,
        },
        "spiffeID",
        "parentID",
        "selectors",
    )
    status = _object(dict.fromkeys(("rendered", "masked", "set"), _FLAG))
    columns = [
        _column("ID", ".spec.spiffeID"),
        _column("Parent", ".spec.parentID"),
        # `set` is true for the moment in which the entry is made, and false ever after.
        _column("Rendered", ".status.rendered", "boolean"),
        _column("Masked", ".status.masked", "boolean"),
    ]
    return _definition("ClusterStaticEntry", "clusterstaticentries", spec, status, columns)


def _federated_trust_domains() -> Json:
    """Another trust domain. Ours has none: the kind is here for other classes of the cluster."""
    profile = _object(
        {
            "type": {"type": "string", "enum": ["https_spiffe", "https_web"]},
            "endpointSPIFFEID": _SPIFFE_ID,
        },
        "type",
    )
    profile["x-kubernetes-validations"] = [
        {
            "rule": "self.type != 'https_spiffe' || has(self.endpointSPIFFEID)",
            "message": "https_spiffe needs endpointSPIFFEID",
        }
    ]
    spec = _object(
        {
            "trustDomain": _TRUST_DOMAIN,
            "bundleEndpointURL": {"type": "string", "pattern": r"^https://[^@]+$"},
            "bundleEndpointProfile": profile,
            "trustDomainBundle": _TEXT,
            "className": _TEXT,
        },
        "trustDomain",
        "bundleEndpointURL",
        "bundleEndpointProfile",
    )
    columns = [
        _column("Trust domain", ".spec.trustDomain"),
        _column("Endpoint", ".spec.bundleEndpointURL"),
    ]
    plural = "clusterfederatedtrustdomains"
    return _definition("ClusterFederatedTrustDomain", plural, spec, {"type": "object"}, columns)


def _column(name: str, path: str, kind: str = "string") -> Json:
    return {"name": name, "type": kind, "jsonPath": path}


def _definition(kind: str, plural: str, spec: Json, status: Json, columns: list[Json]) -> Json:
    schema = _object(
        {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "spec",
    )
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata(f"{plural}.{GROUP}"),
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
            },
            "versions": [version],
        },
    }
