from datetime import UTC, datetime

import pytest

from lab.faults.rotation import Certificates, Rotation, as_json
from lab.faults.sidecars import Svid
from lab.faults.tally import Edge, Failure, Flow, Tally

LATER = datetime(2030, 1, 1, tzinfo=UTC)
EDGE = Edge("spiffe://hanzo.ai/c/team/a", "spiffe://hanzo.ai/c/team/b", 80)
CUT = Failure(Flow(EDGE, "team/a-0", frozenset()), 1.0, 0.1, "reset", cut=True)


def used(*pairs: tuple[int, int]) -> Certificates:
    found = Certificates()
    for serial, issuer in pairs:
        found.note("team/a-0", Svid(serial, issuer, LATER))
    return found


def rotation(
    certificates: Certificates, *, cut: tuple[Failure, ...] = (), minutes: float = 1
) -> Rotation:
    return Rotation(minutes, Tally(9, (), 9, cut, 9, 0, {}), certificates, servers=2)


def test_a_certificate_that_is_seen_again_has_not_rotated() -> None:
    found = used((1, 7), (1, 7), (2, 7), (3, 8))
    assert found.rotations == {"team/a-0": 2}
    assert found.authorities == 2


def test_the_pod_that_rotated_least_counts() -> None:
    found = used((1, 7), (2, 7), (3, 7))
    found.note("team/b-0", Svid(10, 7, LATER))
    found.note("team/b-0", Svid(11, 7, LATER))
    assert rotation(found).svids == 1


@pytest.mark.parametrize(("authorities", "rotations"), [(1, 0), (2, 0), (3, 0), (4, 1), (6, 2)])
def test_each_server_has_a_ca_of_its_own(authorities: int, rotations: int) -> None:
    found = used(*((number, number) for number in range(authorities)))
    assert rotation(found).cas == rotations


def test_a_long_run_must_have_seen_rotations() -> None:
    assert rotation(used((1, 7))).surprises == ()
    assert rotation(used((1, 7)), minutes=15).surprises == (
        "SVIDs were rotated 0 times, not 10",
        "CAs were rotated 0 times, not 2",
    )


def test_what_failed_is_told() -> None:
    found = rotation(used((1, 7)), cut=(CUT,))
    assert found.surprises == ("team/a -> team/b:80: reset",)
    assert as_json(found)["held"] is False
    assert as_json(found)["cut"] == 1
