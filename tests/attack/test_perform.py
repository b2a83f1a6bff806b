"""What becomes of attempts, with dialers, a trail and counters that are told what to say."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import pytest

from lab.attack import perform as module
from lab.attack.certificates import Material
from lab.attack.counting import Flow
from lab.attack.identity import identity
from lab.attack.model import Attempt, Layer
from lab.attack.network import network
from lab.attack.perform import dialled, perform
from lab.attack.site import Site
from lab.cluster.model import LabError
from lab.nodes.pods import Pod
from lab.verify.trail import Record
from tests.attack.scenes import dial, record, scene

SCENE = scene()
CALLS = (*network(SCENE), *identity(SCENE))
POSTGRES = "spiffe://hanzo.ai/hanzo-k8s/hanzo/postgres"
RESET = {"answer": None, "error": "reset"}
UNREACHABLE = {"answer": None, "error": "unreachable"}


def attempt(name: str) -> Attempt:
    (found,) = [a for a in CALLS if a.attack.name == name and a.target == "postgres:5432"]
    return found


PLAIN = attempt("plaintext to the pod's IP, from a pod of another service")
CLIENT = attempt("plaintext to the pod's IP, from a declared client's pod")
ALIAS = attempt("through a Service of another name, from a declared client's pod")


@dataclass
class Caller:
    world: "World"
    name: str

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        return self.world.answer(self.name, question)


class World:
    """All that a site has; calls change it as they are made."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.records: list[Record] = []
        self.leaves: list[Record] = []
        self.packets: Counter[Flow] = Counter()
        self.brings: list[Flow] = []
        self.asked: list[dict[str, Any]] = []

    def pod(self, place: str) -> Pod:
        found = next((p for p in SCENE.places.values() if p.pod == place), None)
        address = found.address if found else "10.240.9.9"
        namespace, _, name = place.partition("/")
        return Pod(namespace, name, "", address, "node-1", "", "Running", True, {}, {})  # noqa: FBT003

    def process(self, place: str, *, sidecar: bool = False) -> int:
        assert not sidecar
        return 1 if place == "hanzo/postgres-0" else 2

    def of(self, pod: Pod) -> "Caller":
        return Caller(self, pod.name)

    def answer(self, caller: str, question: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(question)
        answer = self.answers[caller]
        if isinstance(answer, Exception):
            raise answer
        self.records += self.leaves
        self.packets.update(self.brings)
        return cast("dict[str, Any]", answer)

    def since(self, start: datetime) -> tuple[Record, ...]:
        assert start.tzinfo
        return tuple(self.records)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module, "arrivals", lambda pid: Counter(made.packets if pid == 1 else {}))
    monkeypatch.setattr(module, "_SETTLED", 0.0)
    monkeypatch.setattr(module, "_RECORDED_WITHIN", 0.2)
    return made


def site(world: World) -> Site:
    made = Site(
        cast("Any", None), SCENE, {}, cast("Any", world), cast("Any", world), cast("Any", None)
    )
    for name in ("pod", "process"):
        setattr(made, name, getattr(world, name))
    return made


def source(made: Attempt) -> str:
    return dial(made).source.partition("/")[2]


def arrived(made: Attempt, world: World, port: int = 5432) -> Flow:
    return Flow(world.pod(dial(made).source).address or "", "tcp", port)


def test_dropped_on_its_way(world: World) -> None:
    world.answers[source(PLAIN)] = UNREACHABLE
    (result,) = perform(site(world), [PLAIN])
    assert (result.layer, result.surprise) == (Layer.NETWORK_POLICY, None)
    assert result.seen.packets == 0


def test_refused_at_the_handshake_and_recorded(world: World) -> None:
    world.answers[source(CLIENT)] = RESET
    world.brings = [arrived(CLIENT, world)]
    world.leaves = [replace(record("handshake"), source_pod=source(CLIENT))]
    (result,) = perform(site(world), [CLIENT])
    assert (result.layer, result.surprise) == (Layer.HANDSHAKE, None)
    assert result.denials == tuple(world.leaves)


def test_a_record_of_another_pod_or_port_is_not_ours(world: World) -> None:
    world.answers[source(CLIENT)] = RESET
    world.brings = [arrived(CLIENT, world)]
    others = replace(record("handshake"), source_pod="another-0")
    world.leaves = [others, replace(others, source_pod=None, destination_port=1)]
    (result,) = perform(site(world), [CLIENT])
    assert result.layer is None
    assert "nobody knows" in str(result.surprise)


def test_what_was_dropped_has_no_record_though_another_has(world: World) -> None:
    world.answers[source(PLAIN)] = UNREACHABLE
    world.leaves = [replace(record("handshake"), source_pod=None)]
    (result,) = perform(site(world), [PLAIN])
    assert (result.layer, result.denials) == (Layer.NETWORK_POLICY, ())


def test_through_a_service_packets_are_counted_at_the_pods_own_port(world: World) -> None:
    world.answers[source(ALIAS)] = RESET
    world.brings = [arrived(ALIAS, world), arrived(ALIAS, world, 80)]
    world.leaves = [replace(record("handshake"), source_pod=source(ALIAS))]
    (result,) = perform(site(world), [ALIAS])
    assert dial(ALIAS).question["host"] != SCENE.places["postgres"].address
    assert (result.seen.packets, result.layer) == (1, Layer.HANDSHAKE)


def test_one_that_got_in(world: World) -> None:
    world.answers[source(CLIENT)] = {"answer": '{"service": "postgres"}', "error": None}
    world.brings = [arrived(CLIENT, world)]
    (result,) = perform(site(world), [CLIENT])
    assert result.surprise == "it got in"


def test_what_cannot_be_tried_is_a_surprise_and_keeps_no_other(world: World) -> None:
    world.answers[source(PLAIN)] = LabError("the dialer has ended")
    world.answers[source(CLIENT)] = RESET
    world.brings = [arrived(CLIENT, world)]
    world.leaves = [replace(record("handshake"), source_pod=source(CLIENT))]
    first, second = perform(site(world), [PLAIN, CLIENT])
    assert "the dialer has ended" in str(first.surprise)
    assert second.surprise is None


@pytest.mark.parametrize(
    ("answer", "got_in", "how"),
    [
        ({"answer": "\x15\x03\x03", "error": None}, False, "tls"),
        ({"answer": "HTTP/1.1 404 Not Found\r\n", "error": None}, False, "no page"),
        ({"answer": "HTTP/1.1 200 OK\r\n", "error": None}, True, ""),
        ({"answer": "", "error": "closed"}, False, "closed"),
        ({"answer": {"service": "ledger"}, "error": None}, True, ""),
        ({"answer": None, "error": "tls", "detail": "alert"}, False, "tls"),
    ],
)
def test_an_answer_is_read(answer: dict[str, Any], got_in: bool, how: str) -> None:  # noqa: FBT001
    seen = dialled(answer)
    assert (seen.got_in, seen.how) == (got_in, how)


def test_a_certificate_is_shown_with_the_question(world: World) -> None:
    stolen = attempt("a stolen SVID of a service that may not call")
    made = site(world)
    made.svids[dial(stolen).svid or ""] = Material("certificate", "key")
    world.answers[source(stolen)] = RESET
    list(perform(made, [stolen]))
    (asked,) = world.asked
    assert asked["tls"]["certificatePem"] == "certificate"
    assert asked["tls"]["alpn"] == ["zt"]
