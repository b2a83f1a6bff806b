"""A tunnel that runs does not mind what happens to its KMS, which is a real Vault here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.tunnel.errors import TunnelError
from lab.check.model import BrokenError
from lab.cluster.forward import forward
from lab.cluster.network import entered
from lab.kms import trouble
from lab.kms.server import Kms, client, open_up, prepare, program
from lab.kms.setup import GATEWAYS, Cluster, set_up
from lab.scan.kms import _forms_in
from lab.scan.programs import started_by
from lab.scan.scan import scan
from lab.tools.build import obtainable
from lab.tunnel.sealed import Failure, _runs
from lab.tunnel.site import Tunnels
from lab.tunnel.traffic import End
from tests.lab.gateway.conftest import GATEWAY, signed
from tests.lab.tunnel.site import Gateway, Site, eventually, run, site

# The first test may have to build Vault.
pytestmark = pytest.mark.timeout(1200)

ADDRESS = "192.0.2.30"


@dataclass
class Vault:
    """The server, between the gateways; ``near`` is how the test reaches it."""

    kms: Kms
    near: Kms
    namespace: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        made = program(self.kms)
        command = entered(self.namespace, made.command)
        self.process = subprocess.Popen(
            command, env=dict(made.environment), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        open_up(self.near)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()


@dataclass
class Seen:
    """A gateway as ``lab.tunnel.site.Gateway`` has it."""

    own: Gateway

    @property
    def cluster(self) -> str:
        return self.own.name

    @property
    def end(self) -> End:
        return self.own.end

    def tell(self, command: str) -> Any:  # noqa: ANN401 - any JSON
        try:
            return self.own.command(command)
        except TunnelError as error:
            raise BrokenError(str(error)) from None

    def is_up(self, cluster: str) -> bool:
        return self.own.metrics().get(f'zt_wireguard_peer_up{{cluster="{cluster}"}}') == 1


@dataclass
class Joined:
    """Two gateways whose keys are in Vault."""

    gateways: Site
    vault: Vault

    def pair(self) -> tuple[Seen, Seen]:
        a, b = self.gateways
        return Seen(a), Seen(b)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    if not obtainable("vault"):
        pytest.skip("needs Go, or vault on the PATH")
    folder = tmp_path_factory.mktemp("kms")
    with site(tmp_path_factory.mktemp("tunnel")) as built:
        run("ip", "-n", built.lan, "address", "add", f"{ADDRESS}/24", "dev", "lan")
        vault = _vault(folder, built.lan)
        try:
            _keep_keys_there(built, vault, folder)
            yield Joined(built, vault)
        finally:
            vault.kill()


def _vault(folder: Path, namespace: str) -> Vault:
    kms = Kms(folder / "vault", ADDRESS)
    prepare(kms)
    near = replace(kms, address="127.0.0.1", port=forward(namespace, ADDRESS, kms.port))
    made = Vault(kms, near, namespace)
    made.start()
    return made


def _keep_keys_there(built: Site, vault: Vault, folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    clusters = tuple(Cluster(one.name, public, GATEWAY) for one in built)
    set_up(client(vault.near), clusters)
    token = folder / "token"
    token.write_text(signed(key, f"system:serviceaccount:{':'.join(GATEWAY)}", "kms"))
    for one, cluster in zip(built, clusters, strict=True):
        one.kill()
        one.start(
            *("--address", vault.kms.url, "--project", GATEWAYS, "--auth", cluster.mount),
            *("--token-file", str(token), "--authority", vault.kms.authority.read_text()),
        )
    built.join()
    a, b = built
    eventually(lambda: a.is_up(b) and b.is_up(a))
    eventually(lambda: all(one.status["step"] is None for one in built))


Begin = Callable[[Joined], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (lambda joined: trouble.sealed(joined.vault.near), "it is sealed"),
        (lambda joined: joined.vault.stopped(), "no connection"),
        (lambda joined: trouble.forbidden(joined.vault.near, f"{GATEWAYS}-a"), "role zt-wireguard"),
    ],
)
def test_nothing_is_lost_and_a_rotation_waits_with_a_reason(
    begin: Begin, reason: str, joined: Joined
) -> None:
    failure = Failure("fails", partial(begin, joined), (reason,))
    said = _runs(cast("Tunnels", joined), failure)
    assert said.startswith("0 of ")
    assert reason in said


def test_what_a_gateway_starts_to_take_a_new_key_has_no_key(joined: Joined) -> None:
    a, b = joined.gateways
    assert a.process
    with started_by(a.process.pid) as programs:
        a.command("rotate")
        a.command("call-off")
        eventually(lambda: all(one.status["step"] is None for one in (a, b)))
    names = {name.split()[0] for name in programs}
    # The first lives for a few milliseconds.
    assert {"wg", "wireguard-go"} <= names
    known = {*_forms_in(joined.vault.near)}
    assert scan(programs.items(), known) == []
    assert len(known) > 3
