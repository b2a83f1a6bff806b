import itertools
from datetime import date
from pathlib import Path

import pytest

from lab.mesh.addresses import BLOCKS, TooLargeError, claim_block, plan, unprivileged
from lab.mesh.folders import LONGEST_SOCKET, Folders
from lab.mesh.placement import LocalPlacement
from zt.compile.envoy import compile_envoy
from zt.effective import Effective, effective
from zt.load import load_policy
from zt.model import Cluster, Mesh, Policy, Service
from zt.values import parse_network

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def real() -> Effective:
    return effective(load_policy(ROOT / "policies"), date(2026, 1, 1))


def listeners(policy: Effective, placement: LocalPlacement) -> list[tuple[str, int]]:
    """Where all sidecars listen, by what is compiled."""
    places = {item.service.cluster for item in policy.services}
    files = [file for place in places for file in compile_envoy(policy, place, placement)]
    found = [file.manifest() for file in files if file.path.endswith("/listeners.yaml")]
    addresses = [
        resource["address"]["socket_address"] for file in found for resource in file["resources"]
    ]
    return [(address["address"], address["port_value"]) for address in addresses]


def test_no_two_parts_listen_on_one_address(real: Effective) -> None:
    placement = LocalPlacement(real, plan(real), Folders(Path("/run/mesh")))
    applications = [
        placement.application(item.service, port.port)
        for item in real.services
        for port in item.service.ports
    ]
    taken = [*listeners(real, placement), *((a.host, a.port) for a in applications)]
    assert len(taken) == len(set(taken))
    assert len(taken) > 2 * len(real.services)


def test_two_meshes_never_meet(real: Effective) -> None:
    folders = Folders(Path("/run/mesh"))
    one, other = (
        set(listeners(real, LocalPlacement(real, plan(real, block), folders))) for block in (54, 55)
    )
    assert not one & other


def test_nobody_listens_on_a_port_that_needs_root(real: Effective) -> None:
    placement = LocalPlacement(real, plan(real), Folders(Path("/run/mesh")))
    assert min(port for _, port in listeners(real, placement)) >= 1024
    assert unprivileged(443) == 10443
    assert unprivileged(5432) == 5432


def test_pods_are_in_the_pod_network_and_callers_from_outside_are_not(real: Effective) -> None:
    planned = plan(real)
    pods = parse_network(planned.pods)
    for item in real.services:
        assert parse_network(f"{planned.pod(item.service)}/32").subnet_of(pods)  # type: ignore[arg-type]
    for external in real.policy.externals:
        outside = parse_network(f"{planned.client(external)}/32")
        assert not outside.subnet_of(pods)  # type: ignore[arg-type]


def test_a_sidecar_calls_from_its_pod(real: Effective) -> None:
    planned = plan(real)
    placement = LocalPlacement(real, planned, Folders(Path("/run/mesh")))
    service = real.services[0].service
    assert placement.source_address(service) == planned.pod(service)


def test_admin_sockets_fit_however_deep_the_run_folder_is(real: Effective, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / ("deep" * 40)):
        placement = LocalPlacement(real, plan(real), Folders(folder))
        for item in real.services:
            path = placement.admin(item.service)["pipe"]["path"]
            assert len(path.encode()) <= LONGEST_SOCKET
            assert placement.admin(item.service)["pipe"]["mode"] == 0o600


def test_a_policy_too_large_for_a_machine_is_refused() -> None:
    network = parse_network("10.0.0.0/16")
    mesh = Mesh("big", "example.org", (Cluster("one", network, parse_network("10.1.0.0/16")),))
    services = tuple(Service(f"s{number}", "one", "default") for number in range(16_385))
    with pytest.raises(TooLargeError, match="16385 services do not fit"):
        plan(effective(Policy(mesh, services), date(2026, 1, 1)))


def test_blocks_are_claimed_once_and_come_back() -> None:
    block, holder = claim_block()
    with holder:
        other, second = claim_block()
        second.close()
        assert other in BLOCKS
        assert other != block
    again, third = claim_block()
    third.close()
    assert again <= block


def test_addresses_of_one_kind_never_run_into_the_next(real: Effective) -> None:
    planned = plan(real)
    kinds = [
        [planned.pod(item.service) for item in real.services],
        [planned.application(item.service) for item in real.services],
        [planned.client(external) for external in real.policy.externals],
        [planned.stand_in(external) for external in real.policy.externals],
        [planned.database, *(planned.evaluator(name) for name in planned.evaluators)],
    ]
    everything = list(itertools.chain(*kinds))
    assert len(everything) == len(set(everything))
