"""The access log, through real gRPC streams."""

import asyncio
from pathlib import Path

import grpc
import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import TCPAccessLogEntry

from engine.metrics.families import APPEND_FAILURES, WITHOUT_IDENTITY
from tests.engine.envoy.conftest import Evaluator
from tests.engine.samples import (
    API,
    CAUTIOUS,
    DB,
    DOMAIN,
    ENGINE,
    NEW,
    WEB,
    Authority,
    Desk,
    eventually,
)
from tests.engine.sidecar import about, counts, entry, report

pytestmark = pytest.mark.anyio


def failure(sign: str) -> str:
    """How Envoy 1.40 reports that a handshake failed."""
    return f"TLS_error:|268435581:SSL routines:OPENSSL_internal:{sign}:TLS_error_end"


def unverified(sign: str) -> str:
    return failure(f"CERTIFICATE_VERIFY_FAILED:verify cert failed: {sign}")


DEPTH = "X509_verify_cert: certificate verification error at depth 0: "
NOT_ON_LIST = unverified(f"SAN matcher, certificate SANs are [{WEB}]")
EXPIRED = unverified(f"{DEPTH}certificate has expired")
UNTRUSTED = unverified(f"{DEPTH}unable to get local issuer certificate")
NO_CERTIFICATE = failure(
    "PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate"
)
PLAINTEXT = failure("HTTP_REQUEST")
BINARY = failure("WRONG_VERSION_NUMBER")
OLD_TLS = failure("UNSUPPORTED_PROTOCOL")
OUTSIDE = "198.51.100.7"
RBAC = "rbac_access_denied_matched_policy[none]"
SILENT = "transport socket timeout was reached"
# tls_inspector's note on a connection that it lets pass.
INSPECTED = "TLS_error|error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end"


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (entry(uri=API, reason=NOT_ON_LIST), (API, "handshake", "not_on_list")),
        (entry(uri=CAUTIOUS, reason=NOT_ON_LIST), (CAUTIOUS, "handshake", "no_rule")),
        (
            entry(uri=DOMAIN + "x", reason=NOT_ON_LIST),
            (DOMAIN + "x", "handshake", "unknown_source"),
        ),
        (entry(reason=NOT_ON_LIST), (WEB, "handshake", "not_on_list")),
        (entry(reason=EXPIRED), (WEB, "handshake", "certificate_expired")),
        (entry(reason=EXPIRED.replace(" ", "_")), (WEB, "handshake", "certificate_expired")),
        (entry(reason=UNTRUSTED), (None, "handshake", "certificate_untrusted")),
        (entry(uri=None, reason=NO_CERTIFICATE), (None, "handshake", "no_certificate")),
        (entry(uri=None, reason=PLAINTEXT), (None, "handshake", "not_tls")),
        (entry(uri=None, reason=BINARY), (None, "handshake", "not_tls")),
        (entry(uri=None, reason=OLD_TLS), (None, "handshake", "handshake_failed")),
        (entry(uri=None, details=SILENT), (None, "handshake", "handshake_failed")),
        (entry(uri=CAUTIOUS, details=RBAC), (CAUTIOUS, "rbac", "no_rule")),
        (entry(details=RBAC, upstream="application-5432"), (WEB, "rbac", "not_on_list")),
        (entry(uri=None, details=RBAC, reason=INSPECTED), (WEB, "rbac", "plaintext")),
        (entry(uri=None, reason=INSPECTED), (WEB, "listener", "plaintext")),
        (entry(uri=None), (WEB, "listener", "plaintext")),
    ],
)
async def test_each_refusal_is_one_record_of_its_layer(
    desk: Desk,
    evaluator: Evaluator,
    reported: TCPAccessLogEntry,
    expected: tuple[str | None, str, str],
) -> None:
    async with evaluator(desk) as target:
        await report(target, [reported])
    (record,) = desk.outcomes
    assert (record.source_id, record.layer, record.reason) == expected
    assert record.verdict == "DENY"
    assert (record.destination_id, record.destination_port) == (DB, 5432)
    assert (record.source_pod, record.source_node) == ("web-1", "n1")


async def test_a_peer_from_outside_that_no_chain_takes_is_recorded(
    desk: Desk, evaluator: Evaluator
) -> None:
    lost = entry(uri=None, source_address=OUTSIDE)
    lost.common_properties.response_flags.no_route_found = True
    async with evaluator(desk) as target:
        await report(target, [lost])
    (record,) = desk.outcomes
    assert (record.source_id, record.layer) == ("external:internet", "listener")


async def test_a_pod_that_goes_without_a_word_was_not_refused_where_observed(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        await report(target, [entry(uri=None)], about(NEW))
        await report(target, [entry(uri=None)], about(CAUTIOUS))
    assert desk.outcomes == []


async def test_a_pod_that_nobody_knows_is_refused_without_a_name(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        await report(target, [entry(uri=None, source_address="10.0.77.7")])
    (record,) = desk.outcomes
    assert (record.source_id, record.layer, record.verdict) == (None, "listener", "DENY")


async def test_a_name_that_was_not_proven_is_never_granted(
    desk: Desk, evaluator: Evaluator
) -> None:
    """The rule is named, but neither verdict nor metric takes the certificate's word."""
    async with evaluator(desk) as target:
        await report(target, [entry(reason=UNTRUSTED)])
    (record,) = desk.outcomes
    assert (record.would_be, record.reason) == ("DENY", "certificate_untrusted")
    assert counts(desk)["zt_decisions_total", "deny", "unknown", DB] == 1


async def test_refusals_without_identity_are_counted_by_reason(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        await report(
            target,
            [
                entry(uri=None, reason=NO_CERTIFICATE),
                entry(uri=None, reason=PLAINTEXT),
                entry(uri=None, reason=PLAINTEXT),
                entry(reason=EXPIRED),
            ],
        )
    refused = {key: count for key, count in counts(desk).items() if key[0] == WITHOUT_IDENTITY}
    assert refused == {(WITHOUT_IDENTITY, "no_certificate"): 1, (WITHOUT_IDENTITY, "not_tls"): 2}


async def test_what_was_not_refused_by_the_sidecar_is_no_record(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        await report(
            target,
            [
                entry(upstream="application-5432"),
                entry(details="idle timeout", upstream="application-5432"),
                entry(uri=None, source_address=OUTSIDE),
                entry(uri=None, reason=INSPECTED, source_address=OUTSIDE),
                entry(uri=None, reason=INSPECTED, upstream="application-5432"),
                entry(uri=None, reason=INSPECTED, unauthorized=True),
            ],
        )
    assert desk.outcomes == []


async def test_a_sidecar_reports_its_own_connections_alone(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    async with evaluator(desk, tmp_path / "svid") as target:
        await report(target, [entry(reason=EXPIRED)], authority=authority, spiffe=DB)
        for metadata in (about(WEB), (("zt-port", "5432"),)):
            with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
                await report(
                    target, [entry(reason=EXPIRED)], metadata, authority=authority, spiffe=DB
                )
    assert len(desk.outcomes) == 1


async def test_a_refusal_waits_for_the_trail(
    desk: Desk, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.envoy.http2.RETRY", 0.01)
    monkeypatch.setattr("engine.envoy.fallback.RETRY", 0.01)
    desk.spool.available = False
    async with evaluator(desk) as target:
        reporting = asyncio.create_task(report(target, [entry(reason=EXPIRED)]))
        await eventually(lambda: counts(desk)[(APPEND_FAILURES,)] > 0)
        desk.spool.available = True
        await reporting
    assert len(desk.outcomes) == 1
