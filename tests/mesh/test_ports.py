import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.mesh import policies
from lab.mesh.addresses import BLOCKS, claim_block
from lab.mesh.folders import Folders
from lab.mesh.model import Mesh, mesh_of
from lab.mesh.ports import check_addresses, page_of
from lab.mesh.processes import MeshError

POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """The real policy in a block that is nobody else's for as long as the test runs."""
    folders = Folders(tmp_path)
    policies.copy(POLICIES, folders.policies, None)
    block, holder = claim_block()
    with holder:
        yield mesh_of(folders, block, None)


def test_free_addresses_are_free_again_afterwards(mesh: Mesh) -> None:
    check_addresses(mesh)
    check_addresses(mesh)


def test_a_port_in_use_is_named_with_who_wanted_it(mesh: Mesh) -> None:
    chat = next(service for service in mesh.services if service.name == "chat")
    pod = mesh.placement.inbound(chat, 3000)
    with (
        socket.create_server((pod.host, pod.port)),
        pytest.raises(MeshError) as error,
    ):
        check_addresses(mesh)
    assert str(error.value).startswith(
        f"{pod.host}:3000, where the sidecar of hanzo-k8s/chat is to listen, is in use: stop"
    )


def test_a_second_mesh_serves_its_page_at_an_address_of_its_own(mesh: Mesh) -> None:
    page = page_of(mesh)
    own = mesh.plan.evaluator("hanzo-k8s"), 8054
    first = [("127.0.0.1", 8054), own] if mesh.plan.block == BLOCKS[0] else [own]
    assert (page.host, page.port) in first
