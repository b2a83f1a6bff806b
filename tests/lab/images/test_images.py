"""Every image runs: its programs say who they are, as whom they run, and load what they need."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pytest

from components.settings import Images
from lab.images import importing, stock
from lab.images.archive import Image, Settings, image, write_archive
from lab.images.build import images
from lab.images.importing import answer, import_all, present
from lab.images.ours import EVALUATOR, GATEWAY, SERVICE
from lab.images.programs import COREDNS, PAUSE
from tests.lab.images.conftest import Node

# The first test may have to build everything.
pytestmark = pytest.mark.timeout(1800)
NAMES = Images()


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        (NAMES.envoy, ("envoy", "--version"), "/1.40.0/"),
        (NAMES.postgres, ("postgres", "--version"), "PostgreSQL"),
        (NAMES.postgres, ("initdb", "--version"), "PostgreSQL"),
        (NAMES.postgres, ("pg_isready", "--version"), "PostgreSQL"),
        (NAMES.spire_server, ("/opt/spire/bin/spire-server", "--version"), "1.13.3"),
        (NAMES.spire_agent, ("/opt/spire/bin/spire-agent", "--version"), "1.13.3"),
        (NAMES.spire_controller_manager, ("/spire-controller-manager", "--help"), "-config"),
        (COREDNS, ("/coredns", "-version"), "CoreDNS-1"),
        (GATEWAY, ("nft", "--version"), "nftables"),
        (GATEWAY, ("wg", "--version"), "wireguard-tools"),
        (GATEWAY, ("wireguard-go", "--version"), "wireguard-go"),
        (GATEWAY, ("python3", "-m", "gateway.fetch", "--help"), "--token-file"),
        (GATEWAY, ("python3", "-m", "gateway.tunnel", "--help"), "--svid"),
        (EVALUATOR, ("python", "-m", "zt", "--help"), "Usage: zt"),
        (EVALUATOR, (), "ZT_AUDIT_DSN is not set"),
        (SERVICE, ("/usr/bin/python3", "--version"), "Python 3.11"),
    ],
)
def test_programs_run(node: Node, name: str, command: tuple[str, ...], said: str) -> None:
    assert said in node.run(name, *command)


def test_what_is_compiled_for_a_machine_loads_there(node: Node) -> None:
    modules = "grpc, psycopg, uvloop, httptools, cryptography.x509, orjson, ngh2, yaml"
    assert node.run(EVALUATOR, "python", "-c", f"import {modules}; print('loaded')") == "loaded\n"
    modules = "OpenSSL.crypto, hvac, spiffe"
    assert node.run(GATEWAY, "python3", "-c", f"import {modules}; print('loaded')") == "loaded\n"


@pytest.mark.parametrize(
    ("name", "user"),
    [(EVALUATOR, 65532), (GATEWAY, 65532), (NAMES.postgres, 999), (NAMES.envoy, 1337)],
)
def test_they_run_as_nobody_in_particular(node: Node, name: str, user: int) -> None:
    assert node.run(name, "id", "-u").strip() == str(user)


def test_postgres_speaks_tls(node: Node) -> None:
    assert "libssl" in node.run(
        NAMES.postgres, "sh", "-c", "ldd /usr/lib/postgresql/15/bin/postgres"
    )


def test_an_image_is_as_small_as_it_can_be(node: Node) -> None:
    del node
    sizes = {item.name: item.size / 1e6 for item in images(lambda _: None).values()}
    assert sizes[PAUSE] < 3
    assert sizes[SERVICE] < 120
    assert max(sizes.values()) < 250


def test_what_is_built_is_found_again_in_seconds(node: Node) -> None:
    del node
    told: list[str] = []
    started = time.monotonic()
    found = images(told.append)
    assert time.monotonic() - started < 10
    assert len(told) == len(found)
    assert all(line.endswith("cached") for line in told)


def test_only_what_has_changed_is_imported(node: Node) -> None:
    built = images(lambda _: None)
    told: list[str] = []
    import_all(built, [node.socket], told.append)
    assert told == [f"{node.socket}: all {len(built)} images are there"]
    changed = image(GATEWAY, built[GATEWAY].layers, Settings(user="1:1"))
    import_all({GATEWAY: changed}, [node.socket], told.append)
    assert "1 images, 0 MB" in told[-1]
    assert present(node.socket)[GATEWAY] == changed.manifest.digest
    assert node.run(GATEWAY, "id", "-u").strip() == "1"
    import_all(built, [node.socket], told.append)
    assert node.run(GATEWAY, "id", "-u").strip() == "65532"


def test_what_containerd_throws_away_meanwhile_is_brought(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no image refers to lies there until containerd clears up, which may be at once."""

    def after_clearing(wanted: Iterable[Image], stream: IO[bytes], without: set[str]) -> None:
        answer(node.socket, "images", "tag", PAUSE, "zt.lab/once")
        answer(node.socket, "images", "rm", "--sync", "zt.lab/once")
        write_archive(wanted, stream, without)

    built = images(lambda _: None)
    answer(node.socket, "images", "rm", GATEWAY)
    monkeypatch.setattr(importing, "write_archive", after_clearing)
    import_all(built, [node.socket], lambda _: None)
    assert node.run(GATEWAY, "id", "-u").strip() == "65532"


def test_a_containerd_without_a_stock_gets_all_of_it(node: Node, tmp_path: Path) -> None:
    """The pause image alone: the others would take their time."""
    del node
    built = images(lambda _: None)
    with stock.containerd(tmp_path) as socket:
        import_all({PAUSE: built[PAUSE]}, [socket], lambda _: None)
        assert present(socket) == {PAUSE: built[PAUSE].manifest.digest}
