"""What proofs of a tunnel take for kept, and what for broken."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from lab.check.model import BrokenError, Check
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.scan import carriers
from lab.scan.kms import forms
from lab.tunnel import pinger
from lab.tunnel.commands import report, table
from lab.tunnel.crossing import _stays, _undeclared
from lab.tunnel.site import eventually
from lab.tunnel.speed import measured, ratio
from lab.tunnel.traffic import End, pinging
from lab.tunnel.wire import Kind, kind_of
from tests.authorities import issuing_cas
from tests.check.sites import EFFECTIVE, POLICY, Api, Json, place, site

# --- The wire -------------------------------------------------------------------------------------


def frame(protocol: int, content: bytes, port: int = 51820, options: int = 0) -> bytes:
    ends = IPv4Address("192.0.2.10").packed + IPv4Address("192.0.2.20").packed
    header = bytes([0x45 + options]) + bytes(8) + bytes([protocol]) + bytes(2) + ends
    transport = struct.pack("!HHHH", 40000, port, 8 + len(content), 0)
    return bytes(12) + b"\x08\x00" + header + bytes(4 * options) + transport + content


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (frame(17, b"\x04\x00\x00\x00data"), "WireGuard"),
        (frame(17, b"\x01\x00\x00\x00data", options=1), "WireGuard"),
        (frame(17, b"\x05\x00\x00\x00data"), "UDP to 51820"),
        (frame(17, b"\x04\x00\x01\x00data"), "UDP to 51820"),
        (frame(17, b""), "UDP to 51820"),
        (frame(6, b"GET / ", 80), "TCP to 80"),
        (frame(1, b"ping"), "protocol 1"),
    ],
)
def test_a_packet_is_known_by_what_it_is(seen: bytes, what: str) -> None:
    assert kind_of(seen) == Kind("192.0.2.10", "192.0.2.20", what)


def test_what_is_not_of_ipv4_is_passed_over() -> None:
    assert kind_of(bytes(12) + b"\x86\xdd" + bytes(60)) is None


# --- What does not cross --------------------------------------------------------------------------


def sites(answer: Any) -> tuple[Any, Any]:  # noqa: ANN401
    chat = place("chat", "chat-1", "10.240.1.5")
    here, dialers = site(answer, chat)
    return {"hanzo-k8s": here, "lux-k8s": replace(here, cluster="lux-k8s", places=())}, dialers


def test_a_pod_reaches_nobody_beyond_that_it_may_not_call() -> None:
    def answer(_: str, question: Json) -> Json:
        error = "reset" if question["host"] == "wg-gateway.hanzo" else "name"
        return {"ok": False, "error": error}

    both, dialers = sites(answer)
    ((name, judge),) = _undeclared(both["hanzo-k8s"], both)
    assert name == "hanzo/chat-1"
    assert judge().endswith("ports beyond: name, reset")
    asked = {question["host"] for _, question in dialers.asked}
    assert "validator.lux.lux-k8s" in asked
    names = {q["tls"]["serverName"] for _, q in dialers.asked if "tls" in q}
    assert "9650.validator.lux.lux-k8s" in names


def test_whom_the_gateway_does_not_hear_is_not_asked_again() -> None:
    both, dialers = sites(lambda *_: {"ok": False, "error": "unreachable"})
    ((_, judge),) = _undeclared(both["hanzo-k8s"], both)
    judge()
    assert sum("tls" in question for _, question in dialers.asked) == 1


def test_one_that_gets_through() -> None:
    both, _ = sites(lambda *_: {"ok": True, "error": None})
    chat = both["hanzo-k8s"].places[0]
    validator = next(s.service for s in EFFECTIVE.services if s.service.name == "validator")
    with pytest.raises(BrokenError, match=r"it reaches validator\.lux\.lux-k8s:9650"):
        _stays(both["hanzo-k8s"], chat, [(validator, validator.ports[0])])


# --- Keys elsewhere -------------------------------------------------------------------------------

CA = issuing_cas(POLICY.mesh.trust_domain, ["hanzo-k8s"])["hanzo-k8s"]
BOOK = json.dumps(
    {"keys": {"0": {"private": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=", "public": "x"}}}
)


def test_keys_of_kms_are_known_in_every_form() -> None:
    assert [*forms({"book": BOOK, "publicKey": "p"})] == [
        b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=",
        b"A" * 32,
    ]
    der, line = forms({"key": CA["tls.key"], "certificate": CA["tls.crt"]})
    assert line.decode() in CA["tls.key"]
    assert len(der) > 100


def test_objects_of_all_kinds_but_secrets() -> None:
    def kinds(*names: str) -> Json:
        return {"resources": [{"name": name, "verbs": ["list", "get"]} for name in names]}

    def items(*names: str) -> Json:
        return {"items": [{"metadata": {"name": name, "namespace": "x"}} for name in names]}

    api = Api(
        {
            "/apis": {"groups": [{"preferredVersion": {"groupVersion": "apps/v1"}}]},
            "/api/v1": kinds("pods", "secrets", "pods/log", "componentstatuses"),
            "/apis/apps/v1": kinds("deployments"),
            "/api/v1/pods": items("a", "b"),
            "/api/v1/secrets": items("s"),
            "/apis/apps/v1/deployments": items("d"),
        }
    )
    client = cast("Client", api)
    assert [name for name, _ in carriers.objects(client, "c")] == [
        "c pods x/a",
        "c pods x/b",
        "c deployments x/d",
    ]
    assert [name for name, _ in carriers.secrets(client, "c")] == ["c secrets x/s"]


def test_the_audit_database_is_the_one_exception() -> None:
    given = b"PATH=/bin\0ZT_AUDIT_DSN=postgres://a:b@c/d\0KEY=ZT_AUDIT_DSN=x\0"
    assert carriers.without_audit(given) == b"PATH=/bin\0KEY=ZT_AUDIT_DSN=x\0"


def test_a_ping_is_as_rfc_792_has_it_and_its_answer_is_known() -> None:
    asked = pinger.request(7, 70000)
    # One's complement sum of a packet with its checksum.
    total = sum(struct.unpack(f"!{len(asked) // 2}H", asked))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    assert asked[:2] == b"\x08\0"
    header = bytes([0x45]) + bytes(19)
    answer = header + b"\0" + asked[1:]
    assert pinger.answered(answer, 7) == 70000
    assert pinger.answered(answer, 8) is None
    assert pinger.answered(header + asked, 7) is None
    assert pinger.answered(header + b"\0\0", 7) is None


def test_pings_of_this_machine_come_back_and_those_of_nobody_do_not() -> None:
    own = Path("/proc/self/ns/net")
    with pinging(End(own, "127.0.0.1"), End(own, "127.0.0.1")) as pings:
        time.sleep(0.5)
    assert pings.sent == pings.received > 20
    assert pings.lost_at == ()
    assert 0 < pings.slowest < 3
    begun = time.time()
    with pinging(End(own, "127.0.0.1"), End(own, "192.0.2.253")) as pings:
        time.sleep(0.2)
    assert pings.received == 0
    assert len(pings.lost_at) == pings.sent > 5
    assert begun < pings.lost_at[0] < time.time()
    with pytest.raises(LabError, match="can't be counted"):
        pings.read("no JSON")


# --- Figures and reports --------------------------------------------------------------------------


def test_ways_take_turns_in_every_order_and_are_compared_round_by_round() -> None:
    rates: Iterator[float] = iter([1, 10, 30, 3, 2, 10])
    order: list[str] = []

    def measure(source: End, target: End, seconds: float) -> float:
        assert (target.address, seconds) == ("there", 0.5)
        order.append(source.address)
        return next(rates)

    ways = {name: (End(Path("/"), name), End(Path("/"), "there")) for name in ("a", "b")}
    found = measured(ways, 3, 0.5, measure)
    assert found == {"a": [1, 3, 2], "b": [10, 30, 10]}
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert ratio(found["b"], found["a"]) == 10


def test_eventually_says_what_never_came() -> None:
    assert eventually(lambda: True, 1, "it") < 1

    def silent() -> bool:
        raise OSError("gone")

    with pytest.raises(BrokenError, match="the end is not so after 0 s"):
        eventually(silent, 0, "the end")


def test_a_report_counts_what_is_broken() -> None:
    checks = [Check("a", "b", True, "c"), Check("a", "d", False, "[e]")]  # noqa: FBT003
    assert report(checks) == {
        "mismatches": 1,
        "checks": [
            {"name": "a", "subject": "b", "held": True, "detail": "c"},
            {"name": "a", "subject": "d", "held": False, "detail": "[e]"},
        ],
    }
    assert table(checks).row_count == 2
