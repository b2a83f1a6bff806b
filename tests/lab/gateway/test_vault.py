"""What a gateway may do with a real Vault, and what it is told when something is wrong."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.fetch import main as fetch
from gateway.keys import (
    ForbiddenError,
    MalformedError,
    MissingError,
    SealedError,
    UnreachableError,
    UntrustedError,
)
from lab.cluster.certificates import authority
from lab.kms.server import open_up, seal
from lab.kms.setup import token_for
from lab.kms.trouble import forbidden, lacking
from tests.lab.gateway.conftest import CLUSTER, GATEWAY, Site, signed, site_in

# The first test may have to build Vault.
pytestmark = pytest.mark.timeout(1200)

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


def test_versions_are_written_read_and_disabled(site: Site, path: str) -> None:
    store = site.store()
    assert store.versions(path) == ()
    assert [store.write(path, {"book": text}) for text in ("one", "two")] == [1, 2]
    assert store.read(path) == {"book": "two"}
    assert store.read(path, 1) == {"book": "one"}
    store.disable(path, 1)
    assert [(item.number, item.enabled) for item in store.versions(path)] == [
        (1, False),
        (2, True),
    ]
    with pytest.raises(MissingError):
        store.read(path, 1)
    assert abs(time.time() - store.versions(path)[1].created.timestamp()) < 60


def test_facts_are_read_by_who_may_not_read_the_key(site: Site, path: str) -> None:
    store = site.store()
    store.write(path, {"book": KEY})
    store.describe(path, {"publicKey": "abc", "created": "1.5"})
    token = site.folder / "status"
    token.write_text(token_for(site.vault, "zt-status"))
    looking = site.store(token=token, auth="token")
    assert looking.description(path) == {"publicKey": "abc", "created": "1.5"}
    assert [item.number for item in looking.versions(path)] == [1]
    with pytest.raises(ForbiddenError):
        looking.read(path)
    # Writing a version leaves what was noted.
    store.write(path, {"book": KEY})
    assert looking.description(path)["publicKey"] == "abc"


def test_a_gateway_has_its_own_key_and_no_other(site: Site) -> None:
    store = site.store()
    for other in ("lux-k8s", f"{CLUSTER}/deeper"):
        with pytest.raises(ForbiddenError, match="permission denied"):
            store.read(other)
        with pytest.raises(ForbiddenError):
            store.write(other, {"book": KEY})
    # Nor does it come in as another, or read elsewhere with what it got.
    with pytest.raises(ForbiddenError):
        site.store("zt-root-ca").read(f"spire/{CLUSTER}")
    store.project = "zt-root-ca"  # type: ignore[attr-defined]
    with pytest.raises(ForbiddenError):
        store.read(f"spire/{CLUSTER}")


def test_spire_reads_its_authority_and_writes_nothing(site: Site) -> None:
    site.vault.secrets.kv.v2.create_or_update_secret(
        f"spire/{CLUSTER}", {"tls.key": KEY}, mount_point="zt-root-ca"
    )
    store = site.store("zt-root-ca", token=site.token("spire-system:spire-server"))
    assert store.read(f"spire/{CLUSTER}") == {"tls.key": KEY}
    for call in (
        lambda: store.write(f"spire/{CLUSTER}", {"tls.key": "mine"}),
        lambda: store.read("root/2026"),
        lambda: store.disable(f"spire/{CLUSTER}", 1),
    ):
        with pytest.raises(ForbiddenError):
            call()


@pytest.mark.parametrize(
    ("account", "audience"),
    [("hanzo:iam", "kms"), ("other:wg-gateway", "kms"), (":".join(GATEWAY), "api")],
)
def test_who_is_not_the_gateway_does_not_come_in(site: Site, account: str, audience: str) -> None:
    with pytest.raises(ForbiddenError, match="role zt-wireguard"):
        site.store(token=site.token(account, audience)).read(CLUSTER)


def test_rights_that_were_taken_away_are_told_with_the_role(site: Site, path: str) -> None:
    store = site.store()
    store.write(path, {"book": "one"})
    with forbidden(site.kms, f"zt-wireguard-{CLUSTER}"):
        # Also who is inside already may no more.
        for asking in (store, site.store()):
            with pytest.raises(ForbiddenError, match=r": permission denied \(role zt-wireguard\)$"):
                asking.read(path)
    assert store.read(path) == {"book": "one"}


def test_a_field_that_was_taken_away_comes_back(site: Site, path: str) -> None:
    store = site.store()
    store.write(path, {"book": KEY, "publicKey": "p"})
    with lacking(site.kms, "zt-wireguard", path, "book"):
        assert store.read(path) == {"publicKey": "p"}
    assert store.read(path) == {"book": KEY, "publicKey": "p"}


def test_a_token_that_another_cluster_signed_does_not_come_in(site: Site) -> None:
    forged = site.folder / "forged"
    subject = f"system:serviceaccount:{':'.join(GATEWAY)}"
    forged.write_text(signed(ec.generate_private_key(ec.SECP256R1()), subject, "kms"))
    with pytest.raises(ForbiddenError):
        site.store(token=forged).read(CLUSTER)


def test_a_token_that_is_not_there_is_said(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ForbiddenError, match="No such file"):
        site.store(token=tmp_path / "none").read(CLUSTER)


def test_a_token_that_was_revoked_is_replaced(site: Site, path: str) -> None:
    store = site.store()
    store.write(path, {"book": "one"})
    site.vault.sys.revoke_prefix(f"auth/jwt-{CLUSTER}")
    assert store.read(path) == {"book": "one"}


def test_a_token_is_renewed_before_it_ends(site: Site, path: str) -> None:
    store = site.store()
    store.write(path, {"book": "one"})
    # Two thirds of its life are over: renewed, it is the same one.
    token, store._renews = store._client.token, 0.0  # type: ignore[attr-defined]
    assert store.read(path) == {"book": "one"}
    assert store._client.token == token  # type: ignore[attr-defined]
    assert store._renews > time.monotonic()  # type: ignore[attr-defined]
    # All of it is over: another one.
    store._renews = store._ends = 0.0  # type: ignore[attr-defined]
    assert store.read(path) == {"book": "one"}
    assert store._client.token != token  # type: ignore[attr-defined]


def test_another_ca_is_not_trusted(site: Site) -> None:
    other = authority("other").certificate_pem.decode()
    with pytest.raises(UntrustedError, match="no trusted CA"):
        site.store(authority=other).read(CLUSTER)
    with pytest.raises(UntrustedError, match="no trusted CA"):
        site.store(authority="").read(CLUSTER)


def test_a_secret_that_is_no_texts_is_malformed_and_stays_secret(site: Site, path: str) -> None:
    site.vault.secrets.kv.v2.create_or_update_secret(
        path, {"book": {"key": KEY}}, mount_point="zt-wireguard"
    )
    with pytest.raises(MalformedError, match=CLUSTER) as raised:
        site.store().read(path)
    assert KEY not in str(raised.value)


def test_sealed_is_said_and_waited_for(
    site: Site, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = site.store(patience=30.0)
    store.write(path, {"book": "one"})
    seal(site.kms)
    with pytest.raises(SealedError, match="it is sealed"):
        site.store(patience=1.0).read(path)
    capfd.readouterr()
    later = threading.Timer(2.0, open_up, [site.kms])
    later.start()
    assert store.read(path) == {"book": "one"}
    later.join()
    said = [line for line in capfd.readouterr().err.splitlines() if "trying again" in line]
    # Each reason once, not at every try: it may still be waking when it is unsealed.
    assert len(said) == len(set(said))
    assert "it is sealed" in said[0]


def test_out_of_reach_is_said_and_waited_for(site: Site, tmp_path: Path) -> None:
    other = site_in(tmp_path, site.tokens)
    with pytest.raises(UnreachableError, match="no connection"):
        other.store().read(CLUSTER)
    with other.running():
        # It runs, and nobody has opened it yet.
        with pytest.raises((SealedError, UnreachableError)):
            other.store(patience=0.1).read(CLUSTER)
        open_up(other.kms)
        with pytest.raises(ForbiddenError):
            other.store().read(CLUSTER)


def test_a_restart_is_waited_for(site: Site, tmp_path: Path) -> None:
    other = site_in(tmp_path, site.tokens)
    with other.running():
        other.begin()
        store = other.store(patience=30.0)
        store.write(CLUSTER, {"book": "one"})
    answered: list[object] = []
    asking = threading.Thread(target=lambda: answered.append(store.read(CLUSTER)))
    asking.start()
    time.sleep(0.5)
    with other.running():
        open_up(other.kms)
        asking.join(30)
    assert answered == [{"book": "one"}]


def test_the_init_step_brings_the_key_into_memory(
    site: Site, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        memory = Path(folder)
        arguments = [
            f"--address={site.kms.url}",
            "--project=zt-wireguard",
            f"--path={path}",
            f"--token-file={site.token()}",
            f"--auth=jwt-{CLUSTER}",
            f"--authority={site.kms.authority.read_text()}",
            f"--into={memory}",
        ]
        assert fetch([*arguments, "--optional"]) == 0
        assert list(memory.iterdir()) == []
        site.store().write(path, {"book": KEY})
        assert fetch([*arguments, "--field=publicKey"]) == 1
        assert "has no publicKey" in capfd.readouterr().err
        assert fetch([*arguments, "--optional"]) == 0
        assert (memory / "book").read_text() == KEY
        assert KEY not in "".join(capfd.readouterr())
