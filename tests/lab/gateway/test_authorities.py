"""Ceremonies against a real Vault, and a real SPIRE server that takes its issuing CA from it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hvac.exceptions import InvalidPath
from psycopg.conninfo import make_conninfo

from gateway.ca.ceremony import BUNDLE, CERTIFICATE, KEY
from gateway.ca.certificates import check_chain, load_certificate
from gateway.ca.plan import Step
from gateway.ca.state import State
from gateway.fetch import keep, parser
from gateway.fetch import main as fetch
from gateway.keys import ForbiddenError, MissingError
from lab.ca.ceremonies import Ceremonies
from lab.ca.evidence import roots_in
from lab.ca.servers import command, renew_by, told
from lab.cluster.model import LabError
from lab.kms.reach import ceremony_store, issuing_ca
from lab.kms.server import open_up, seal
from lab.kms.setup import AUTHORITIES, GATEWAYS
from lab.stack.folder import ROOT
from lab.tools.build import obtainable, tool
from tests.lab.gateway.conftest import CLUSTER, Site
from tests.postgres import serving
from tests.waiting import EndedError, eventually
from zt.load import load_policy

pytestmark = pytest.mark.timeout(1200)

SERVERS = "spire-system:spire-server"
FIELDS = (CERTIFICATE, KEY, BUNDLE)
MESH = load_policy(ROOT / "policies").mesh
PATIENCE = 30.0


@pytest.fixture
def ceremonies(site: Site, tmp_path: Path) -> Iterator[Ceremonies]:
    yield Ceremonies(site.kms, tmp_path / "transcript.jsonl", MESH, lambda _: None)
    kv = site.vault.secrets.kv.v2
    for folder in ("root/", "spire/"):
        for name in kv.list_secrets(folder, mount_point=AUTHORITIES)["data"]["keys"]:
            kv.delete_metadata_and_all_versions(f"{folder}{name}", AUTHORITIES)


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def arguments(site: Site, into: Path) -> list[str]:
    """What ``components.keys`` gives the containers of a SPIRE server."""
    return [
        f"--address={site.kms.url}",
        f"--project={AUTHORITIES}",
        f"--path=spire/{CLUSTER}",
        f"--token-file={site.token(SERVERS)}",
        f"--auth=jwt-{CLUSTER}",
        f"--authority={site.kms.authority.read_text()}",
        f"--into={into}",
        *(f"--field={name}" for name in FIELDS),
    ]


def certificates(text: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text.encode())


# --- Ceremonies -----------------------------------------------------------------------------------


def test_a_first_root_signs_an_issuing_ca_for_each_cluster(
    site: Site, ceremonies: Ceremonies
) -> None:
    state = ceremonies.hold(Step.FOUND, ceremonies.next_root)
    root = load_certificate(state.published[0].certificate)
    for cluster in MESH.clusters:
        found = issuing_ca(site.kms, cluster.name)
        assert found.keys() == set(FIELDS)
        check_chain(load_certificate(found[CERTIFICATE]), root)
        assert found[BUNDLE] == state.published[0].certificate
    assert "PRIVATE" not in ceremonies.path.read_text()
    with pytest.raises(LabError, match="there is a root already"):
        ceremonies.hold(Step.FOUND, ceremonies.next_root)


def test_from_one_root_to_the_next_and_on(site: Site, ceremonies: Ceremonies) -> None:
    ceremonies.hold(Step.FOUND, "root-1")
    for old, new in (("root-1", "root-2"), ("root-2", "root-3")):
        assert ceremonies.next_root == new
        before = issuing_ca(site.kms, CLUSTER)
        both = ceremonies.hold(Step.ANNOUNCE, new)
        announced = issuing_ca(site.kms, CLUSTER)
        assert announced[CERTIFICATE] == before[CERTIFICATE]
        assert roots_in(announced[BUNDLE].encode()) == {one.fingerprint for one in both.published}
        state = ceremonies.hold(Step.ACTIVATE, new)
        assert state.active
        issued = load_certificate(issuing_ca(site.kms, CLUSTER)[CERTIFICATE])
        check_chain(issued, load_certificate(state.active.certificate))
        ceremonies.hold(Step.RENEW, new)
        ceremonies.hold(Step.RETIRE, old)
        assert len(certificates(issuing_ca(site.kms, CLUSTER)[BUNDLE])) == 1
        with ceremony_store(site.kms) as store, pytest.raises(MissingError):
            store.read(f"root/{old}")


def test_the_ceremonys_token_is_for_the_cas_alone_and_ends_with_it(
    site: Site, ceremonies: Ceremonies, tmp_path: Path
) -> None:
    ceremonies.hold(Step.FOUND, "root-1")
    with ceremony_store(site.kms) as store:
        assert store.read("root/root-1").keys() == {CERTIFICATE, KEY}
        token = tmp_path / "token"
        token.write_text(store._client.token)  # type: ignore[attr-defined]
        with pytest.raises(ForbiddenError):
            site.store(GATEWAYS, token, auth="token").read(CLUSTER)
    with pytest.raises(ForbiddenError):
        site.store(AUTHORITIES, token, auth="token").read("root/root-1")


def test_a_kms_that_is_sealed_or_empty_is_said(site: Site, ceremonies: Ceremonies) -> None:
    with pytest.raises(LabError, match="KMS of the lab"):
        issuing_ca(site.kms, CLUSTER)
    seal(site.kms)
    try:
        with pytest.raises(LabError, match=r"KMS of the lab.*sealed"):
            ceremonies.hold(Step.FOUND, "root-1")
        assert not ceremonies.path.exists()
    finally:
        open_up(site.kms)
    ceremonies.hold(Step.FOUND, "root-1")


def test_who_asks_for_ever_comes_in_once_and_leaves_nothing_open(
    site: Site, ceremonies: Ceremonies, memory: Path
) -> None:
    ceremonies.hold(Step.FOUND, "root-1")
    opened: list[int] = []
    leases = partial(_leases, site)
    before = leases()

    def pause(_: float) -> None:
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
        if len(opened) == 6:
            raise EndedError

    with pytest.raises(EndedError):
        keep(parser().parse_args([*arguments(site, memory), "--every=1"]), pause)
    assert {path.name for path in memory.iterdir()} == set(FIELDS)
    # The first time has opened what is kept.
    assert len(set(opened[1:])) == 1
    assert leases() == before + 1


def _leases(site: Site) -> int:
    """Tokens that Vault has given to the cluster's pods."""
    way = f"auth/jwt-{CLUSTER}/login"
    try:
        return len(site.vault.sys.list_leases(way)["data"]["keys"])
    except InvalidPath:
        return 0


# --- SPIRE ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A SPIRE server with a volume that is filled from KMS."""

    folder: Path
    upstream: Path
    program: str

    @property
    def socket(self) -> str:
        return str(self.folder / "api.sock")

    def tell(self, *words: str) -> Any:  # noqa: ANN401 - any JSON
        return told(command(self.program, self.socket, *words))

    def renew(self) -> None:
        renew_by(self.tell)

    def bundle(self) -> frozenset[str]:
        """The roots that agents are given, by fingerprint."""
        words = [self.program, "bundle", "show", f"-socketPath={self.socket}"]
        return roots_in(subprocess.run(words, capture_output=True, check=True).stdout)

    def chain(self) -> list[x509.Certificate]:
        """An SVID, with all above it that is no root."""
        with tempfile.TemporaryDirectory(dir=self.folder) as into:
            spiffe = "-spiffeID=spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"
            words = [self.program, "x509", "mint", spiffe, f"-socketPath={self.socket}"]
            subprocess.run([*words, f"-write={into}"], capture_output=True, check=True)
            return certificates((Path(into) / "svid.pem").read_text())


@pytest.fixture
def database() -> Iterator[str]:
    """How SPIRE connects to a real PostgreSQL."""
    with serving() as uri:
        yield make_conninfo(uri, sslmode="disable")


@pytest.fixture
def server(site: Site, ceremonies: Ceremonies, database: str) -> Iterator[Server]:
    if not obtainable("spire-server"):
        pytest.skip("needs Go, or spire-server on the PATH")
    ceremonies.hold(Step.FOUND, "root-1")
    with ExitStack() as stack:
        folder, upstream = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))) for _ in range(2)
        )
        made = Server(folder, upstream, str(tool("spire-server")))
        given = arguments(site, upstream)
        assert fetch(given) == 0
        again = [sys.executable, "-m", "gateway.fetch", *given, "--every=0.5"]
        stack.enter_context(_running(again))
        (folder / "server.conf").write_text(_configuration(made, database))
        words = [made.program, "run", "-config", str(folder / "server.conf")]
        stack.enter_context(_running(words))
        _until(lambda: Path(made.socket).exists() and made.bundle())
        yield made


@contextmanager
def _running(words: list[str]) -> Iterator[None]:
    """A program for as long as the block lasts."""
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _configuration(server: Server, database: str) -> str:
    """As the compiled one, but for agents that nobody attests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return f"""
server {{
  trust_domain = "hanzo.ai"
  bind_address = "127.0.0.1"
  bind_port = {port}
  socket_path = "{server.socket}"
  data_dir = "{server.folder}"
  ca_key_type = "ec-p256"
  ca_ttl = "12m"
  default_x509_svid_ttl = "2m"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{ database_type = "postgres", connection_string = "{database}" }}
  }}
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  UpstreamAuthority "disk" {{
    plugin_data {{
      cert_file_path = "{server.upstream}/{CERTIFICATE}"
      key_file_path = "{server.upstream}/{KEY}"
      bundle_file_path = "{server.upstream}/{BUNDLE}"
    }}
  }}
}}
"""


def _until(is_so: Callable[[], object]) -> None:
    eventually(lambda: _quietly(is_so), PATIENCE, pause=0.2)


def _quietly(is_so: Callable[[], object]) -> bool:
    try:
        return bool(is_so())
    except (subprocess.CalledProcessError, OSError, ValueError):
        return False


def test_a_server_follows_ceremonies_without_a_restart(
    ceremonies: Ceremonies, server: Server
) -> None:
    def fetched(state: State) -> bool:
        """Whether the newest issuing CA, with all roots, is in the server's volume."""
        mine = next(item for item in state.issuing if item.cluster == CLUSTER)
        has = load_certificate((server.upstream / CERTIFICATE).read_text())
        roots = roots_in((server.upstream / BUNDLE).read_bytes())
        return has == load_certificate(mine.certificate) and roots == _published(state)

    def is_below(state: State) -> bool:
        """Whether what the server signs leads to the root that signs, by the newest issuing CA."""
        mine = next(item for item in state.issuing if item.cluster == CLUSTER)
        leaf, own, issuing = server.chain()
        leaf.verify_directly_issued_by(own)
        own.verify_directly_issued_by(issuing)
        if issuing != load_certificate(mine.certificate):
            return False
        assert state.active
        check_chain(issuing, load_certificate(state.active.certificate))
        return True

    first = ceremonies.state
    assert is_below(first)
    announced = ceremonies.hold(Step.ANNOUNCE, "root-2")
    _until(lambda: fetched(announced))
    assert server.bundle() == _published(first)
    server.renew()
    assert server.bundle() == _published(announced)
    assert is_below(announced)
    for step in (Step.ACTIVATE, Step.RENEW):
        issued = ceremonies.hold(step, "root-2")
        _until(partial(fetched, issued))
        assert not is_below(issued)
        server.renew()
        assert is_below(issued)
    retired = ceremonies.hold(Step.RETIRE, "root-1")
    _until(lambda: fetched(retired))
    server.renew()
    assert is_below(retired)
    # It leaves SPIRE's own bundle when it ends, and not before.
    assert server.bundle() == _published(announced)


def _published(state: State) -> frozenset[str]:
    return frozenset(root.fingerprint for root in state.published)
