"""What comes in: one listener for each declared port.

Enforced, a port takes the mesh's own TLS from the clients on its list, then the evaluator's word,
then the local rules. Its door to the outside, where a rule opens one, is for addresses of that
ExternalService alone, and never for a pod's. Observed (or in canary), it takes everything side by
side and asks the evaluator, which records.

The evaluator ends the mesh's TLS itself, and decides about its own callers: in a cluster its
sidecar has no part in what comes in.

Filter chains are told apart by ALPN first and by source network then; no chain asks for a
transport protocol, because Envoy never goes back to a broader match of a broader kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import partial

from zt.compile.envoy.resources import (
    ENFORCED_PATIENCE,
    NOBODY,
    OBSERVED_PATIENCE,
    REPORT_AGAIN,
    Json,
    Sidecar,
    blank_address,
    cluster,
    discovery_type,
    downstream_tls,
    exactly,
    extension,
    listener,
    tcp_proxy,
    tls_inspector,
    to_evaluator,
    within,
)
from zt.effective import Grant, Inbound
from zt.emit import Filled, Form, Fragment, blank, note
from zt.model import ExternalService, Phase, Protocol, Service
from zt.wellknown import ALPN

_RBAC = "filters.network.rbac.v3.RBAC"
_NAME = Form(exactly(blank("spiffe")))
_PRINCIPAL = Form({"authenticated": {"principal_name": {"exact": blank("spiffe")}}})
_ANYTHING = Fragment([{"any": True}])
_MESH = "mesh"
_NO_PODS = "no-pods"


def inbound_listeners(car: Sidecar) -> Iterator[Filled]:
    """A listener for each declared port."""
    build = _enforced if _is_enforced(car) else _observed
    for inbound in car.captured:
        form = car.fragments.form(_shape(car, inbound), partial(build, car, inbound))
        address = car.placement.inbound(car.service, inbound.port.port)
        yield form.fill(destination=car.spiffe, host=address.host, port=address.port)


def _shape(car: Sidecar, inbound: Inbound) -> tuple[Hashable, ...]:
    """What a listener depends on beside its blanks; most services of a cluster share a few."""
    port = inbound.port
    lists = car.source(f"{_clients(port.port)}.yaml")
    doors = tuple((grant.rule.name, grant.source) for grant in inbound.externals)
    return "inbound", lists, port.port, port.protocol, _is_enforced(car), doors


def inbound_clusters(car: Sidecar) -> Iterator[Fragment]:
    """The application behind each declared port."""
    for inbound in car.captured:
        number = inbound.port.port
        address = car.placement.application(car.service, number)
        yield car.fragments.of(cluster(_application(number), address, discovery_type(address)))


def inbound_files(car: Sidecar) -> Iterator[tuple[str, str, Json]]:
    """File name, header and resource of the lists: who completes a handshake, who passes RBAC."""
    for inbound in car.captured:
        number = inbound.port.port
        if not _is_enforced(car):
            header = f"Observed: any SVID of the trust domain completes a handshake on {number}."
            yield f"{_clients(number)}.yaml", header, _everybody(car, number)
            continue
        header = f"Who completes a handshake on port {number}: nobody else does."
        yield f"{_clients(number)}.yaml", header, _handshake_list(car, inbound)
        header = f"Who passes on port {number} after the evaluator: no policy denies everyone."
        yield f"{_rbac(number)}.yaml", header, _rbac_list(car, inbound)


def _is_enforced(car: Sidecar) -> bool:
    return car.own.phase is Phase.ENFORCE


def _application(number: int) -> str:
    return f"application-{number}"


def _clients(number: int) -> str:
    return f"clients-{number}"


def _rbac(number: int) -> str:
    return f"rbac-{number}"


# --- Lists ----------------------------------------------------------------------------------------


def _handshake_list(car: Sidecar, inbound: Inbound) -> Json:
    names = [
        note(_NAME.fill(spiffe=_spiffe(car, grant)), grant.rule.name) for grant in inbound.clients
    ]
    nobody = note(exactly(NOBODY), "No rule lets anyone in; an empty list would let all in.")
    return car.secret(
        _clients(inbound.port.port), {"match_typed_subject_alt_names": names or [nobody]}
    )


def _everybody(car: Sidecar, number: int) -> Json:
    prefix = {"prefix": f"spiffe://{car.mesh.trust_domain}/"}
    anyone = {"san_type": "URI", "matcher": prefix}
    return car.secret(_clients(number), {"match_typed_subject_alt_names": [anyone]})


def _rbac_list(car: Sidecar, inbound: Inbound) -> Json:
    policies: dict[str, Json] = {}
    for grant in inbound.clients:
        policy = policies.setdefault(grant.rule.name, {"permissions": _ANYTHING, "principals": []})
        policy["principals"].append(_PRINCIPAL.fill(spiffe=_spiffe(car, grant)))
    number = inbound.port.port
    filter_config = extension(
        _rbac(number), _RBAC, stat_prefix=f"inbound-{number}", **_allow(policies)
    )
    return {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        **filter_config,
    }


def _allow(policies: dict[str, Json]) -> Json:
    return {"rules": {"action": "ALLOW", "policies": policies}}


def _spiffe(car: Sidecar, grant: Grant) -> str:
    assert isinstance(grant.source, Service)  # noqa: S101 - what `clients` holds
    return grant.source.spiffe(car.mesh)


# --- Listeners ------------------------------------------------------------------------------------


def _enforced(car: Sidecar, inbound: Inbound) -> Json:
    number = inbound.port.port
    mesh = {
        "name": f"{_MESH}-{number}",
        "transport_socket_connect_timeout": "5s",
        "transport_socket": downstream_tls(car, _clients(number)),
        "filters": [
            _ask_evaluator(number, fail_open=False),
            _rbac_filter(car, number),
            _to_application(inbound, mesh=True),
        ],
    }
    if not inbound.externals:
        # The only chain, so that a peer who speaks anything else fails its handshake, on record.
        return _listener(number, [mesh])
    doors = [_door(inbound, grant) for grant in inbound.externals]
    chains = [{"filter_chain_match": _mesh_match(), **mesh}, _no_pods(car, number), *doors]
    return _listener(number, chains, inspect=True)


def _observed(car: Sidecar, inbound: Inbound) -> Json:
    number = inbound.port.port
    ask = _ask_evaluator(number, fail_open=True)
    mesh = {
        "name": f"{_MESH}-{number}",
        "filter_chain_match": _mesh_match(),
        "transport_socket_connect_timeout": "5s",
        "transport_socket": downstream_tls(car, _clients(number)),
        "filters": [ask, _to_application(inbound, mesh=True)],
    }
    as_it_comes = {
        "name": f"as-it-comes-{number}",
        "filters": [ask, _to_application(inbound, mesh=False)],
    }
    return _listener(number, [mesh, as_it_comes], inspect=True)


def _mesh_match() -> Json:
    return {"application_protocols": [ALPN]}


def _no_pods(car: Sidecar, number: int) -> Json:
    """Pods must come by their identity: theirs are the longer prefixes, so this chain is theirs."""
    networks = car.placement.pod_networks(car.mesh)
    closed = extension(
        "envoy.filters.network.direct_response", "filters.network.direct_response.v3.Config"
    )
    return _noted(
        "Pods do not come in by the door for the outside.",
        {
            "name": f"{_NO_PODS}-{number}",
            "filter_chain_match": {"source_prefix_ranges": _ranges(networks)},
            "filters": [closed],
        },
    )


def _noted(comment: str, chain: Json) -> Json:
    return note(chain, comment)  # type: ignore[return-value]


def _door(inbound: Inbound, grant: Grant) -> Json:
    number = inbound.port.port
    assert isinstance(grant.source, ExternalService)  # noqa: S101 - what `externals` holds
    return _noted(
        grant.rule.name,
        {
            "name": f"{grant.source.name}-{number}",
            "filter_chain_match": {
                "source_prefix_ranges": _ranges(tuple(map(str, grant.source.cidrs)))
            },
            "filters": [
                _ask_evaluator(number, fail_open=False),
                _to_application(inbound, mesh=False),
            ],
        },
    )


def _ranges(networks: tuple[str, ...]) -> list[Json]:
    pairs = (network.split("/") for network in networks)
    return [{"address_prefix": address, "prefix_len": int(length)} for address, length in pairs]


def _listener(number: int, chains: list[Json], *, inspect: bool = False) -> Json:
    inspection = {
        "listener_filters": [tls_inspector()],
        # A server-first protocol in plaintext waits this long before its greeting comes.
        "listener_filters_timeout": "1s",
        "continue_on_listener_filters_timeout": True,
    }
    return listener(
        f"inbound-{number}",
        blank_address(),
        "INBOUND",
        access_log=[_refusals(number, inspect=inspect)],
        **(inspection if inspect else {}),
        filter_chains=chains,
    )


def _to_application(inbound: Inbound, *, mesh: bool) -> Json:
    """Hand a connection to the application: not before its peer has been accepted.

    Left alone, Envoy dials the application as soon as a connection arrives, also for a peer that is
    refused. A server that speaks first would wait for ever for the client's first byte.
    """
    number = inbound.port.port
    if not mesh:
        return tcp_proxy(f"inbound-{number}", _application(number))
    server_may_speak_first = inbound.port.protocol is Protocol.TCP
    mode = "ON_DOWNSTREAM_TLS_HANDSHAKE" if server_may_speak_first else "ON_DOWNSTREAM_DATA"
    return tcp_proxy(
        f"inbound-{number}",
        _application(number),
        upstream_connect_mode=mode,
        max_early_data_bytes=16384,
    )


def _rbac_filter(car: Sidecar, number: int) -> Json:
    return {
        "name": _rbac(number),
        "config_discovery": {
            "config_source": car.source(f"{_rbac(number)}.yaml"),
            "type_urls": [f"type.googleapis.com/envoy.extensions.{_RBAC}"],
        },
    }


def _ask_evaluator(number: int, *, fail_open: bool) -> Json:
    patience = OBSERVED_PATIENCE if fail_open else ENFORCED_PATIENCE
    return extension(
        "envoy.filters.network.ext_authz",
        "filters.network.ext_authz.v3.ExtAuthz",
        stat_prefix=f"inbound-{number}",
        transport_api_version="V3",
        include_peer_certificate=True,
        include_tls_session=True,
        failure_mode_allow=fail_open,
        grpc_service={**to_evaluator(blank("destination"), number), **within(patience)},
    )


def _refusals(number: int, *, inspect: bool) -> Json:
    """Reports connections that the evaluator never saw: refused at the handshake, or by a list.

    The TLS inspector calls plaintext a failure too, also where it is welcome; so beside it only the
    mesh's own chain, the chain that refuses pods, and the lack of any chain count.
    """
    refused = "has(connection.transport_failure_reason) || has(connection.termination_details)"
    if inspect:
        chain = "xds.filter_chain_name"
        refused = (
            f"({chain}.startsWith('{_MESH}-') && ({refused}))"
            f" || {chain}.startsWith('{_NO_PODS}-') || {chain} == ''"
        )
    return {
        "name": "envoy.access_loggers.tcp_grpc",
        "filter": {
            "extension_filter": extension(
                "envoy.access_loggers.extension_filters.cel",
                "access_loggers.filters.cel.v3.ExpressionFilter",
                expression=refused,
            )
        },
        "typed_config": {
            "@type": (
                "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
            ),
            "common_config": {
                "log_name": f"inbound-{number}",
                "transport_api_version": "V3",
                "grpc_service": to_evaluator(blank("destination"), number),
                "buffer_flush_interval": "0.1s",
                "buffer_size_bytes": 0,
                "grpc_stream_retry_policy": REPORT_AGAIN,
            },
        },
    }
