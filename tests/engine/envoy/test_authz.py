"""Check, through real gRPC channels."""

import asyncio
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from engine.decider import View
from engine.envoy.authz import Authorization, Caller, caller_of
from engine.envoy.channel import channel_of
from engine.evaluate import Objection
from engine.locate import Location, Locations
from engine.metrics.families import ROTATIONS
from tests.engine.envoy.conftest import Evaluator
from tests.engine.samples import (
    CAUTIOUS,
    DB,
    DOMAIN,
    ENGINE,
    LOCATIONS,
    NEW,
    POLICY,
    WEB,
    Authority,
    Desk,
    eventually,
    in_force,
)
from tests.engine.sidecar import ALLOWED, DENIED, Metadata, about, check, counts, question

pytestmark = pytest.mark.anyio


async def test_a_granted_connection_is_allowed_and_recorded_with_pods(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        answer = await check(target, question())
    assert answer.status.code == ALLOWED
    (record,) = desk.outcomes
    assert (record.verdict, record.rule, record.layer) == ("ALLOW", "core/rule-1", "evaluator")
    assert (record.source_id, record.source_pod, record.source_node) == (WEB, "web-1", "n1")
    assert (record.destination_id, record.destination_port) == (DB, 5432)


async def test_another_connection_is_denied_and_recorded(desk: Desk, evaluator: Evaluator) -> None:
    async with evaluator(desk) as target:
        answer = await check(target, question(CAUTIOUS))
    assert (answer.status.code, answer.status.message) == (DENIED, "no_rule")
    assert [record.verdict for record in desk.outcomes] == ["DENY"]


async def test_without_a_trail_the_answer_is_no(desk: Desk, evaluator: Evaluator) -> None:
    desk.spool.available = False
    async with evaluator(desk) as target:
        answer = await check(target, question())
    assert (answer.status.code, answer.status.message) == (DENIED, "audit_unavailable")


async def test_the_port_is_the_declared_one_of_the_metadata(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        for port in ("5433", "15100", "0", "-1", "70000", "x", ""):
            answer = await check(target, question(), about(port=port))
            assert (answer.status.code, answer.status.message) == (DENIED, "port_not_declared")
        answer = await check(target, question(), metadata=(("zt-destination", DB),))
    assert answer.status.message == "port_not_declared"


async def test_a_header_is_no_identity(desk: Desk, evaluator: Evaluator) -> None:
    request = question(source="", source_address="10.0.0.99")
    request.attributes.request.http.headers["x-forwarded-client-cert"] = f"URI={WEB}"
    async with evaluator(desk) as target:
        answer = await check(target, request)
    assert (answer.status.code, answer.status.message) == (DENIED, "unknown_source")
    assert desk.outcomes[0].source_id is None


async def test_a_principal_that_is_no_spiffe_id_is_nobody(desk: Desk, evaluator: Evaluator) -> None:
    """Or a certificate with the subject ``external:internet`` would be the Internet."""
    async with evaluator(desk) as target:
        answer = await check(
            target, question(source="external:internet", destination=WEB), about(WEB)
        )
    assert answer.status.code == DENIED


async def test_a_pod_without_certificate_is_known_by_its_address_and_refused(
    desk: Desk, evaluator: Evaluator
) -> None:
    async with evaluator(desk) as target:
        answer = await check(target, question(source="", destination=""))
        observed = await check(target, question(source="", destination=""), about(NEW))
    assert (answer.status.code, answer.status.message) == (DENIED, "plaintext")
    assert (observed.status.code, observed.status.message) == (ALLOWED, "plaintext")
    refused, seen = desk.outcomes
    assert (refused.source_id, refused.rule) == (WEB, "core/rule-1")
    assert (seen.source_id, seen.verdict, seen.would_be) == (WEB, "ALLOW", "DENY")


async def test_a_certificate_that_another_pod_shows_was_stolen(
    desk: Desk, evaluator: Evaluator
) -> None:
    desk.decider.view = View(desk.snapshot, replace(LOCATIONS, live=True))
    async with evaluator(desk) as target:
        own = await check(target, question())
        stolen = await check(target, question(source_address="10.0.0.3"))
        watched = question(WEB, NEW, source_address="10.0.0.3")
        observed = await check(target, watched, about(NEW))
    assert own.status.code == ALLOWED
    assert (stolen.status.code, stolen.status.message) == (DENIED, "source_mismatch")
    assert (observed.status.code, observed.status.message) == (ALLOWED, "source_mismatch")
    _, refused, seen = desk.outcomes
    # Whose certificate it is, which pod showed it, and what it would have been let do.
    assert (refused.source_id, refused.source_pod) == (WEB, "cautious-1")
    assert (refused.rule, refused.reason) == ("core/rule-1", "source_mismatch")
    assert (seen.verdict, seen.would_be) == ("ALLOW", "DENY")


GATEWAY, ELSEWHERE = f"{DOMAIN}gateway", "spiffe://hanzo.ai/west/shop/web"
HERE = Location("gateway-1", "n1", GATEWAY)


@pytest.mark.parametrize(
    ("pod", "principal", "live", "stolen"),
    [
        (Location("web-1", "n1", WEB), WEB, True, False),
        (Location("web-1", "n1", WEB), DB, True, True),
        (Location("web-1", "n1", WEB), ELSEWHERE, True, True),
        # Nobody watches: the address may be another's by now.
        (Location("web-1", "n1", WEB), DB, False, False),
        (Location("web-1", "n1", WEB, leaving=True), DB, True, False),
        # Who is not known: a node, or a pod that has only begun.
        (None, DB, True, False),
        # Whoever is in another cluster, or in none, comes by the gateway.
        (HERE, ELSEWHERE, True, False),
        (HERE, "spiffe://hanzo.ai/ci/github-actions/deploy", True, False),
        (HERE, GATEWAY, True, False),
        (HERE, WEB, True, True),
    ],
)
def test_only_what_is_certain_speaks_against_a_certificate(
    *, pod: Location | None, principal: str, live: bool, stolen: bool
) -> None:
    surroundings = replace(in_force().surroundings, gateways=frozenset({GATEWAY}))
    table = {ip_address("10.0.0.7"): pod} if pod else {}
    caller = caller_of(principal, "10.0.0.7", surroundings, Locations(table, live=live))
    assert caller == Caller(principal, Objection.SOURCE_MISMATCH if stolen else None)


async def test_the_outside_comes_in_where_a_rule_opens_a_door(
    desk: Desk, evaluator: Evaluator
) -> None:
    request = question(source="", destination="", source_address="198.51.100.7")
    office = question(source="", destination="", source_address="192.0.2.7")
    async with evaluator(desk) as target:
        assert (await check(target, request, about(WEB))).status.code == ALLOWED
        assert (await check(target, request, about(DB))).status.code == DENIED
        assert (await check(target, office, about(WEB))).status.code == DENIED
    assert desk.outcomes[0].source_id == "external:internet"
    assert desk.outcomes[2].source_id == "external:office"


async def test_an_address_of_a_pod_network_is_never_external() -> None:
    desk = Desk()
    surroundings = desk.snapshot.surroundings
    assert caller_of("", "10.0.77.7", surroundings, LOCATIONS) == Caller(None)
    assert caller_of("", "10.0.0.1", surroundings, LOCATIONS) == Caller(WEB, Objection.PLAINTEXT)


async def test_changed_certificates_of_declared_callers_are_counted(
    desk: Desk, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.envoy.authz.LOOK", 0)
    async with evaluator(desk) as target:
        for certificate in ("first", "first", "second"):
            await check(target, question(certificate=certificate))
            await check(target, question(DOMAIN + "stranger", certificate=certificate))
    rotations = {key: count for key, count in counts(desk).items() if key[0] == ROTATIONS}
    assert rotations == {(ROTATIONS, WEB): 1}


async def test_each_replica_of_a_canary_has_an_answer_of_its_own(
    desk: Desk, evaluator: Evaluator
) -> None:
    """The first by name enforces; the others let pass."""
    async with evaluator(desk) as target:
        for _ in range(2):
            for replica, code in (("10.0.0.3", DENIED), ("10.0.0.4", ALLOWED)):
                request = question(DB, CAUTIOUS)
                request.attributes.destination.address.socket_address.address = replica
                answer = await check(target, request, about(CAUTIOUS))
                assert (answer.status.code, answer.status.message) == (code, "no_rule")


async def test_another_view_has_other_answers(desk: Desk, evaluator: Evaluator) -> None:
    nothing = in_force(POLICY.replace('shop/web"}\n      to', 'shop/api"}\n      to', 1))
    before, after = desk.decider.view, View(nothing, desk.locations)
    async with evaluator(desk) as target:
        for view, code in ((before, ALLOWED), (after, DENIED), (before, ALLOWED)):
            desk.decider.view = view
            assert (await check(target, question())).status.code == code


async def test_made_up_sources_are_remembered_within_bounds(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.envoy.authz.REMEMBERED", 8)
    authorization = Authorization(desk.decider)
    channel = channel_of({b"zt-destination": DB.encode(), b"zt-port": b"5432"}, DB)
    for number in range(100):
        made_up = question(f"{DOMAIN}made-up-{number}").SerializeToString()
        authorization.check(made_up, channel)
        authorization.check(question().SerializeToString(), channel)
        assert len(authorization._known) <= 8
    verdicts = Counter(record.verdict for record in desk.outcomes)
    assert verdicts == {"ALLOW": 100, "DENY": 100}


async def test_the_http_filter_is_answered_in_its_words(desk: Desk, evaluator: Evaluator) -> None:
    asked, denied = question(), question(CAUTIOUS)
    for request in (asked, denied):
        request.attributes.request.http.path = "/"
    async with evaluator(desk) as target:
        granted, refused = await check(target, asked), await check(target, denied)
        plain = await check(target, question(CAUTIOUS))
    assert granted.status.code == ALLOWED
    assert granted.HasField("ok_response")
    assert (refused.status.code, refused.denied_response.status.code) == (DENIED, 403)
    assert refused.denied_response.body == "no_rule\n"
    (header,) = refused.denied_response.headers
    assert (header.header.key, header.header.value) == ("x-zt-reason", "no_rule")
    assert not plain.HasField("denied_response")


async def test_an_answer_waits_until_its_record_is_safe(desk: Desk, evaluator: Evaluator) -> None:
    desk.durability.immediate = False
    async with evaluator(desk) as target:
        for safe, expected in ((True, (ALLOWED, "rule")), (False, (DENIED, "audit_unavailable"))):
            asking = asyncio.create_task(check(target, question()))
            await eventually(lambda: len(desk.durability.waiting) == 1)
            assert not asking.done()
            desk.durability.settle(safe=safe)
            answer = await asking
            assert (answer.status.code, answer.status.message) == expected


# --- Whose connections a sidecar may speak of -----------------------------------------------------


async def test_a_sidecar_speaks_of_connections_to_itself(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    async with evaluator(desk, tmp_path / "svid") as target:
        own = await check(target, question(), authority=authority, spiffe=DB)
        plaintext = question(source="", destination="", source_address="10.0.0.99")
        await check(target, plaintext, authority=authority, spiffe=DB)
    assert own.status.code == ALLOWED
    assert [record.destination_id for record in desk.outcomes] == [DB, DB]


@pytest.mark.parametrize(
    "claims",
    [
        (DB, about(DB)),
        ("", about(DB)),
        (WEB, about(DB)),
        (DB, about(WEB)),
        (WEB, (("zt-port", "5432"),)),
        ("", ()),
    ],
)
async def test_a_sidecar_does_not_speak_of_connections_to_others(
    desk: Desk,
    evaluator: Evaluator,
    authority: Authority,
    tmp_path: Path,
    claims: tuple[str, Metadata],
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    principal, metadata = claims
    async with evaluator(desk, tmp_path / "svid") as target:
        request = question(destination=principal)
        answer = await check(target, request, metadata, authority=authority, spiffe=WEB)
    assert (answer.status.code, answer.status.message) == (DENIED, "destination_mismatch")
    assert desk.outcomes[0].destination_id == "unknown"


async def test_without_an_svid_nobody_asks(
    desk: Desk, evaluator: Evaluator, authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    stranger = Authority()
    async with evaluator(desk, tmp_path / "svid") as target:
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question(), authority=authority)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question())
        stranger.bundle, trusted = authority.bundle, stranger.bundle
        assert trusted != authority.bundle
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question(), authority=stranger, spiffe=DB)
    assert desk.outcomes == []
