"""What a real Envoy would do with compiled configuration, as far as our planes go.

Written from Envoy's documentation and what a real one was seen to do; it shares no code with the
compiler. It takes the compiled files as text, so that what it judges is what is shipped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

Files = Mapping[str, str]


@dataclass(frozen=True)
class Connection:
    """Who connects: from which address, and with which SVID where it speaks the mesh's TLS."""

    address: str
    spiffe: str | None = None


@lru_cache(maxsize=512)
def load(text: str) -> Any:  # noqa: ANN401 - any YAML
    return yaml.load(text, Loader=yaml.CSafeLoader)


def inbound_listener(files: Files, port: int) -> dict[str, Any]:
    for resource in load(files["listeners.yaml"])["resources"]:
        if resource["name"] == f"inbound-{port}":
            assert isinstance(resource, dict)
            return resource
    raise KeyError(port)


def handshake_admits(files: Files, port: int, spiffe: str) -> bool:
    """Whether the list of a port admits an identity of the trusted CA."""
    secret = load(files[f"clients-{port}.yaml"])["resources"][0]
    matchers = secret["validation_context"].get("match_typed_subject_alt_names", [])
    # What makes an empty list dangerous.
    return not matchers or any(_matches(item["matcher"], spiffe) for item in matchers)


def rbac_admits(files: Files, port: int, spiffe: str) -> bool:
    """Whether the rules of a port admit an identity."""
    resource = load(files[f"rbac-{port}.yaml"])["resources"][0]
    assert resource["name"] == f"rbac-{port}"
    return _rules_admit(resource["typed_config"]["rules"], spiffe)


def admits(files: Files, port: int, connection: Connection) -> bool:
    """Whether a connection reaches the application, with an evaluator that allows everything."""
    chain = _chain(inbound_listener(files, port), connection)
    if chain is None:
        return False
    if "transport_socket" in chain:
        tls = chain["transport_socket"]["typed_config"]
        assert tls["require_client_certificate"] is True
        if connection.spiffe is None or not handshake_admits(files, port, connection.spiffe):
            return False
    return all(_passes(item, files, port, connection) for item in chain["filters"])


def asks_evaluator(files: Files, port: int, connection: Connection) -> bool | None:
    """``None`` where the evaluator is not asked; else whether silence from it lets pass."""
    chain = _chain(inbound_listener(files, port), connection)
    for item in chain["filters"] if chain else []:
        if item["name"] == "envoy.filters.network.ext_authz":
            return bool(item["typed_config"]["failure_mode_allow"])
    return None


def _passes(item: dict[str, Any], files: Files, port: int, connection: Connection) -> bool:
    if "config_discovery" in item:
        source = item["config_discovery"]["config_source"]["path_config_source"]["path"]
        assert source.endswith(f"/{item['name']}.yaml")
        return connection.spiffe is not None and rbac_admits(files, port, connection.spiffe)
    return bool(item["name"] != "envoy.filters.network.direct_response")


def _rules_admit(rules: dict[str, Any], spiffe: str | None) -> bool:
    assert rules["action"] == "ALLOW"
    return any(
        spiffe is not None
        and policy["permissions"] == [{"any": True}]
        and _matches(principal["authenticated"]["principal_name"], spiffe)
        for policy in rules["policies"].values()
        for principal in policy["principals"]
    )


def _matches(matcher: dict[str, str], spiffe: str) -> bool:
    ((kind, value),) = matcher.items()
    return spiffe == value if kind == "exact" else spiffe.startswith(value)


def _chain(listener: dict[str, Any], connection: Connection) -> dict[str, Any] | None:
    """Envoy's choice: ALPN before source network, the longest network first, no way back."""
    protocol = ["zt"] if connection.spiffe is not None else []
    chains = [(chain.get("filter_chain_match", {}), chain) for chain in listener["filter_chains"]]
    by_protocol = [
        (match, chain)
        for match, chain in chains
        if match.get("application_protocols", []) == protocol
    ] or [pair for pair in chains if "application_protocols" not in pair[0]]
    best: tuple[int, dict[str, Any] | None] = (-1, None)
    for match, chain in by_protocol:
        best = max(best, (_prefix(match, connection.address), chain), key=lambda pair: pair[0])
    return best[1]


def _prefix(match: dict[str, Any], address: str) -> int:
    """Length of the longest source network of a match that holds an address, or -1."""
    if "source_prefix_ranges" not in match:
        return 0
    ip = ipaddress.ip_address(address)
    networks = (
        ipaddress.ip_network(f"{item['address_prefix']}/{item['prefix_len']}")
        for item in match["source_prefix_ranges"]
    )
    return max((net.prefixlen for net in networks if ip in net), default=-1)
