"""Which layer is expected to stop what, with some taken away."""

import pytest

from lab.attack.evidence import layer_of
from lab.attack.identity import identity
from lab.attack.layers import REMOVALS
from lab.attack.model import Attempt, Family, Layer, Plane, Seen
from lab.attack.network import network
from tests.attack.scenes import record, refused, result, scene

SCENE = scene()
ATTEMPTS = (*network(SCENE), *identity(SCENE))


def attempt(name: str, target: str) -> Attempt:
    (found,) = [a for a in ATTEMPTS if a.attack.name == name and a.target == target]
    return found


HELD_BY_NETWORK_POLICIES = (
    "UDP on the declared port of the pod, from a pod",
    "an undeclared port of the pod, from a pod",
    "the health port of the pod, from a pod",
    "the metrics port of the pod, from a pod",
    "the probes' port of the pod, from a pod",
)
HELD_BY_THE_REDIRECT = (
    "plaintext to the pod's IP, from a declared client's pod",
    "plaintext to the pod's IP, from a declared client's pod without sidecar",
    "plaintext to the pod's IP, from the node of the pod",
    "through a Service of another name, from a declared client's pod",
)
STOLEN = attempt(
    "a stolen SVID of a service that may not call, from the node of the pod", "postgres:5432"
)
PLAIN = attempt("plaintext to the pod's IP, from a pod of another service", "postgres:5432")


@pytest.mark.parametrize(
    ("removed", "stops"),
    [
        ((), Layer.HANDSHAKE),
        ((Plane.HANDSHAKE, Plane.RBAC), Layer.EVALUATOR),
        ((Plane.EVALUATOR,), Layer.HANDSHAKE),
        ((Plane.HANDSHAKE, Plane.EVALUATOR), Layer.RBAC),
        ((Plane.NETWORK_POLICY,), Layer.HANDSHAKE),
        # Its TLS is nonsense to the application.
        ((Plane.REDIRECT,), Layer.APPLICATION),
    ],
)
def test_an_identity_is_refused_by_the_next_layer(removed: tuple[Plane, ...], stops: Layer) -> None:
    assert stops in STOLEN.attack.stopped_by(removed) <= {stops, Layer.NOBODY}


def test_nothing_is_left_once_all_lists_are_gone() -> None:
    gone = (Plane.HANDSHAKE, Plane.EVALUATOR, Plane.RBAC)
    assert STOLEN.attack.stopped_by(gone) == set()


@pytest.mark.parametrize(
    ("removed", "stops"),
    [
        ((), {Layer.NETWORK_POLICY}),
        ((Plane.NETWORK_POLICY,), {Layer.HANDSHAKE}),
        ((Plane.REDIRECT,), {Layer.NETWORK_POLICY}),
        ((Plane.NETWORK_POLICY, Plane.REDIRECT), set()),
    ],
)
def test_plaintext_is_held_twice(removed: tuple[Plane, ...], stops: set[Layer]) -> None:
    assert PLAIN.attack.stopped_by(removed) == stops


def test_trust_stays_when_the_lists_admit_everybody() -> None:
    forged = attempt("an SVID of another CA, of a declared client", "postgres:5432")
    for removal in REMOVALS:
        expected = Layer.APPLICATION if Plane.REDIRECT in removal.planes else Layer.HANDSHAKE
        assert expected in forged.attack.stopped_by(removal.planes) <= {expected, Layer.NOBODY}


def test_each_attack_is_stopped_while_nothing_is_missing() -> None:
    assert all(attempt.attack.stopped_by() for attempt in ATTEMPTS)


def test_with_one_layer_away_the_others_hold_all_but_what_is_said_to_be_its_alone() -> None:
    alone = {
        (removal.name, a.attack.name)
        for removal in REMOVALS
        for a in ATTEMPTS
        if not a.attack.stopped_by(removal.planes)
    }
    greeted = "an SVID that no list has, to a server that speaks first"
    lists = [
        "both lists of the sidecar admit everybody",
        "the list at the handshake and the evaluator admit everybody",
    ]
    assert alone == {
        *((removal, greeted) for removal in lists),
        *(("the NetworkPolicies are deleted", name) for name in HELD_BY_NETWORK_POLICIES),
        *(("the redirect is removed", name) for name in HELD_BY_THE_REDIRECT),
    }


def test_what_is_asked_behind_a_greeting_is_held_by_all() -> None:
    behind = "a stolen SVID of a service that may not call, behind a server's greeting"
    found = attempt(behind, "ledger:3306").attack
    assert found.stopped_by() == {Layer.HANDSHAKE}
    assert found.stopped_by((Plane.HANDSHAKE, Plane.RBAC)) == {Layer.EVALUATOR}


def test_an_svid_from_anothers_pod_is_refused_though_both_lists_and_the_policy_admit_it() -> None:
    gone = (Plane.HANDSHAKE, Plane.EVALUATOR, Plane.RBAC)
    for name in (
        "a stolen SVID of a service that may not call",
        "a stolen SVID of a declared client, from a pod of another service",
    ):
        removed = (*gone, Plane.NETWORK_POLICY)
        assert attempt(name, "postgres:5432").attack.stopped_by(removed) == {Layer.EVALUATOR}


@pytest.mark.parametrize(
    ("seen", "removed", "layer"),
    [
        (refused("reset", "handshake"), (), Layer.HANDSHAKE),
        (refused("closed", "rbac"), (), Layer.RBAC),
        (refused("unreachable", packets=0), (), Layer.NETWORK_POLICY),
        (refused("unreachable", packets=3), (), None),
        (refused("refused", packets=1), (), Layer.NOBODY),
        (refused("no page", packets=9), (), Layer.ROUTE),
        (refused("forbidden", packets=None), (), Layer.ADMISSION),
        (refused("kernel", packets=None), (), Layer.KERNEL),
        (refused("attestation", packets=None), (), Layer.ATTESTATION),
        (refused("tls", packets=4), (Plane.REDIRECT,), Layer.APPLICATION),
        (refused("tls", packets=4), (), None),
        (refused("untried", packets=0), (), None),
        (Seen(got_in=True, how="", said="hello", packets=4), (), None),
    ],
)
def test_the_layer_is_read_from_what_was_seen(
    seen: Seen, removed: tuple[Plane, ...], layer: Layer | None
) -> None:
    assert layer_of(seen, removed) == layer


@pytest.mark.parametrize(
    ("how", "packets", "layer"),
    [
        ("tls", 3, Layer.GATEWAY),
        ("closed", 3, Layer.GATEWAY),
        ("unreachable", 0, Layer.NETWORK_POLICY),
        ("silent", 3, None),
    ],
)
def test_a_gateway_is_known_by_closing(how: str, packets: int, layer: Layer | None) -> None:
    assert layer_of(refused(how, packets=packets), by_gateway=True) == layer


def test_no_surprise_where_the_right_layer_stopped_and_recorded_it() -> None:
    seen = refused("tls", "handshake")
    assert result(STOLEN, seen, Layer.HANDSHAKE).surprise is None


@pytest.mark.parametrize(
    ("seen", "layer", "said"),
    [
        (Seen(got_in=True, how="", said="hello"), None, "it got in"),
        (refused("tls"), None, "nobody knows"),
        (refused("unreachable", packets=0), Layer.NETWORK_POLICY, "handshake should have"),
        (refused("tls", "handshake", "handshake"), Layer.HANDSHAKE, "2 refusals"),
    ],
)
def test_a_surprise_is_said_in_words(seen: Seen, layer: Layer | None, said: str) -> None:
    assert said in str(result(STOLEN, seen, layer).surprise)


def test_a_refusal_without_a_record_is_a_surprise() -> None:
    seen = refused("tls")
    assert "0 refusals" in str(result(STOLEN, seen, Layer.HANDSHAKE).surprise)


def test_an_evaluator_that_was_overruled_is_no_second_refusal() -> None:
    allowed = record("evaluator", verdict="ALLOW")
    seen = Seen(got_in=False, how="closed", said="", packets=2, records=(allowed, record("rbac")))
    assert result(STOLEN, seen, Layer.RBAC).denials == (record("rbac"),)


def test_every_family_by_network_and_identity_is_there_for_every_target() -> None:
    for target in SCENE.targets:
        families = {a.attack.family for a in ATTEMPTS if a.target == target.name}
        assert families == {Family.NETWORK, Family.IDENTITY}, target.name
